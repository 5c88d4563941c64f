import type { IncomingMessage } from 'node:http'
import { DEFAULTS, wrap, type Duck, type Options, type WrappableServer } from '../core/index.ts'
import { later } from './later.ts'
import { Rejection } from './rejection.ts'

/** What a hapi server (21) has, as far as lameduck uses it. */
export interface HapiLike {
  listener: unknown
  ext(event: 'onRequest', method: (request: { raw: { req: IncomingMessage } }, h: { continue: symbol }) => symbol): void
  ext(event: 'onPreStop' | 'onPostStop', method: () => void | Promise<void>): void
  decorate(type: 'request', property: string, value: unknown): void
  expose(key: string, value: unknown): void
  stop(): Promise<void>
}

/** The error as hapi's own: a boom, by its shape. */
function boom(error: Error & { statusCode: number; headers: Record<string, string> }): Error {
  const { statusCode, message, headers } = error
  const payload = { statusCode, error: 'Service Unavailable', message }
  return Object.assign(error, { isBoom: true, isServer: true, data: null, output: { statusCode, payload, headers } })
}

function register(server: HapiLike, options: Options = {}): void {
  const listener = server.listener as WrappableServer
  const rejection = new Rejection(options)
  const duck: Duck = wrap(listener, { reject: (req, res) => rejection.handOn(req, res, listener), ...options })
  server.decorate('request', 'lameduck', duck)
  server.expose('duck', duck)
  server.ext('onRequest', (request, h) => {
    const error = rejection.of(request.raw.req)
    if (error) throw boom(error)
    return h.continue
  })

  // hapi's own stop() half-closes idle connections and goes on executing what arrives on them: so it drains first, and a
  // drain stops hapi last. Whichever came first brings the other along, once, and each waits for the other's part.
  let stopping = false
  const connectionsEnded = later()
  const stopped = later()
  server.ext('onPreStop', async () => {
    // Registered now, so that it runs after all of the application's.
    server.ext('onPostStop', stopped.resolve)
    if (stopping) return
    stopping = true
    // Not for the whole drain: that waits for hapi. Unless it is over without having asked, because it was cut.
    await Promise.race([connectionsEnded.promise, duck.drain({ reason: 'server.stop()' })])
  })
  const stop = async () => {
    connectionsEnded.resolve()
    if (stopping) return stopped.promise
    stopping = true
    return server.stop()
  }
  duck.onDrain('hapi server.stop()', stop, { timeoutMs: options.deadlineMs || DEFAULTS.deadlineMs })
}

/**
 * Wraps the listener of a hapi server: `await server.register({ plugin, options })`, options as for `wrap`.
 *
 * A drain ends with `server.stop()`, and `server.stop()` begins with a drain: `onPreStop` and `onPostStop` run in either
 * case, once. Handlers find the duck as `request.lameduck`, the rest of the program as `server.plugins.lameduck.duck`.
 * With `admit: 'reject'` (or a predicate) the 503 is raised in `onRequest`, as a boom.
 */
export const plugin = { name: 'lameduck', register }
