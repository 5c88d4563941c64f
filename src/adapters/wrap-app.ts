import http, { type RequestListener } from 'node:http'
import type https from 'node:https'
import { DEFAULTS, LameduckError, wrap, type Duck, type Options, type WrappableServer } from '../core/index.ts'
import { checkKeys } from '../core/options.ts'
import { Rejection } from './rejection.ts'

/** Options of an adapter: those of `wrap`, and the server if it is to be one of your own. */
export interface AppOptions<S extends WrappableServer = http.Server | https.Server> extends Options {
  /** A server that has the application as its request listener already, such as an `https.Server`. Default: a new `http.Server`. */
  server?: S
}

/** What an adapter gives back. */
export interface WrappedApp<S extends WrappableServer = http.Server | https.Server> {
  server: S
  duck: Duck
}

/** @throws {LameduckError} `ERR_LAMEDUCK_SERVER` unless ok. */
export function checkApp(app: unknown, ok: boolean, expected: string): void {
  if (ok) return
  const what = typeof app === 'function' ? `the function ${app.name}` : ((app as object | undefined)?.constructor?.name ?? typeof app)
  throw new LameduckError('ERR_LAMEDUCK_SERVER', `cannot wrap ${what}; allowed: ${expected}`)
}

/** From an application's request listener to a wrapped server, with a way to raise the 503 of rejected requests in the framework. */
export function wrapApp<S extends WrappableServer>(listener: RequestListener, options: AppOptions<S>): WrappedApp<S> & { rejection: Rejection } {
  // A number, taken apart, would be no options at all.
  checkKeys('options', options, { ...DEFAULTS, server: undefined })
  const { server = http.createServer(listener) as WrappableServer as S, ...rest } = options
  const rejection = new Rejection(rest)
  const duck = wrap(server, { reject: (req, res) => rejection.handOn(req, res, server), ...rest })
  return { server, duck, rejection }
}
