/** A rolling restart under load, and what became of every request. */
import { setTimeout as sleep } from 'node:timers/promises'
import { startLoad, type Load } from './_load.ts'
import type { Restart, Upstream } from './_proxy-instances.ts'
import { sum } from './_stats.ts'

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
  /** Before anything is measured. Default 0. */
  warmUpMs?: number
  /** Whose CPU time is of interest, beside that of the clients. */
  cpuMs?: () => number | undefined
}

/** What happened in a span of time. */
export interface Span {
  /** When it began, on the clock of `Date.now()`. */
  at: number
  ms: number
  /** Requests that were answered with 2xx. */
  ok: number
  /** Of the upstream, if it was asked for. */
  cpuMs?: number
  /** Of the clients. */
  clientsCpuMs: number
}

/** What became of the requests of one method. */
export interface Fates {
  sent: number
  ok: number
  /** Answered with an error by the proxy, or not at all; or not even connected. */
  failed: number
  /** Of those: never answered, and the connection stayed open. */
  hung: number
  /** Of those: had reached the application. */
  executed: number
  /** Reached the application more than once, answered or not. */
  twice: number
}

export interface Rolling {
  restarts: (Restart & { span: Span })[]
  /** The paces: before, between and behind the restarts. */
  calm: Span[]
  get: Fates
  post: Fates
}

/** Two clients, of whom one POSTs; each request has a path of its own, by which the journal knows it again. */
export async function rollingRestart(options: RollingOptions): Promise<Rolling> {
  const { port, upstream, restarts, clients = 20, thinkMs = 20, paceMs = 1_000, warmUpMs = 0 } = options
  const before = upstream.executed().length
  const load = (method: 'GET' | 'POST') => startLoad({
    port, connections: clients, method, thinkMs, reconnect: true, path: (id) => `/${method.toLowerCase()}/${id}`,
  })
  const [gets, posts] = await Promise.all([load('GET'), load('POST')])
  const measure = measureWith(() => sum([gets, posts].map(({ counts }) => counts.ok)), options.cpuMs)
  const [ended, calm]: [Rolling['restarts'], Span[]] = [[], []]
  try {
    await sleep(warmUpMs)
    calm.push((await measure(() => sleep(paceMs))).span)
    for (let i = 0; i < restarts; i++) {
      const { result, span } = await measure(() => upstream.restart(i % upstream.addresses.length))
      ended.push({ ...result, span })
      calm.push((await measure(() => sleep(paceMs))).span)
    }
  } finally {
    await Promise.all([gets.stop(), posts.stop()])
  }
  await sleep(100) // what was executed last
  const executed = upstream.executed().slice(before)
  return { restarts: ended, calm, get: fates('GET', gets, executed), post: fates('POST', posts, executed) }
}

function measureWith(okSoFar: () => number, cpuSoFar: () => number | undefined = () => undefined) {
  const own = () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1_000
  }
  return async <T>(during: () => Promise<T>): Promise<{ result: T, span: Span }> => {
    const [at, began, ok, cpu, clients] = [Date.now(), performance.now(), okSoFar(), cpuSoFar(), own()]
    const result = await during()
    const cpuMs = cpuSoFar()
    const span = {
      at, ms: performance.now() - began, ok: okSoFar() - ok, clientsCpuMs: own() - clients,
      ...cpu !== undefined && cpuMs !== undefined && { cpuMs: cpuMs - cpu },
    }
    return { result, span }
  }
}

/**
 * All 2xx come from the application, and so were executed: whatever else is in the journal failed. That is exact, since the
 * load has come to its end.
 */
function fates(method: 'GET' | 'POST', { counts, lost: unanswered }: Load, journal: readonly string[]): Fates {
  const own = journal.filter((line) => line.startsWith(`${method} /${method.toLowerCase()}/`))
  const once = new Set(own).size
  const { sent, ok, rejected, failed, lost, refused } = counts
  const hung = unanswered.filter((request) => request.hung).length
  return { sent, ok, failed: rejected + failed + lost + refused, hung, executed: once - ok, twice: own.length - once }
}
