/**
 * npm run bench:proxy               rolling restarts behind nginx and HAProxy, with the examples' own files (a quarter of an hour)
 * npm run bench:proxy -- nginx      only this proxy
 *   --quick                         few restarts: does it run at all
 *   --row NAME (may be repeated)    only these rows
 *   --restarts N                    default 10
 */
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { buildCore } from './_build.ts'
import { exampleApp } from './_proxy-examples.ts'
import { startInstances, type Program } from './_proxy-instances.ts'
import { rollingRestart, type Rolling } from './_proxy-rolling.ts'
import { findProxy, startProxy, type ProxyName } from './_proxy-start.ts'
import { variants, type Variant } from './_proxy-variants.ts'
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
  },
})
const proxies = (['nginx', 'haproxy'] as const).filter((name) => positionals.length === 0 || positionals.includes(name))
const restarts = Number(values.restarts ?? (values.quick ? 2 : 10))
const peers = ['process.exit', 'server.close()', 'stoppable', 'terminus', 'terminus, 2 s delay', 'http-terminator', 'http-graceful-shutdown']

using _core = await buildCore()
const core = process.env['BENCH_CORE'] ?? ''
const rows: Row[] = []
for (const proxy of proxies) {
  if (!findProxy(proxy)) throw new Error(`${proxy} is not installed`)
  for (const name of peers) await measure(proxy, name, peerProgram(name))
  for (const [name, variant] of Object.entries(variants[proxy])) {
    using app = exampleApp(`${proxy}/app.mjs`, core, variant.app)
    await measure(proxy, name, app, variant)
  }
}
progress('')
report()

async function measure(proxy: ProxyName, name: string, program: Program, variant: Variant = {}): Promise<void> {
  if (values.row.length > 0 && !values.row.includes(name)) return
  progress(`${proxy}: ${name}`)
  const upstream = await startInstances(program, { killMs, sockets: variant.sockets })
  try {
    const started = await startProxy(proxy, { upstreams: upstream.addresses, edit: variant.configuration })
    try {
      const rolling = await rollingRestart({ port: started.ports[0] ?? NaN, upstream, restarts, paceMs: variant.paceMs })
      rows.push({ proxy, name, ...variant.what !== undefined && { variant: variant.what }, ...rolling })
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

function report(): void {
  const perRestart = (count: number, { restarts }: Row) => fixed(count / restarts.length, 1)
  publish({
    bench: 'proxy',
    title: `Rolling restart × ${restarts} of two instances behind a proxy, 20 keep-alive clients each for GET and POST. Per restart`,
    settings: { restarts, clients: 40, thinkMs: 20, handlerMs: 5, paceMs: 1_000, killMs, balance: 'round robin' },
    columns: [
      { title: '', cell: ({ proxy, name }) => `${proxy}: ${name}` },
      { title: 'POSTs failed', cell: (row) => perRestart(row.post.failed, row) },
      { title: 'of them executed', cell: (row) => perRestart(row.post.executed, row) },
      { title: 'POSTs executed twice', cell: ({ post }) => post.twice },
      { title: 'GETs failed', cell: (row) => perRestart(row.get.failed, row) },
      { title: 'of POSTs', cell: ({ post }) => post.sent },
      { title: 'stop, median ms', cell: ({ restarts }) => fixed(median(restarts.map(({ drainMs }) => drainMs))) },
      { title: 'killed', cell: ({ restarts }) => restarts.filter(({ killed }) => killed).length },
    ],
    rows,
    notes: [
      'failed: answered with an error by the proxy, or not at all. killed: did not end within 8 s.',
      ...Object.values(variants).flatMap((all) => Object.entries(all)).flatMap(([name, { what }]) => what === undefined ? [] : [`${name}: ${what}.`]),
    ],
  })
}
