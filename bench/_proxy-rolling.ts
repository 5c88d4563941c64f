/** A rolling restart under load, and what became of every request. */
import { setTimeout as sleep } from 'node:timers/promises'
import { startLoad, type Load } from './_load.ts'
import type { Restart, Upstream } from './_proxy-instances.ts'

export interface RollingOptions {
  /** Where the clients connect to. */
  port: number
  upstream: Upstream
  restarts: number
  /** Keep-alive clients for each of GET and POST. Default 20. */
  clients?: number
  /** Mean think time of a client. Default 20. */
  thinkMs?: number
  /** After an instance is ready again, until the next one is restarted. Default 1 000. */
  paceMs?: number | undefined
}

/** What became of the requests of one method. */
export interface Fates {
  sent: number
  ok: number
  /** Answered with an error by the proxy, or not at all. */
  failed: number
  /** Of those: had reached the application. */
  executed: number
  /** Reached the application more than once, answered or not. */
  twice: number
}

export interface Rolling {
  restarts: Restart[]
  get: Fates
  post: Fates
}

/** Two clients, of whom one POSTs; each request has a path of its own, by which the journal knows it again. */
export async function rollingRestart(options: RollingOptions): Promise<Rolling> {
  const { port, upstream, restarts, clients = 20, thinkMs = 20, paceMs = 1_000 } = options
  const before = upstream.executed().length
  const load = (method: 'GET' | 'POST') => startLoad({
    port, connections: clients, method, thinkMs, reconnect: true, path: (id) => `/${method.toLowerCase()}/${id}`,
  })
  const [gets, posts] = await Promise.all([load('GET'), load('POST')])
  const ended: Restart[] = []
  try {
    await sleep(paceMs)
    for (let i = 0; i < restarts; i++) {
      ended.push(await upstream.restart(i % upstream.addresses.length))
      await sleep(paceMs)
    }
  } finally {
    await Promise.all([gets.stop(), posts.stop()])
  }
  await sleep(100) // what was executed last
  const executed = upstream.executed().slice(before)
  return { restarts: ended, get: fates('GET', gets, executed), post: fates('POST', posts, executed) }
}

/**
 * All 2xx come from the application, and so were executed: whatever else is in the journal failed. That is exact, since the
 * load has come to its end.
 */
function fates(method: 'GET' | 'POST', { counts }: Load, journal: readonly string[]): Fates {
  const own = journal.filter((line) => line.startsWith(`${method} /${method.toLowerCase()}/`))
  const once = new Set(own).size
  const { sent, ok, rejected, failed, lost } = counts
  return { sent, ok, failed: rejected + failed + lost, executed: once - ok, twice: own.length - once }
}
