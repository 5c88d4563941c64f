/** The server child of the GC bench: hello world that leaves some garbage per request, with one of the hooks on. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { PerformanceObserver } from 'node:perf_hooks'
import { MessageChannel } from 'node:worker_threads'

/** What may be on. `counter` is no hook of ours: it counts GCs, in a run of its own. */
export type Hook = 'bare' | 'perf_hooks' | 'gc-stats' | 'exact' | 'outpost' | 'counter'
export interface GCUsage { cpuMicros: number, gcs: number, rss: number }

const hook = process.argv[2] as Hook
const build = process.env['BENCH_GC'] as string
let gcs = 0

if (hook === 'counter') new PerformanceObserver(list => { gcs += list.getEntries().length }).observe({ type: 'gc' })
else if (hook === 'outpost') {
  // News to a port that nobody reads would pile up: the other end is read, as the endpoint does.
  const { gcOutpost } = await import(`${build}/outpost.mjs`) as typeof import('../src/ops/gc/outpost.ts')
  const { Link } = await import(`${build}/link.mjs`) as typeof import('../src/ops/link.ts')
  const { port1, port2 } = new MessageChannel()
  port2.on('message', () => {}).unref()
  gcOutpost({ link: new Link(port1).unref() } as never)
} else if (hook !== 'bare') {
  const { onGC } = await import(`${build}/gc.mjs`) as typeof import('../src/ops/gc/index.ts')
  onGC(() => { gcs++ }, hook === 'exact' ? { source: 'perf_hooks', exact: true } : { source: hook })
}

let last: unknown
const server = createServer((_req, res) => {
  for (let i = 0; i < 400; i++) last = { i, more: [i] }
  res.end(last ? 'hello world' : '')
})
server.keepAliveTimeout = 65_000
process.on('message', () => {
  const { user, system } = process.cpuUsage()
  process.send?.({ cpuMicros: user + system, gcs, rss: process.memoryUsage.rss() } satisfies GCUsage)
})
process.on('disconnect', () => process.exit(1))
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }))
