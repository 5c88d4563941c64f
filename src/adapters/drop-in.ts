import net from 'node:net'
import { duckOf, type Duck } from '../core/duck.ts'
import { wrap, type DrainReport, type WrappableServer } from '../core/index.ts'
import { check } from '../core/options.ts'
import { checkServer } from '../core/tracker.ts'

/** What "for ever" is to a timer: 2^31 - 1 ms, about 24.8 days. */
const LONGEST_MS = 2 ** 31 - 1

/** The ducks that a drop-in has made: nobody else has one of these. */
const made = new WeakSet<Duck>()

/** The time limit of an original, which may be Infinity, as a deadline. @throws {LameduckError} `ERR_LAMEDUCK_OPTION` */
export function deadlineOf(name: string, value: unknown): number {
  check(name, value, typeof value === 'number' && value >= 0, 'milliseconds from 0 to Infinity')
  return Math.min(value as number, LONGEST_MS)
}

/** The duck of a server that others stop: it does nothing by itself. @throws {LameduckError} `ERR_LAMEDUCK_SERVER` */
export function quietDuck(server: WrappableServer): Duck {
  checkServer(server)
  const known = duckOf(server)
  if (known) return known
  const duck = wrap(server, { exit: false, health: false, lameduckMs: 0, signals: false })
  made.add(duck)
  return duck
}

/** How a server was stopped. */
export interface Stopped {
  /** What Node's `close()` has to say: that the server was not running. */
  error: Error | undefined
  report: DrainReport
}

/** Drains now, without a lame duck. The server may listen again afterwards. */
export async function stop(server: WrappableServer, deadlineMs: number, reason: string): Promise<Stopped> {
  const duck = quietDuck(server)
  const first = !duck.signal.aborted
  // For its error and its `close` event. The listener's own close: that of http destroys idle connections, whatever they are sending.
  const closed = first && !server.listening
    ? new Promise<Error | undefined>(resolve => net.Server.prototype.close.call(server, resolve))
    : undefined
  const report = await duck.drain({ deadlineMs, lameduckMs: 0, reason })
  // A drain is for good, and the originals' is not.
  if (made.has(duck) && duckOf(server) === duck) {
    duck.unwrap()
    quietDuck(server)
  }
  if (closed) return { report, error: await closed }
  return { report, error: first ? undefined : notRunning() }
}

/** As Node makes it. */
function notRunning(): Error {
  return Object.assign(new Error('Server is not running.'), { code: 'ERR_SERVER_NOT_RUNNING' })
}
