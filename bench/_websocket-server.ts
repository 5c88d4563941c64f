/** The server of the WebSocket bench: `ws` on a server, which ends in the way that its first argument says. */
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { WebSocketServer } from 'ws'
import type { Duck } from '../src/core/index.ts'

export const ways = ['ws alone', 'wrap(server)', 'lameduck/ws'] as const
export type Way = (typeof ways)[number]

export interface Ending {
  /** CPU time of the process, of the whole ending. */
  cpuMs: number
  ms: number
  clean: boolean
}

const [way, spreadMs] = process.argv.slice(2) as [Way | undefined, string | undefined]

/** What the documentation of `ws` recommends. */
async function endAlone(server: http.Server, wss: WebSocketServer): Promise<boolean> {
  await new Promise<void>((resolve) => {
    wss.close(() => resolve())
    for (const client of wss.clients) client.close(1001)
  })
  await new Promise((resolve) => server.close(resolve))
  return true
}

async function ending(server: http.Server, wss: WebSocketServer): Promise<() => Promise<boolean>> {
  if (way === 'ws alone') return () => endAlone(server, wss)
  const { wrap } = await import(process.env['BENCH_CORE'] ?? '../src/core/index.ts') as typeof import('../src/core/index.ts')
  const duck: Duck = wrap(server, { signals: false, lameduckMs: 0, spreadMs: Number(spreadMs) })
  if (way === 'lameduck/ws') {
    const { drainWebSockets } = await import('../src/adapters/ws.ts')
    drainWebSockets(wss, duck)
  }
  return async () => {
    const { outcome, destroyed } = await duck.drain()
    return outcome === 'clean' && destroyed.length === 0
  }
}

// Only as a program of its own: the bench imports its types and the list.
if (way !== undefined && ways.includes(way)) {
  const server = http.createServer()
  const wss = new WebSocketServer({ server })
  const end = await ending(server, wss)
  process.once('message', async () => {
    const [before, startedAt] = [process.cpuUsage(), performance.now()]
    const clean = await end()
    const { user, system } = process.cpuUsage(before)
    process.send?.({ cpuMs: (user + system) / 1_000, ms: performance.now() - startedAt, clean } satisfies Ending)
    process.disconnect()
  })
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 }, () => process.send?.({ port: (server.address() as AddressInfo).port }))
}
