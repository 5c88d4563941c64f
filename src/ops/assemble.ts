import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { Latch } from '../core/latch.ts'
import { customRoute, type CustomSign, type OwnRoute } from './custom.ts'
import { gcLog } from './gc/log.ts'
import { gcPart } from './gc/part.ts'
import { openArtifacts } from './heap/artifacts.ts'
import { createJobs, type Ledger } from './heap/jobs.ts'
import { heapPart } from './heap/routes.ts'
import type { Heartbeat } from './heartbeat.ts'
import type { Authorize } from './http/doorkeeper.ts'
import type { Audit, AuditEntry } from './http/audit.ts'
import { createAudit } from './http/audit-trail.ts'
import { createEndpoint, type Endpoint, type Handover } from './http/endpoint.ts'
import { openApiRoute } from './http/openapi.ts'
import type { Route } from './http/route.ts'
import { connector } from './inspect/inspector.ts'
import { inspect } from './inspect/routes.ts'
import { HeapSampler } from './inspect/sampler.ts'
import type { Link } from './link.ts'
import type { Settings } from './options.ts'
import { pageRoutes } from './page/routes.ts'
import type { Bench, Part } from './part.ts'
import { actor } from './actor.ts'
import { controlRoutes } from './state/control.ts'
import { loggerRoutes } from './state/loggers.ts'
import { metricRoutes } from './state/metrics.ts'
import { probeRoutes } from './state/probes.ts'
import { stateRoutes } from './state/routes.ts'
import { View } from './state/view.ts'
import { watchPart } from './watch/routes.ts'
import type { RulesLedger } from './watch/rules.ts'

/** What the main thread tells an endpoint that is to open. */
export interface Opening {
  custom: CustomSign[]
  /** Of the main thread, bytes. Told, not asked for: a main thread that is still loading the application answers nobody. */
  heapLimit: number
  /** Of the thread before, which crashed: its jobs, its rules. */
  ledger?: Ledger | undefined
  rules?: RulesLedger | undefined
}

/** What it answers. */
export interface Opened {
  /** The endpoint's own routes: nothing else can be there. */
  own: OwnRoute[]
}

/** An endpoint on this thread, for those who hand requests over. */
export interface Assembled {
  handle(req: IncomingMessage, res: ServerResponse, handover: Handover): void
}

/** What is looked at and done without a part of its own. */
const state: Part = bench => {
  const log = gcLog(bench.main)
  const totals = () => {
    const pauses = Object.entries(log.pauses())
    return { count: Object.fromEntries(pauses.map(([kind, { count }]) => [kind, count])), pauseMs: Object.fromEntries(pauses.map(([kind, { sumMs }]) => [kind, sumMs])) }
  }
  const page = bench.settings.page ? pageRoutes() : []
  return {
    routes: [...probeRoutes(bench), ...stateRoutes(bench), ...metricRoutes(bench, totals), ...loggerRoutes(bench), ...controlRoutes(bench), ...page],
  }
}

/** Every part of the endpoint's side. */
function parts(bench: Bench, ledger: RulesLedger | undefined): Part[] {
  const { act, profile, end } = actor(bench)
  const watch = watchPart({
    onMajor: listener => gcLog(bench.main).onMajor(listener),
    act,
    profile,
    limit: bench.heapLimit,
    profileSeconds: bench.settings.heavy.profileSeconds,
    rules: bench.settings.rules,
    ledger,
  })
  // The inspector's part last: it waits until what was disconnected before it has settled.
  return [state, gcPart, watch, heapPart, () => ({ routes: [], close: end }), inspect]
}

type Note = Parameters<Audit['write']>[0]

interface Open {
  endpoint: Endpoint
  /** Routes of the application, and what is to be in the audit trail. */
  add(sign: CustomSign): void
  remove(id: number): void
  note(fields: Note): void
  own: OwnRoute[]
  close(): Promise<void>
}

async function open(main: Link, settings: Settings, heartbeat: Heartbeat, worker: boolean, { custom, heapLimit, ledger, rules }: Opening): Promise<Open> {
  const log = (message: string) => main.tell('log', message)
  const audit = createAudit({ file: settings.audit, isOurs: settings.ownAudit, onEntry: (entry: AuditEntry) => main.tell('audit', entry), log })
  const artifacts = await openArtifacts(settings.files)
  const note = (fields: Note) => void audit.write(fields).catch(() => {})
  const jobs = createJobs({
    ...settings.heavy,
    ledger,
    onLedger: kept => main.tell('jobs', kept),
    onChange: ({ id, kind, by, state, problem }, from) => note({ event: 'job', who: by, from, job: id, kind, state, ...(typeof problem?.code === 'string' && { code: problem.code }) }),
  })
  const connect = connector(worker)
  const bench: Bench = { main, settings, worker, connect, sampler: new HeapSampler(connect), view: new View(main, heartbeat), audit, jobs, artifacts, heapLimit }
  const made = parts(bench, rules).map(part => part(bench))
  const authorize: Authorize = request => main.call('authorize', request, { timeoutMs: 1_000 })
  const routes: Route[] = made.flatMap(({ routes }) => routes)
  const endpoint = createEndpoint({ settings, routes, audit, authorize, log })
  const added = new Map<number, () => void>()
  const add = (sign: CustomSign) => {
    try {
      added.set(sign.id, endpoint.add([customRoute(bench, sign)]))
    } catch (error) {
      log(`${sign.method} ${sign.path} cannot be registered: ${(error as Error).message}`)
    }
  }
  for (const sign of custom) add(sign)
  return {
    endpoint,
    add,
    remove: id => added.get(id)?.(),
    note,
    own: [...routes, openApiRoute(() => [])].map(({ method, path, params }) => ({ method, path, ...(params && { params }) })),
    async close() {
      await jobs.close()
      await endpoint.close()
      await Promise.allSettled(made.map(async ({ close }) => close?.()))
      await artifacts.close()
      await audit.close()
    },
  }
}

/** The endpoint's side of the link: opens when it is told to, and closes. */
export function assemble(main: Link, settings: Settings, heartbeat: Heartbeat, worker: boolean): Assembled {
  let opened: Open | undefined
  const standing = new Latch<Open>()
  // From the first moment on: what comes while it opens is not to be missed.
  main.on('route', (sign: CustomSign) => void standing.opened.then(({ add }) => add(sign)))
  main.on('unroute', (id: number) => void standing.opened.then(({ remove }) => remove(id)))
  main.on('note', (fields: Note) => void standing.opened.then(({ note }) => note(fields)))
  main.offer({
    async open(opening: Opening): Promise<Opened> {
      opened = await open(main, settings, heartbeat, worker, opening)
      const { endpoint, own } = opened
      if (settings.listen !== false) main.tell('address', await endpoint.listen())
      standing.open(opened)
      return { own }
    },
    reload: () => opened?.endpoint.reload(),
    // Whatever hangs is not waited for.
    close: (ms: number) => Promise.race([opened?.close(), sleep(ms)]).then(() => undefined),
  })
  return {
    handle(req, res, handover) {
      if (opened) void opened.endpoint.handle(req, res, handover)
      else res.writeHead(503, { Connection: 'close' }).end()
    },
  }
}
