import type { Server as HttpServer } from 'node:http'
import type { Http2SecureServer } from 'node:http2'
import type { Server as HttpsServer } from 'node:https'
import type { WrappableServer } from '../core/index.ts'
import { deadlineOf, quietDuck, stop } from './drop-in.ts'

/** As the documentation of http-terminator has it; its code says 1 000. */
const TIMEOUT_MS = 5_000

/** What {@link createHttpTerminator} takes. */
export type HttpTerminatorConfigurationInput = {
  /** Milliseconds until what is left is destroyed. Default 5 000. */
  readonly gracefulTerminationTimeout?: number
  readonly server: Http2SecureServer | HttpServer | HttpsServer
}

/** What {@link createHttpTerminator} gives. */
export type HttpTerminator = {
  /**
   * Stops accepting, lets what is in flight finish, and closes every connection at the moment that loses nothing.
   * Idempotent. Rejects with Node's `ERR_SERVER_NOT_RUNNING` if the server was not listening; never for being slow.
   */
  readonly terminate: () => Promise<void>
}

/**
 * Terminates a server as the package http-terminator does.
 *
 * @throws {LameduckError} `ERR_LAMEDUCK_SERVER`, or `ERR_LAMEDUCK_OPTION` for a timeout that is no number from 0 on.
 */
export function createHttpTerminator(configurationInput: HttpTerminatorConfigurationInput): HttpTerminator {
  const { gracefulTerminationTimeout } = configurationInput
  const deadlineMs = deadlineOf('gracefulTerminationTimeout', gracefulTerminationTimeout === undefined ? TIMEOUT_MS : gracefulTerminationTimeout)
  const server = configurationInput.server as WrappableServer
  quietDuck(server, gracefulTerminationTimeout === undefined ? undefined : deadlineMs)
  let terminating: Promise<void> | undefined
  const terminate = async () => {
    const { error } = await stop(server, deadlineMs, 'terminate()')
    if (error) throw error
  }
  return { terminate: () => (terminating ??= terminate()) }
}
