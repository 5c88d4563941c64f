import { Duck, duckOf } from './duck.ts'
import { settle, type Options } from './options.ts'
import { checkServer, type WrappableServer } from './wrappable.ts'

/**
 * Makes a server stop without losing a request: on SIGTERM or SIGINT, or when `drain()` is called.
 *
 * Works before and after `listen()`. Idempotent: a server that is wrapped already keeps its duck, and its options.
 * Sockets that are open already are seen from their next request on; `report.unknown` counts those that had none.
 *
 * @param server A server of node:http, node:https or node:http2 (h2c, secure, or mixed by `allowHTTP1`).
 * @param options See {@link Options}; all durations in milliseconds.
 * @throws {LameduckError} `ERR_LAMEDUCK_SERVER` for something else, `ERR_LAMEDUCK_OPTION` for an option out of range.
 */
export function wrap(server: WrappableServer, options?: Options): Duck {
  checkServer(server)
  const settings = settle(options)
  return duckOf(server) ?? new Duck(settings).add(server)
}
