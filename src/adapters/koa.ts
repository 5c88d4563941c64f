import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import type { WrappableServer } from '../core/index.ts'
import { under, type Mountable } from './mount.ts'
import { checkApp, wrapApp, type AppOptions, type WrappedApp } from './wrap-app.ts'

export type { AppOptions, Mountable, WrappedApp }

/** What a Koa application (2 or 3) has, as far as lameduck uses it. */
export interface KoaLike {
  use(middleware: (ctx: { req: IncomingMessage; res: ServerResponse; respond?: boolean }, next: () => Promise<unknown>) => Promise<unknown>): unknown
  callback(): RequestListener
  context: object
  /** Each request's; its types leave it out. */
  handleRequest?: (ctx: { req: IncomingMessage }, middleware: (ctx: never) => Promise<unknown>) => unknown
  listen: (...args: never[]) => unknown
}

/**
 * From a Koa application to a wrapped server.
 *
 * With `admit: 'reject'` (or a predicate) the 503 is thrown at the place where this is called: after your logging and header
 * middleware, before your routes. What a middleware before that place answers is served. With a server of your own it is thrown before
 * all middleware: Koa takes none that is added after `app.callback()`.
 *
 * `app.listen()` listens with this server from now on, too. A server of your own may be one of node:http2.
 *
 * @returns The server, still to listen, and its duck, which middleware finds as `ctx.lameduck`.
 * @throws {LameduckError} As `wrap`; `ERR_LAMEDUCK_SERVER` for something that is no application.
 */
export function lameduck<S extends WrappableServer = Server | HttpsServer>(app: KoaLike, options: AppOptions<S> = {}): WrappedApp<S> {
  checkApp(app, typeof app === 'object' && app !== null && 'context' in app && 'callback' in app, 'a Koa application, the result of new Koa()')
  let listener: RequestListener | undefined
  // Koa composes its middleware in callback(): not before all of it is there.
  const { server, duck, rejection } = wrapApp((req, res) => (listener ??= app.callback())(req, res), options)
  // On the prototype of all contexts of this application: nothing to do for each of them.
  Object.defineProperty(app.context, 'lameduck', { value: duck, configurable: true })
  // Out of habit: Koa would make another server, which nobody drains.
  app.listen = server.listen.bind(server)
  const admit = (req: IncomingMessage) => {
    const error = rejection.of(req)
    if (error) throw error
  }
  const { handleRequest } = app
  if (options.server && handleRequest) {
    app.handleRequest = (ctx, middleware) => handleRequest.call(app, ctx, async (same: never) => {
      admit(ctx.req)
      return middleware(same)
    })
  } else {
    app.use(async ({ req }, next) => {
      admit(req)
      return next()
    })
  }
  return { server, duck }
}

/**
 * Puts a maintenance endpoint (`ops({ thread: false, listen: false })` of lameduck/ops) under a path of an application: same checks, same audit.
 * Call it before body parsers: they would take the body. It hangs when the main thread hangs; an endpoint with a listener of its own does not.
 *
 * @param prefix As `/ops`.
 * @throws {LameduckError} `ERR_LAMEDUCK_OPTION`
 */
export function mount(app: Pick<KoaLike, 'use'>, prefix: string, endpoint: Mountable): void {
  const isOurs = under(prefix)
  app.use(async (ctx, next) => {
    if (!isOurs(ctx.req.url)) return next()
    ctx.respond = false
    endpoint.handle(ctx.req, ctx.res, { prefix })
    return undefined
  })
}
