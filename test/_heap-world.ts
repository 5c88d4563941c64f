/** The heap part with both ends in one thread, behind the smallest door that can be: routes, parameters, problems. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import fs from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { MessageChannel } from 'node:worker_threads'
import { wrap, type Duck } from '../src/core/index.ts'
import { openArtifacts, type Artifacts } from '../src/ops/heap/artifacts.ts'
import { createJobs, type JobReport, type Jobs } from '../src/ops/heap/jobs.ts'
import { heapOutpost, type HeapOutpostOptions } from '../src/ops/heap/outpost.ts'
import { heapPart } from '../src/ops/heap/routes.ts'
import { Problem } from '../src/ops/http/problem.ts'
import type { Principal, Route, Scope } from '../src/ops/http/route.ts'
import { HeapSampler } from '../src/ops/inspect/sampler.ts'
import { Link } from '../src/ops/link.ts'
import { DEFAULTS, type HeapOptions, type Settings } from '../src/ops/options.ts'
import type { Bench } from '../src/ops/part.ts'
import { QUICK } from './_world.ts'

/** A heap snapshot of two nodes, small enough to be seen through. */
export const TINY = `{"snapshot":{"meta":${JSON.stringify({
  node_fields: ['type', 'name', 'id', 'self_size', 'edge_count', 'detachedness'],
  node_types: [['hidden', 'array', 'string', 'object', 'code', 'closure', 'regexp', 'number', 'native', 'synthetic'], 'string', 'number', 'number', 'number', 'number'],
  edge_fields: ['type', 'name_or_index', 'to_node'],
  edge_types: [['context', 'element', 'property', 'internal', 'hidden', 'shortcut', 'weak'], 'string_or_number', 'node'],
})},"node_count":2,"edge_count":1},
"nodes":[9,1,1,0,1,0
,2,2,3,16,0,0
],
"edges":[3,3,6
],
"strings":["<dummy>",
"(GC roots)",
"hunter two",
"held"]}`

/** In place of V8's. */
export const takeTiny: NonNullable<HeapOutpostOptions['take']> = async file => {
  await fs.writeFile(file, TINY, { mode: 0o600, flag: 'wx' })
  return { path: file, bytes: TINY.length, pauseMs: 1, usedHeap: 1, rssBefore: 1, rssAfter: 1 }
}

export interface Answer {
  status: number
  headers: Headers
  body: string
  json: Record<string, unknown>
}

export interface HeapWorld {
  url: string
  /** Of the application. */
  appUrl: string
  duck: Duck
  bench: Bench
  jobs: Jobs
  artifacts: Artifacts
  dir: string
  /** What main told about pauses. */
  pauses: unknown[]
  /** The endpoint's end, as when its thread crashes. */
  crash(): void
  ask(method: string, path: string, scopes?: Scope[], init?: RequestInit): Promise<Answer>
  /** Starts a snapshot and waits for its end. */
  snapshot(query: string, scopes?: Scope[]): Promise<JobReport>
  close(): Promise<void>
}

function convert(value: string | null, { type, default: fallback }: NonNullable<Route['params']>[string]): unknown {
  if (value === null) return fallback
  return type === 'boolean' ? value === 'true' : value
}

async function answer(routes: Route[], req: IncomingMessage, res: ServerResponse): Promise<void> {
  const url = new URL(req.url ?? '/', 'http://door')
  const scopes = new Set(String(req.headers['x-scopes'] ?? 'read,diag,control').split(',') as Scope[])
  const who: Principal = { name: 'ann', scopes, from: 'test' }
  const gone = new AbortController()
  res.once('close', () => gone.abort())
  try {
    for (const route of routes) {
      const match = new RegExp(`^${route.path.replace(/\{(\w+)\}/g, '(?<$1>[^/]+)')}$`).exec(url.pathname)
      if (!match || route.method !== (req.method === 'HEAD' ? 'GET' : req.method)) continue
      const params = Object.fromEntries(Object.entries(route.params ?? {}).map(([name, param]) =>
        [name, param.in === 'path' ? match.groups?.[name] : convert(url.searchParams.get(name), param)]))
      const reply = await route.handler({ params, who, signal: gone.signal, req, res, note: () => {} })
      if (!reply) return
      res.writeHead(reply.status ?? 200, reply.headers).end(reply.json === undefined ? undefined : JSON.stringify(reply.json))
      return
    }
    throw new Problem(404, 'ERR_TEST_NO_ROUTE', 'no route')
  } catch (error) {
    const problem = error instanceof Problem ? error : new Problem(500, 'ERR_TEST_BUG', String((error as Error).stack))
    res.writeHead(problem.status).end(JSON.stringify(problem))
  }
}

async function listening(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** What its outpost is made with. */
export type HeapWorldOptions = HeapOutpostOptions & { heap?: HeapOptions }

export async function heapWorld(
  { heap = {}, ...outpost }: HeapWorldOptions = {},
  app: (req: IncomingMessage, res: ServerResponse) => void = (_req, res) => res.end('ok'),
  heavy = { cooldownMs: 0, perDay: 1_000 },
): Promise<HeapWorld> {
  const dir = await fs.mkdtemp(path.join(os.tmpdir(), 'lameduck-heap-'))
  const artifacts = await openArtifacts({ ...DEFAULTS.files, freeBytes: 0, dir })
  const jobs = createJobs(heavy)
  const { port1, port2 } = new MessageChannel()
  const [main, endpoint] = [new Link(port1), new Link(port2)]
  const server = createServer(app)
  const duck = wrap(server, { ...QUICK, health: {} })
  const appUrl = await listening(server)
  const settings = { heap: { ...DEFAULTS.heap, lameduckMs: 60, inFlightMs: 500, downloadMs: 0, ...heap } } as Settings
  const connect = () => assertNever()
  const bench = { main: endpoint, settings, worker: false, connect, sampler: new HeapSampler(connect), audit: {} as Bench['audit'], jobs, artifacts, view: {} as Bench['view'], heapLimit: 2 ** 32 }
  const pauses: unknown[] = []
  endpoint.on('pause', pause => pauses.push(pause))
  const end = heapOutpost(outpost)({ duck, link: main, settings })
  const { routes, close } = heapPart(bench)
  const door = createServer((req, res) => void answer(routes, req, res))
  const url = await listening(door)

  const ask = async (method: string, path: string, scopes: Scope[] = ['read', 'diag', 'control'], init: RequestInit = {}): Promise<Answer> => {
    const response = await fetch(`${url}${path}`, { method, ...init, headers: { 'x-scopes': scopes.join(','), ...init.headers as Record<string, string> } })
    const body = await response.text()
    let json = {}
    try {
      json = JSON.parse(body) as Record<string, unknown>
    } catch { /* No JSON. */ }
    return { status: response.status, headers: response.headers, body, json }
  }
  return {
    url, appUrl, duck, bench, jobs, artifacts, dir, pauses, ask,
    crash: () => endpoint.close(),
    async snapshot(query, scopes) {
      const { status, json, body } = await ask('POST', `/heap/snapshots?${query}`, scopes)
      if (status !== 202) throw new Error(`${status} ${body}`)
      return jobs.ended(json.id as string)
    },
    async close() {
      await close?.()
      end()
      await jobs.close()
      await artifacts.close()
      main.close()
      endpoint.close()
      door.close()
      door.closeAllConnections()
      await duck.abort('the test is over')
      await fs.rm(dir, { recursive: true, force: true })
    },
  }
}

/** Runs with a world whose snapshots are a small file, unless told otherwise. */
export async function within(
  run: (world: HeapWorld) => Promise<void>,
  outpost: HeapWorldOptions = {},
  app?: Parameters<typeof heapWorld>[1],
  heavy?: Parameters<typeof heapWorld>[2],
): Promise<void> {
  const world = await heapWorld({ take: takeTiny, ...outpost }, app, heavy)
  try {
    await run(world)
  } finally {
    await world.close()
  }
}

export async function until(what: () => boolean, ms = 15_000): Promise<void> {
  for (const end = Date.now() + ms; !what(); await sleep(5)) if (Date.now() > end) throw new Error(`not ${what.toString()} within ${ms} ms`)
}

/** What a job that went wrong says. */
export const problemOf = (job: JobReport) => [job.state, job.problem?.status, job.problem?.code]

/** An application whose requests are answered when the test says so. */
export function holding() {
  let release = () => {}
  const app = (_req: IncomingMessage, res: ServerResponse) => {
    release = () => res.end('late')
  }
  return { app, release: () => release() }
}

function assertNever(): never {
  throw new Error('no inspector is needed here')
}
