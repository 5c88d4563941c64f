import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import { setAside } from './served.ts'
import { contain } from './contain.ts'
import { sendJson } from './json.ts'
import type { Settings } from './options.ts'

/** Decides about requests that arrive while draining, and answers those that are not admitted (RFC 9110 §15.6.4). */
export class Admission {
  #settings: Pick<Settings, 'admit' | 'reject' | 'retryAfterMs'>
  #fault: (where: string, error: unknown) => void

  constructor(settings: Pick<Settings, 'admit' | 'reject' | 'retryAfterMs'>, fault: (where: string, error: unknown) => void) {
    this.#settings = settings
    this.#fault = fault
  }

  /** Whether any request may be turned away at all. */
  get selective(): boolean {
    return this.#settings.admit !== 'serve'
  }

  /** A predicate that fails admits: an answer is better than none. */
  admits(req: IncomingMessage): boolean {
    const { admit } = this.#settings
    if (typeof admit === 'string') return admit === 'serve'
    try {
      const verdict: unknown = admit(req)
      if (!(verdict instanceof Promise)) return Boolean(verdict)
      // Its rejection is not to become the process's.
      verdict.catch((error: unknown) => this.#fault('admit', error))
      throw new TypeError('returned a promise; allowed: true or false, at once')
    } catch (error) {
      this.#fault('admit', error)
      return true
    }
  }

  /** At once, unless `reject` is asynchronous. One that fails is answered for; an answer that is whole by then stays. */
  async reject(req: IncomingMessage, res: ServerResponse): Promise<void> {
    setAside(res)
    try {
      const { reject } = this.#settings
      if (reject === undefined || (await reject(req, res)) === false) this.#unavailable(req, res)
    } catch (error) {
      this.#fault('reject', error)
      const giveUp = (again: unknown) => {
        this.#fault('reject', again)
        res.destroy()
      }
      if (!res.headersSent) contain(() => this.#unavailable(req, res), giveUp)
      else if (!res.writableEnded) res.destroy()
    }
  }

  /** For a tunnel of HTTP/2: a head alone, which no window of its client holds back. */
  refuse(stream: ServerHttp2Stream): void {
    setAside(stream)
    stream.respond({ ':status': 503, 'retry-after': String(this.#retryAfter) }, { endStream: true })
  }

  /** For a socket that asked for an upgrade: it has no response object. */
  get refusal(): string {
    return `HTTP/1.1 503 Service Unavailable\r\nRetry-After: ${this.#retryAfter}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`
  }

  get #retryAfter(): number {
    return Math.ceil(this.#settings.retryAfterMs / 1_000)
  }

  #unavailable(req: IncomingMessage, res: ServerResponse): void {
    const body = { error: 'Service Unavailable', message: 'The server is shutting down; please try again.' }
    sendJson(res, req.method, 503, { 'Retry-After': this.#retryAfter }, body)
  }
}
