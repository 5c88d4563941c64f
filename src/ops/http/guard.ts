import type { IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { Problem } from './problem.ts'

/** Where a request wants to go. */
export interface Target {
  /** As it came, without prefix and query. */
  path: string
  /** As they came: only a parameter's is decoded. */
  segments: string[]
  query: URLSearchParams
}

/** Anything but the visible part of ASCII. */
const STRANGE = /[^!-~]/

/** `name`, `address` or `[address]`, and a port. */
const HOST = /^(\[[0-9a-f:.]+\]|[^:[\]@/\\?#\s]+)(?::(\d{1,5}))?$/i

function refusePath(what: string): never {
  throw new Problem(400, 'ERR_LAMEDUCK_OPS_PATH', `the request's target ${what}`)
}

/**
 * Takes the request's target apart. Nothing is ever normalised into something else: what a proxy, a cache and we could read differently is refused.
 *
 * @throws {Problem} 400 `ERR_LAMEDUCK_OPS_PATH`
 */
export function targetOf(url: string, prefix = ''): Target {
  // Also "*", "host:port" and "http://…".
  if (!url.startsWith('/')) refusePath('does not begin with "/"')
  if (STRANGE.test(url) || url.includes('#') || url.includes('\\')) refusePath('holds a character that may not be in one')
  const at = url.indexOf('?')
  const whole = at === -1 ? url : url.slice(0, at)
  if (whole.includes('//')) refusePath('holds an empty segment')
  // An encoded "/", "\", ".", "%" or control character is a second meaning that somebody on the way may see, or not.
  if (/%(?![0-9a-f]{2})|%(?:2f|5c|2e|25|[01][0-9a-f]|7f)/i.test(whole)) refusePath('holds an encoding that may not be in one')
  const parts = whole.split('/').slice(1)
  if (parts.some(part => part === '.' || part === '..')) refusePath('holds a dot segment')
  try {
    decodeURIComponent(whole)
  } catch {
    refusePath('is not UTF-8')
  }
  const within = prefix !== '' && (whole === prefix || whole.startsWith(`${prefix}/`))
  const path = within ? whole.slice(prefix.length) || '/' : whole
  const query = at === -1 ? '' : url.slice(at + 1)
  if (/%(?![0-9a-f]{2})/i.test(query)) refusePath('holds an encoding that may not be in one')
  return { path, segments: path.split('/').slice(1), query: new URLSearchParams(query) }
}

/** Headers that decide who one is and what one asks: of two, nobody knows which counts (RFC 9112 §3.2). */
const SINGLE = new Set(['host', 'authorization', 'origin', 'content-length', 'content-type', 'transfer-encoding'])

function checkSingle(req: IncomingMessage): void {
  const seen = new Set<string>()
  for (let i = 0; i < req.rawHeaders.length; i += 2) {
    const name = (req.rawHeaders[i] as string).toLowerCase()
    if (!SINGLE.has(name)) continue
    if (seen.has(name)) throw new Problem(400, 'ERR_LAMEDUCK_OPS_HEADER', `there is more than one ${name} header`)
    seen.add(name)
  }
}

/** Nothing but `100-continue` can be expected of us (RFC 9110 §10.1.1); HTTP/1.0 knows none. @throws {Problem} 417 `ERR_LAMEDUCK_OPS_EXPECT` */
export function checkExpectation({ headers, httpVersion }: IncomingMessage): void {
  const { expect = '' } = headers
  if (expect === '' || httpVersion === '1.0' || expect.toLowerCase() === '100-continue') return
  throw new Problem(417, 'ERR_LAMEDUCK_OPS_EXPECT', 'what the Expect header asks for is not done here')
}

/** An IPv4 address on a socket that takes both is written as IPv6. */
export const plainAddress = (address = '') => address.replace(/^::ffff:(?=\d+\.)/i, '')

/** Keeps out what a web page of somebody else can send through a browser: under a name of its own (DNS rebinding), or across origins. */
export class Guard {
  #hosts: ReadonlySet<string>

  /** @param hosts In lower case; none: any. */
  constructor(hosts: readonly string[]) {
    this.#hosts = new Set(hosts)
  }

  /** @throws {Problem} 400, 403 `ERR_LAMEDUCK_OPS_ORIGIN`, 421 `ERR_LAMEDUCK_OPS_HOST` */
  check(req: IncomingMessage): void {
    checkSingle(req)
    const { host } = req.headers
    if (host === undefined && req.httpVersion !== '1.0') throw new Problem(400, 'ERR_LAMEDUCK_OPS_HEADER', 'the Host header is missing')
    if (!this.#knows(host ?? '', req)) throw new Problem(421, 'ERR_LAMEDUCK_OPS_HOST', 'the endpoint does not answer under this name')
    const { origin } = req.headers
    const site = req.headers['sec-fetch-site']
    const foreign = (origin !== undefined && !this.#own(origin, host ?? '', req)) || (site !== undefined && site !== 'same-origin' && site !== 'none')
    if (foreign) throw new Problem(403, 'ERR_LAMEDUCK_OPS_ORIGIN', 'a page of another origin may not ask here')
  }

  #knows(host: string, req: IncomingMessage): boolean {
    if (this.#hosts.size === 0) return true
    const [, name = ''] = HOST.exec(host.toLowerCase()) ?? []
    if (name === '') return false
    // The address that the connection came in on: whoever has it in `Host` was not led here by a name.
    const { localAddress } = req.socket
    const own = localAddress !== undefined && name.replace(/^\[|\]$/g, '') === plainAddress(localAddress)
    return own || this.#hosts.has(name) || this.#hosts.has(host.toLowerCase())
  }

  /** Whether it is the page that came from here. Behind a proxy that ends TLS its scheme is not ours. */
  #own(origin: string, host: string, req: IncomingMessage): boolean {
    const { encrypted } = req.socket as TLSSocket
    const given = origin.toLowerCase()
    return host !== '' && (given === `https://${host.toLowerCase()}` || (!encrypted && given === `http://${host.toLowerCase()}`))
  }
}
