import type { IncomingMessage, RequestListener } from 'node:http'
import { checkApp, wrapApp, type AppOptions, type WrappedApp } from './wrap-app.ts'

export type { AppOptions, WrappedApp }

/** What a Koa application (2 or 3) has, as far as lameduck uses it. */
export interface KoaLike {
  use(middleware: (ctx: { req: IncomingMessage }, next: () => Promise<unknown>) => Promise<unknown>): unknown
  callback(): RequestListener
  context: object
  listen: (...args: never[]) => unknown
}

/**
 * From a Koa application to a wrapped server.
 *
 * With `admit: 'reject'` (or a predicate) the 503 is thrown at the place where this is called: after your logging and header
 * middleware, before your routes. What a middleware before that place answers is served.
 *
 * `app.listen()` listens with this server from now on, too.
 *
 * @returns The server, still to listen, and its duck, which middleware finds as `ctx.lameduck`.
 * @throws {LameduckError} As `wrap`; `ERR_LAMEDUCK_SERVER` for something that is no application.
 */
export function lameduck(app: KoaLike, options: AppOptions = {}): WrappedApp {
  checkApp(app, typeof app === 'object' && app !== null && 'context' in app && 'callback' in app, 'a Koa application, the result of new Koa()')
  let listener: RequestListener | undefined
  // Koa composes its middleware in callback(): not before all of it is there.
  const { server, duck, rejection } = wrapApp((req, res) => (listener ??= app.callback())(req, res), options)
  // On the prototype of all contexts of this application: nothing to do for each of them.
  Object.defineProperty(app.context, 'lameduck', { value: duck, configurable: true })
  // Out of habit: Koa would make another server, which nobody drains.
  app.listen = server.listen.bind(server)
  app.use(async ({ req }, next) => {
    const error = rejection.of(req)
    if (error) throw error
    return next()
  })
  return { server, duck }
}
