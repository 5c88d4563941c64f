/**
 * An instance for the proxies, with one of the peers attached: the app of the examples, on a given port.
 *
 *   tsx _proxy-server.ts <row> <port> <journal>
 */
import { openSync, writeSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { isPeer, peer, type Drain } from './_peers.ts'

const [row = '', port, journal = ''] = process.argv.slice(2)
const fd = openSync(journal, 'a')

const server = createServer(async (req, res) => {
  // As long as it answers it is in rotation: those that know no readiness. terminus and lameduck answer before this.
  if (req.url === '/readyz') {
    res.end('ok')
    return
  }
  writeSync(fd, `${req.method} ${req.url}\n`)
  req.resume()
  await sleep(5)
  res.end('done')
})
server.keepAliveTimeout = 65_000

const drain = await attach(row, server)
if (drain) process.once('SIGTERM', () => { void drain().then(() => process.exit(0)) })
server.listen(Number(port), '127.0.0.1')

async function attach(row: string, server: Server): Promise<Drain | undefined> {
  if (row === 'terminus' || row === 'terminus, 2 s delay') return terminus(server, row === 'terminus' ? 0 : 2_000)
  if (!isPeer(row)) throw new Error(`no such peer: ${row}`)
  return peer(row).attach(server, {})
}

/** With its health check where the proxies look, and the delay that its documentation recommends for Kubernetes. */
async function terminus(server: Server, delayMs: number): Promise<undefined> {
  const { createTerminus } = await import('@godaddy/terminus')
  createTerminus(server, { healthChecks: { '/readyz': async () => {} }, beforeShutdown: () => sleep(delayMs), useExit0: true })
  return undefined
}
