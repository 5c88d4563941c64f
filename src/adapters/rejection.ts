import type { IncomingMessage, ServerResponse } from 'node:http'
import { DEFAULTS, type Options } from '../core/index.ts'
import { checkKeys } from '../core/options.ts'

/** The 503 that a framework gets to answer as it answers any error: `status` and `headers` are what Express and Koa read. */
export interface Unavailable extends Error {
  status: 503
  statusCode: 503
  expose: true
  code: 'ERR_LAMEDUCK_DRAINING'
  headers: Record<string, string>
}

/** Requests that `admit` turned away and that the framework is to answer, so that its error handling, headers and logs apply. */
export class Rejection {
  #rejected = new WeakSet<IncomingMessage>()
  #retryAfter: string

  /** @throws {LameduckError} `ERR_LAMEDUCK_OPTION`: the adapters put what they need beside the options, so that `wrap` sees an object in any case. */
  constructor(options: Options) {
    checkKeys('options', options, DEFAULTS)
    const { retryAfterMs = DEFAULTS.retryAfterMs } = options
    this.#retryAfter = String(Math.ceil(retryAfterMs / 1_000))
  }

  /** For `options.reject`: marks the request and gives it to the application after all. */
  handOn(req: IncomingMessage, res: ServerResponse, server: NodeJS.EventEmitter): boolean {
    // Express answers an error when the body has arrived; this client sends none until it is told to go on (RFC 9110 §10.1.1).
    if (req.headers.expect !== undefined) return false
    this.#rejected.add(req)
    server.emit('request', req, res)
    return true
  }

  /** The error to raise for this request, if it was turned away. */
  of(req: IncomingMessage): Unavailable | undefined {
    if (!this.#rejected.has(req)) return undefined
    const error = new Error('The server is shutting down; please try again.')
    // Expected, and maybe often: a log needs no stack of it.
    error.stack = `${error.name}: ${error.message}`
    const headers = { 'Retry-After': this.#retryAfter }
    return Object.assign(error, { status: 503, statusCode: 503, expose: true, code: 'ERR_LAMEDUCK_DRAINING', headers } as const)
  }
}
