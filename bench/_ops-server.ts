/** The service of bench/ops.ts: hello world, wrapped, with or without a maintenance endpoint. */
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import v8 from 'node:v8'
import type * as Core from '../src/core/index.ts'
import type * as Gc from '../src/ops/gc/index.ts'
import type * as Ops from '../src/ops/index.ts'

export interface OpsServerArgs {
  token: string
  folder: string
  ops: boolean
  /** With a listener of GCs. */
  gc?: boolean
  /** Of small objects in the heap. */
  ballastMiB: number
}

export interface OpsServerReady {
  app: number
  ops: number
}

// As it is installed: from source, its worker would have a TypeScript compiler in its memory.
const built = (name: string) => import(new URL(`../dist/${name}.js`, import.meta.url).href)
const { wrap } = await built('index') as typeof Core

const args = JSON.parse(process.argv[2] ?? '') as OpsServerArgs

const ballast: unknown[] = []
while (process.memoryUsage().heapUsed < args.ballastMiB * 2 ** 20) {
  for (let i = 0; i < 1_000; i++) ballast.push({ id: i, more: { name: `item ${ballast.length}` } })
}

const server = http.createServer((_req, res) => res.end('hello world'))
server.keepAliveTimeout = 65_000
const duck = wrap(server)
await new Promise<void>(resolve => {
  server.listen(0, '127.0.0.1', resolve)
})
const endpoint = args.ops ? await (await built('ops') as typeof Ops).ops({
  duck,
  listen: { port: 0 },
  auth: { tokens: [{ name: 'bench', scopes: ['read', 'diag'], token: args.token }] },
  limits: { calls: { burst: 1e6, perSecond: 1e6 } },
  audit: join(args.folder, 'audit.log'),
  files: { dir: join(args.folder, 'files') },
}).ready : undefined
if (args.gc) (await built('gc') as typeof Gc).onGC(() => {})

const answers: Record<string, (n: number) => unknown> = {
  cpu() {
    const { user, system } = process.cpuUsage()
    return { cpu: user + system }
  },
  loop(ms) {
    const until = performance.now() + ms
    while (performance.now() < until);
    return { ballast: ballast.length }
  },
  snapshot() {
    v8.writeHeapSnapshot(join(args.folder, 'bench.heapsnapshot'))
    return {}
  },
}
process.on('message', (question: string) => {
  const [name = '', n] = question.split(' ')
  process.send?.(answers[name]?.(Number(n)))
})
process.on('disconnect', () => process.exit(1))
process.send?.({ app: (server.address() as AddressInfo).port, ops: Number(new URL(endpoint?.url ?? 'http://x:0').port) } satisfies OpsServerReady)
