/**
 * npm run bench:proxy               rolling restarts behind nginx and HAProxy, with the examples' own files (twenty minutes)
 *   --kind lone | supervised        only two lone processes, or only lameduck's supervisor; each has a file of its own in bench/results
 *   --restarts N                    default 10
 *
 * What follows is shown, and not kept in bench/results:
 * npm run bench:proxy -- nginx      only this proxy
 *   --row NAME (may be repeated)    only these rows
 *   --quick                         few restarts: does it run at all
 */
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { buildCore } from './_build.ts'
import { exampleApp } from './_proxy-examples.ts'
import { startInstances, type InstancesOptions, type Program } from './_proxy-instances.ts'
import { rollingRestart, type Rolling } from './_proxy-rolling.ts'
import { findProxy, startProxy, type ProxyName } from './_proxy-start.ts'
import { supervisedProgram } from './_proxy-supervised.ts'
import { supervised, variants, type Variant } from './_proxy-variants.ts'
import { median } from './_stats.ts'
import { fixed, progress, publish } from './_table.ts'

interface Row extends Rolling {
  proxy: ProxyName
  name: string
  /** In what it differs from the example. */
  variant?: string
}

/** The server's own end of a drain may never come: then it is killed. */
const killMs = 8_000

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    restarts: { type: 'string' },
    row: { type: 'string', multiple: true, default: [] },
    kind: { type: 'string' },
  },
})
const proxies = (['nginx', 'haproxy'] as const).filter((name) => positionals.length === 0 || positionals.includes(name))
const restarts = Number(values.restarts ?? (values.quick ? 2 : 10))
const peers = ['process.exit', 'server.close()', 'stoppable', 'terminus', 'terminus, 2 s delay', 'http-terminator', 'http-graceful-shutdown']

const partial = values.quick || values.row.length > 0 || positionals.length > 0
const kinds = { lone, supervised: underSupervisor }
if (values.kind !== undefined && !Object.hasOwn(kinds, values.kind)) throw new Error(`--kind ${values.kind}; there is: ${Object.keys(kinds).join(', ')}`)

for (const proxy of proxies) if (!findProxy(proxy)) throw new Error(`${proxy} is not installed`)
for (const [kind, run] of Object.entries(kinds)) if (values.kind === undefined || values.kind === kind) await run()

/** Two processes of each peer, and of the examples. */
async function lone(): Promise<void> {
  using _core = await buildCore()
  const core = process.env['BENCH_CORE'] ?? ''
  const rows: Row[] = []
  const measured = async (...of: Parameters<typeof measure>) => void rows.push(...await measure(...of))
  for (const proxy of proxies) {
    for (const name of peers) await measured(proxy, name, peerProgram(name))
    for (const [name, variant] of Object.entries(variants[proxy])) {
      using app = exampleApp(`${proxy}/app.mjs`, core, variant.app)
      await measured(proxy, name, app, variant)
    }
  }
  report('proxy', `Rolling restart × ${restarts} of two instances behind a proxy`, rows, variants)
}

/** One supervisor with two workers, reloaded; two of them, stopped and started. */
async function underSupervisor(): Promise<void> {
  const rows: Row[] = []
  for (const proxy of proxies) {
    for (const [name, variant] of Object.entries(supervised[proxy])) {
      if (!wanted(name)) continue
      using program = await supervisedProgram(proxy, variant)
      rows.push(...await measure(proxy, name, program, variant, { count: variant.whole ? 2 : 1, killMs: 60_000 }))
    }
  }
  report('proxy-supervised', `Reload × ${restarts} of a supervisor with two workers behind a proxy`, rows, supervised)
}

function wanted(name: string): boolean {
  return values.row.length === 0 || values.row.includes(name)
}

/** @returns No row, where it is not wanted. */
async function measure(proxy: ProxyName, name: string, program: Program, variant: Variant = {}, options: InstancesOptions = {}): Promise<Row[]> {
  if (!wanted(name)) return []
  progress(`${proxy}: ${name}`)
  const upstream = await startInstances(program, { killMs, sockets: variant.sockets, ...options })
  try {
    const started = await startProxy(proxy, { upstreams: upstream.addresses, edit: variant.configuration })
    try {
      const rolling = await rollingRestart({ port: started.ports[0] ?? NaN, upstream, restarts, paceMs: variant.paceMs })
      return [{ proxy, name, ...variant.what !== undefined && { variant: variant.what }, ...rolling }]
    } finally {
      await started.close()
    }
  } finally {
    await upstream.close()
  }
}

function peerProgram(name: string): Program {
  const file = fileURLToPath(new URL('_proxy-server.ts', import.meta.url))
  return { args: (port, journal) => ['--import', 'tsx', file, name, port, journal] }
}

function report(bench: string, title: string, rows: Row[], all: Record<ProxyName, Record<string, Variant>>): void {
  progress('')
  if (rows.length === 0) return
  const perRestart = (count: number, { restarts }: Row) => fixed(count / restarts.length, 1)
  publish({
    bench,
    partial,
    title: `${title}, 20 keep-alive clients each for GET and POST`,
    settings: { restarts, clients: 40, thinkMs: 20, handlerMs: 5, paceMs: 1_000, killMs, balance: 'round robin' },
    columns: [
      { title: '', cell: ({ proxy, name }) => `${proxy}: ${name}` },
      { title: 'POSTs failed, per restart', cell: (row) => perRestart(row.post.failed, row) },
      { title: 'of them executed', cell: (row) => perRestart(row.post.executed, row) },
      { title: 'POSTs executed twice', cell: ({ post }) => post.twice },
      { title: 'GETs failed, per restart', cell: (row) => perRestart(row.get.failed, row) },
      { title: 'of POSTs', cell: ({ post }) => post.sent },
      { title: 'stop, median ms', cell: ({ restarts }) => fixed(median(restarts.map(({ drainMs }) => drainMs))) },
      { title: 'killed', cell: ({ restarts }) => restarts.filter(({ killed }) => killed).length },
    ],
    rows,
    notes: [
      'failed: answered with an error by the proxy, or not at all. killed: did not end by itself in time.',
      ...Object.values(all).flatMap((of) => Object.entries(of)).flatMap(([name, { what }]) => what === undefined ? [] : [`${name}: ${what}.`]),
    ],
  })
}
