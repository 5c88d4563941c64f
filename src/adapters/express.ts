import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duck } from '../core/index.ts'
import { under, type Mountable } from './mount.ts'
import { checkApp, wrapApp, type AppOptions, type WrappedApp } from './wrap-app.ts'

export type { AppOptions, Mountable, WrappedApp }

declare global {
  // Where @types/express looks for what others add to a request; without those types it is a name that nobody reads.
  namespace Express {
    interface Request {
      /** The duck of the server: `req.lameduck.signal` is aborted as a drain begins. */
      lameduck: Duck
    }
  }
}

/** What an Express application (4 or 5) has, as far as lameduck uses it. */
export interface ExpressLike {
  (req: IncomingMessage, res: ServerResponse): unknown
  use(handler: (req: IncomingMessage, res: ServerResponse, next: (error?: unknown) => void) => void): unknown
  request: object
  listen: (...args: never[]) => unknown
}

/**
 * From an Express application to a wrapped server.
 *
 * With `admit: 'reject'` (or a predicate) the 503 is raised at the place where this is called: after your logging and header
 * middleware, before your routes. What a route before that place answers is served.
 *
 * `app.listen()` listens with this server from now on, too.
 *
 * @returns The server, still to listen, and its duck, which handlers find as `req.lameduck`.
 * @throws {LameduckError} As `wrap`; `ERR_LAMEDUCK_SERVER` for something that is no application.
 */
export function lameduck(app: ExpressLike, options: AppOptions = {}): WrappedApp {
  checkApp(app, typeof app === 'function' && 'request' in app && 'use' in app, 'an Express application, the result of express()')
  const { server, duck, rejection } = wrapApp((req, res) => void app(req, res), options)
  // On the prototype of all requests of this application: nothing to do for each of them.
  Object.defineProperty(app.request, 'lameduck', { value: duck, configurable: true })
  // Out of habit: Express would make another server, which nobody drains.
  app.listen = server.listen.bind(server)
  app.use((req, _res, next) => next(rejection.of(req)))
  return { server, duck }
}

/**
 * Puts a maintenance endpoint (`ops({ thread: false, listen: false })` of lameduck/ops) under a path of an application: same checks, same audit.
 * Call it before body parsers: they would take the body. It hangs when the main thread hangs; an endpoint with a listener of its own does not.
 *
 * @param prefix As `/ops`.
 * @throws {LameduckError} `ERR_LAMEDUCK_OPTION`
 */
export function mount(app: Pick<ExpressLike, 'use'>, prefix: string, endpoint: Mountable): void {
  const isOurs = under(prefix)
  // Not app.use(prefix, …): Express compares without regard to case, and takes the prefix off the URL.
  app.use((req, res, next) => {
    if (isOurs(req.url)) endpoint.handle(req, res, { prefix })
    else next()
  })
}
