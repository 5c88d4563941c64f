/** The load of `npm start`: keep-alive connections of several kinds. */
import { startLoad, type Load } from '../bench/_load.ts'

interface Stream {
  connections: number
  method: 'GET' | 'POST'
  route: string
  /** Mean of the exponential think time. Infinity: one request, then silence. */
  thinkMs: number
}

const streams: Stream[] = [
  // One request, then silence: what every pool holds, too. First, so that they are silent by the time of SIGTERM.
  { connections: 20, method: 'GET', route: '/products', thinkMs: Infinity },
  { connections: 20, method: 'GET', route: '/reports', thinkMs: 50 },
  { connections: 20, method: 'POST', route: '/orders', thinkMs: 250 },
  // What a reverse proxy holds: always busy.
  { connections: 40, method: 'GET', route: '/products', thinkMs: 80 },
  { connections: 60, method: 'POST', route: '/orders', thinkMs: 80 },
]

export const connections = streams.reduce((total, stream) => total + stream.connections, 0)

/** All counts as the clients see them. */
export interface Totals {
  /** Connections open now. */
  open: number
  inFlight: number
  /** Answered with a 2xx status. */
  served: number
  /** Answered with any other status. */
  errors: number
  /** Sent, or not even let in, and never answered. */
  lost: number
}

export interface Traffic {
  totals(): Totals
  /** How many of the lost are among these paths. */
  ghosts(executed: ReadonlyMap<string, unknown>): number
  /** No new request. Resolves when every client has its answer and has seen the connection end; after `graceMs` that is enforced. */
  stop(graceMs?: number): Promise<void>
}

/**
 * Resolves when all connections are open.
 *
 * @param reconnect Whether a client whose connection has ended opens another one. Otherwise it goes on elsewhere, at the next instance.
 */
export async function startTraffic(port: number, reconnect = false): Promise<Traffic> {
  const loads: { load: Load, path: (id: number) => string }[] = []
  for (const [index, { route, ...stream }] of streams.entries()) {
    const path = (id: number) => `${route}/${index}-${id}`
    loads.push({ load: await startLoad({ port, path, reconnect, ...stream }), path })
  }
  const sum = (of: (counts: Load['counts']) => number) => loads.reduce((total, { load }) => total + of(load.counts), 0)

  return {
    totals() {
      const served = sum(({ ok }) => ok)
      const errors = sum(({ rejected, failed }) => rejected + failed)
      const unanswered = sum(({ lost }) => lost)
      const inFlight = sum(({ sent }) => sent) - served - errors - unanswered
      return { open: sum(({ open }) => open), inFlight, served, errors, lost: unanswered + sum(({ refused }) => refused) }
    },
    ghosts: (executed) => loads.flatMap(({ load, path }) => load.lost.filter(({ id }) => executed.has(path(id)))).length,
    async stop(graceMs = 1_000) {
      await Promise.all(loads.map(({ load }) => load.stop(graceMs)))
    },
  }
}
