import type { IncomingMessage, ServerResponse } from 'node:http'
import { wrap, type Duck, type Options, type WrappableServer } from '../core/index.ts'
import { LONGEST_MS } from '../core/options.ts'
import { later } from './later.ts'
import { under, type Mountable } from './mount.ts'
import { Rejection } from './rejection.ts'

export type { Mountable }

/** What a hapi server (21) has, as far as lameduck uses it. */
export interface HapiLike {
  listener: unknown
  ext(event: 'onRequest', method: (request: { raw: { req: IncomingMessage; res: ServerResponse } }, h: { continue: symbol; abandon: symbol }) => symbol): void
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
  duck.onDrain('hapi server.stop()', stop, { timeoutMs: LONGEST_MS })
}

/**
 * Wraps the listener of a hapi server: `await server.register({ plugin, options })`, options as for `wrap`.
 *
 * A drain ends with `server.stop()`, and `server.stop()` begins with a drain: `onPreStop` and `onPostStop` run in either
 * case, once. Handlers find the duck as `request.lameduck`, the rest of the program as `server.plugins.lameduck.duck`.
 * With `admit: 'reject'` (or a predicate) the 503 is raised in `onRequest`, as a boom.
 */
export const plugin = { name: 'lameduck', register }

/**
 * Puts a maintenance endpoint (`ops({ thread: false, listen: false })` of lameduck/ops) under a path of a server: same checks, same audit.
 * It hangs when the main thread hangs; an endpoint with a listener of its own does not.
 *
 * @param prefix As `/ops`.
 * @throws {LameduckError} `ERR_LAMEDUCK_OPTION`
 */
export function mount(server: Pick<HapiLike, 'ext'>, prefix: string, endpoint: Mountable): void {
  const isOurs = under(prefix)
  // Before hapi routes, and so before it reads the body.
  server.ext('onRequest', ({ raw }, h) => {
    if (!isOurs(raw.req.url)) return h.continue
    endpoint.handle(raw.req, raw.res, { prefix })
    return h.abandon
  })
}
