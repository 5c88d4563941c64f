// Has a default export and nothing else: so the build makes `require('lameduck/stoppable')` the function, as `require('stoppable')` is.
import type http from 'node:http'
import type https from 'node:https'
import { deadlineOf, quietDuck, stop } from './drop-in.ts'

/**
 * Gives a server a `stop` method, as the package stoppable does: `server.stop((error, gracefully) => …)` stops accepting, lets
 * what is in flight finish, and closes every connection at the moment that loses nothing.
 *
 * @param server An `http.Server` or `https.Server`.
 * @param grace Milliseconds until what is left is destroyed, 0 for at once. Default Infinity.
 * @returns The same server.
 * @throws {LameduckError} `ERR_LAMEDUCK_SERVER`, or `ERR_LAMEDUCK_OPTION` for a grace that is no number from 0 on.
 */
function stoppable<T extends http.Server | https.Server>(server: T, grace = Infinity): T & stoppable.WithStop {
  const deadlineMs = deadlineOf('grace', grace)
  quietDuck(server, deadlineMs)
  const withStop: stoppable.WithStop = {
    stop(callback) {
      void stop(server, deadlineMs, 'stop()').then(({ error, report }) => {
        // The deadline of a grace of 0 is over before anything can end, and all the same nothing may have been cut.
        const gracefully = report.outcome === 'clean' || report.destroyed.length === 0
        // What the callback throws is an exception, not a rejection.
        if (callback) process.nextTick(callback, error, gracefully)
      })
    },
  }
  return Object.assign(server, withStop)
}

/** Types only, where users of stoppable find them: `stoppable.WithStop`. */
declare namespace stoppable {
  type StoppableServer = http.Server & WithStop

  interface WithStop {
    /**
     * Stops the server. Idempotent; the callback of a later call gets Node's `ERR_SERVER_NOT_RUNNING`.
     *
     * @param callback Gets an error if the server was not running, and whether nothing had to be cut.
     */
    stop(callback?: (error: Error | undefined, gracefully: boolean) => unknown): void
  }
}

export default stoppable
