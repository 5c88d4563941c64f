import net from 'node:net'
import { duckOf, type Duck } from '../core/duck.ts'
import { wrap, type DrainReport, type WrappableServer } from '../core/index.ts'
import { check, LONGEST_MS } from '../core/options.ts'
import { checkServer } from '../core/wrappable.ts'

/** The ducks that a drop-in has made: nobody else has one of these. */
const made = new WeakSet<Duck>()

/** The time limit of an original, which may be Infinity, as a deadline. @throws {LameduckError} `ERR_LAMEDUCK_OPTION` */
export function deadlineOf(name: string, value: unknown): number {
  check(name, value, typeof value === 'number' && value >= 0, 'milliseconds from 0 to Infinity')
  return Math.min(value as number, LONGEST_MS)
}

/**
 * The duck of a server that others stop: it does nothing by itself.
 *
 * @param deadlineMs What the application wants, if it said so: it holds for a drain that a supervisor begins, too.
 * @throws {LameduckError} `ERR_LAMEDUCK_SERVER`
 */
export function quietDuck(server: WrappableServer, deadlineMs?: number): Duck {
  checkServer(server)
  const known = duckOf(server)
  if (known) return known
  const duck = wrap(server, { exit: false, health: false, lameduckMs: 0, signals: false, ...(deadlineMs !== undefined && { deadlineMs }) })
  made.add(duck)
  return duck
}

/** How long a drain may take. Nobody says so of one drain what was said of all: then a supervisor's limit holds, where that is less. */
export function limitOf(duck: Duck, deadlineMs: number): { deadlineMs?: number } {
  return duck.deadlineMs === deadlineMs ? {} : { deadlineMs }
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
  const report = await duck.drain({ ...limitOf(duck, deadlineMs), lameduckMs: 0, reason })
  // A drain is for good, and the originals' is not.
  if (made.has(duck) && duckOf(server) === duck) {
    duck.unwrap()
    quietDuck(server, duck.deadlineMs)
  }
  if (closed) return { report, error: await closed }
  return { report, error: first ? undefined : notRunning() }
}

/** As Node makes it. */
function notRunning(): Error {
  return Object.assign(new Error('Server is not running.'), { code: 'ERR_SERVER_NOT_RUNNING' })
}
