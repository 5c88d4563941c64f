import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import { EXIT, Failure } from './failure.ts'
import { oneLine } from './format.ts'

/** Where an endpoint is, and how we show that we may. */
export interface Target {
  /** Of a unix socket. */
  socketPath?: string
  /** `http://localhost` for a socket; may have a path, if the endpoint is mounted under one. */
  url: URL
  token?: string
  tls?: { ca?: string; cert?: string; key?: string }
  /** As the user knows it. */
  name: string
}

export interface Ask {
  /** Sent as JSON. */
  body?: unknown
  /** What is undefined is left out. */
  query?: Record<string, string | number | boolean | undefined>
  /** Until the answer's head. Default 30,000; 0 waits for ever. */
  timeoutMs?: number
  signal?: AbortSignal
  accept?: string
  /** JSON is an answer whatever its status is: a probe's 503. A problem document is none. */
  anyStatus?: boolean
}

/** Longest answer that is read whole. */
const MOST_BYTES = 64 * 2 ** 20

/** A problem document (RFC 9457) as the endpoint sends it. */
interface Problem {
  code?: string
  detail?: string
  title?: string
  retryAfterMs?: number
  scope?: string
  [more: string]: unknown
}

/** What can be done about a refusal. */
function hintFor(status: number, { code = '', retryAfterMs, scope }: Problem, token: boolean): string | undefined {
  if (status === 401) return token ? 'the token is not one that it takes' : 'give a token: LAMEDUCK_OPS_TOKEN or --token-file FILE'
  if (retryAfterMs !== undefined) return `try again in ${Math.ceil(retryAfterMs / 1_000)} s`
  if (code.endsWith('_SCOPE')) return `needs a token with scope ${scope ?? 'for it'}: LAMEDUCK_OPS_TOKEN or --token-file FILE`
  if (status === 421) return 'its option `hosts` must list the name that is asked for'
  if (code.endsWith('_BUSY')) return 'see `lameduck ops jobs`'
  if (code.endsWith('_HEADROOM')) return '`lameduck ops heap profile` needs less; --force takes the snapshot anyway'
  if (code.endsWith('_BLOCKED')) return 'see where it hangs: `lameduck ops stack`, `lameduck ops cpu`'
  if (code.endsWith('_LAST')) return '--force does it anyway'
  if (status === 404 && code.endsWith('_NOT_FOUND')) return 'not there, or not switched on in this process'
  return undefined
}

function refusal(status: number, document: Problem | undefined, token: boolean): Failure {
  const exit = [401, 403, 421].includes(status) ? EXIT.refused : EXIT.failed
  if (!document) {
    const hint = 'is this a maintenance endpoint? If it is mounted under a path, --url needs that, too'
    return new Failure('ERR_LAMEDUCK_CLI_ANSWER', `an answer with status ${status} and without a problem document`, { exit, hint })
  }
  const { code = 'ERR_LAMEDUCK_CLI_ANSWER', detail, title } = document
  return new Failure(code, oneLine(detail ?? title ?? `status ${status}`), { exit, hint: hintFor(status, document, token) })
}

const HINTS: Record<string, string> = {
  ENOENT: 'the process is gone, or listens elsewhere',
  ECONNREFUSED: 'the process is gone, or listens elsewhere',
  EACCES: 'the socket belongs to another user: run this as that one',
  ENOTFOUND: 'there is no such host',
  ERR_TLS_CERT_ALTNAME_INVALID: 'the certificate is for another name',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'say whom to trust: --ca FILE',
  SELF_SIGNED_CERT_IN_CHAIN: 'say whom to trust: --ca FILE',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'say whom to trust: --ca FILE',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'say whom to trust: --ca FILE',
}

/** A connection that did not come about, or broke. */
export function unreachable({ name }: Target, error: unknown): Failure {
  if (error instanceof Failure) return error
  const { code = 'ERR_LAMEDUCK_CLI_CONNECTION', message } = error as NodeJS.ErrnoException
  return new Failure('ERR_LAMEDUCK_CLI_UNREACHABLE', `${name} cannot be reached: ${code === 'ECONNRESET' ? 'the connection was closed' : oneLine(message)}`, { exit: EXIT.unreachable, hint: HINTS[code] })
}

/** Talks to one endpoint. */
export class Client {
  readonly target: Target

  constructor(target: Target) {
    this.target = target
  }

  /** Options of a request, for `node:http` and `ws`. */
  get options(): Pick<https.RequestOptions, 'socketPath' | 'ca' | 'cert' | 'key'> & { headers: Record<string, string> } {
    const { socketPath, token, tls } = this.target
    return {
      headers: { 'user-agent': 'lameduck-cli', ...(token !== undefined && { authorization: `Bearer ${token}` }) },
      ...(socketPath !== undefined && { socketPath }),
      ...tls,
    }
  }

  get<T = unknown>(path: string, ask?: Ask): Promise<T> {
    return this.json<T>('GET', path, ask)
  }

  post<T = unknown>(path: string, body?: object, ask?: Ask): Promise<T> {
    return this.json<T>('POST', path, { ...(body && { body }), ...ask })
  }

  /** @throws {Failure} */
  async json<T>(method: string, path: string, ask?: Ask): Promise<T> {
    const text = await this.text(method, path, ask)
    try {
      return (text === '' ? undefined : JSON.parse(text)) as T
    } catch {
      throw new Failure('ERR_LAMEDUCK_CLI_ANSWER', `${method} ${path}: the answer is no JSON`, { hint: 'is this a maintenance endpoint?' })
    }
  }

  /** @throws {Failure} */
  async text(method: string, path: string, ask?: Ask): Promise<string> {
    return this.#whole(await this.open(method, path, ask))
  }

  /**
   * The answer as it comes in.
   *
   * @throws {Failure} For everything but a status of 2xx, unless `anyStatus`: 4 for 401, 403 and 421, 3 when nobody answers.
   */
  async open(method: string, path: string, ask: Ask = {}): Promise<IncomingMessage> {
    const answer = await this.#send(method, path, ask)
    const { statusCode = 0, headers } = answer
    if (statusCode >= 200 && statusCode < 300) return answer
    if (ask.anyStatus && /^application\/json\b/.test(headers['content-type'] ?? '')) return answer
    throw refusal(statusCode, /^application\/problem\+json\b/.test(headers['content-type'] ?? '') ? this.#problem(await this.#whole(answer)) : void answer.destroy(), this.target.token !== undefined)
  }

  /** What an upgrade was refused with. */
  async refusalOf(answer: IncomingMessage): Promise<Failure> {
    return refusal(answer.statusCode ?? 0, this.#problem(await this.#whole(answer)), this.target.token !== undefined)
  }

  #send(method: string, path: string, { body, query = {}, timeoutMs = 30_000, signal, accept = 'application/json' }: Ask): Promise<IncomingMessage> {
    const url = this.urlOf(path)
    for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, String(value))
    const sent = body === undefined ? undefined : JSON.stringify(body)
    const { headers, ...options } = this.options
    return new Promise((resolve, reject) => {
      const request = (url.protocol === 'https:' ? https : http).request(url, {
        ...options,
        method,
        agent: false,
        headers: { ...headers, accept, ...(sent !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(sent) }) },
        ...(signal && { signal }),
      })
      const timer = timeoutMs === 0 ? undefined : setTimeout(() => {
        request.destroy(new Failure('ERR_LAMEDUCK_CLI_TIMEOUT', `${method} ${path}: no answer within ${timeoutMs / 1_000} s`, { exit: EXIT.unreachable }))
      }, timeoutMs)
      request.once('response', answer => {
        clearTimeout(timer)
        resolve(answer)
      })
      request.once('error', error => {
        clearTimeout(timer)
        reject(signal?.aborted ? error : unreachable(this.target, error))
      })
      request.end(sent)
    })
  }

  /** @param path From the endpoint's root; may have a query. */
  urlOf(path: string): URL {
    const url = new URL(this.target.url)
    const [, name = '', query = ''] = /^([^?#]*)(\?[^#]*)?/.exec(path) ?? []
    // Not by resolving: `//host/path` would lead the token to another host.
    url.pathname = `${url.pathname.replace(/\/$/, '')}${name}`
    url.search = query
    return url
  }

  async #whole(answer: IncomingMessage): Promise<string> {
    const chunks: Buffer[] = []
    let size = 0
    try {
      for await (const chunk of answer as AsyncIterable<Buffer>) {
        size += chunk.length
        if (size > MOST_BYTES) throw new Failure('ERR_LAMEDUCK_CLI_ANSWER', 'the answer is too long')
        chunks.push(chunk)
      }
    } catch (error) {
      throw unreachable(this.target, error)
    }
    return Buffer.concat(chunks).toString('utf8')
  }

  #problem(text: string): Problem | undefined {
    try {
      const document = JSON.parse(text) as unknown
      return typeof document === 'object' && document !== null ? document as Problem : undefined
    } catch {
      return undefined
    }
  }
}
