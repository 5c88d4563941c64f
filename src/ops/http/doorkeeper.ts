import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { PeerCertificate, TLSSocket } from 'node:tls'
import { messageOf } from '../../core/thrown.ts'
import type { AuthOptions, Settings } from '../options.ts'
import { Buckets, Failures } from './buckets.ts'
import { plainAddress } from './guard.ts'
import { Keyring, type Found } from './keyring.ts'
import { Problem } from './problem.ts'
import { SCOPES, type Principal, type Scope } from './route.ts'
import { SHORTEST_TOKEN } from './token.ts'

/** How long the application's own `authorize` may take. */
const AUTHORIZE_MS = 1_000

export type Authorize = NonNullable<AuthOptions['authorize']>

/** The same for every path and every fault: who has no token learns nothing. Made once: a stack for each of a flood would be work. */
const UNKNOWN = new Problem(401, 'ERR_LAMEDUCK_OPS_TOKEN', 'a valid token is needed, as `Authorization: Bearer …`')

/** `Bearer` and a token of a length that may be one. */
const BEARER = new RegExp(`^Bearer +([A-Za-z0-9\\-._~+/]{${SHORTEST_TOKEN},}=*)$`, 'i')

/** A certificate's `fingerprint256`. A subject's name that looks like one is no name: it would be another certificate's. */
const FINGERPRINT = /^[0-9a-f]{2}(?::[0-9a-f]{2}){31}$/i

/** Somebody, and whether what says so still counts: a connection lives longer than a token may. */
type Known = Omit<Principal, 'from' | 'withheld'> & Pick<Found, 'inForce'>

/** For routes that are for everybody. */
const NOBODY: Omit<Principal, 'from'> = { name: '-', scopes: new Set() }

/** Where a request comes from: `address:port`, or `unix`. */
function fromOf(socket: Socket): string {
  const { remoteAddress, remotePort } = socket
  if (remoteAddress === undefined) return 'unix'
  const address = plainAddress(remoteAddress)
  return address.includes(':') ? `[${address}]:${remotePort}` : `${address}:${remotePort}`
}

/** Whom the failures of a connection count against. An IPv6 host has a whole /64 of addresses to come from. */
export function neighbourhood(socket: Socket): string {
  const address = plainAddress(socket.remoteAddress)
  if (address === '') return 'unix'
  if (!address.includes(':')) return address
  const [head = '', tail] = address.replace(/%.*$/, '').split('::')
  const parts = head === '' ? [] : head.split(':')
  const rest = tail === undefined || tail === '' ? [] : tail.split(':')
  const all = tail === undefined ? parts : [...parts, ...Array<string>(Math.max(0, 8 - parts.length - rest.length)).fill('0'), ...rest]
  return `${all.slice(0, 4).join(':')}::/64`
}

function throttled(waitMs: number, detail: string): Problem {
  return new Problem(429, 'ERR_LAMEDUCK_OPS_THROTTLED', detail, { retryAfterMs: Math.ceil(waitMs) })
}

function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** Knows who is who: by token, by client certificate, by what the application says, or by having been able to open the unix socket. */
export class Doorkeeper {
  #settings: Settings
  #keyring: Keyring
  #authorize: Authorize | undefined
  #log: (message: string) => void
  /** Of callers with nothing like a token, and of those with one that only the application can know: a flood of the former must not lock out the latter. */
  #without: Failures
  #wrong: Failures
  #calls: Buckets
  /** Connections on which somebody was known already, and whether that one still is: no stranger's flood can lock them out. */
  #known = new WeakMap<Socket, Known['inForce']>()
  /** Who was let in by the application before the last of these is asked for again. */
  #reloads = 0
  /** Connections that came in through our own unix socket. One of an application that listens on a unix socket is another matter. */
  #insiders = new WeakSet<Socket>()
  /** Requests that anybody may make. */
  #anybodys = new WeakSet<IncomingMessage>()

  /** @throws {LameduckError} `ERR_LAMEDUCK_OPTION` for a token file that cannot be used. */
  constructor(settings: Settings, authorize: Authorize | undefined, note: (what: Record<string, unknown>) => void, log: (message: string) => void) {
    this.#settings = settings
    this.#keyring = new Keyring(settings.auth, note)
    this.#authorize = authorize
    this.#log = log
    this.#without = new Failures(settings.limits.failures)
    this.#wrong = new Failures(settings.limits.failures)
    this.#calls = new Buckets(settings.limits.calls)
  }

  /** Notes a connection that came in through our own unix socket. */
  insider(socket: Socket): void {
    this.#insiders.add(socket)
  }

  /** Whether somebody was authorised on this connection who still is, and nobody failed since. */
  knows(socket: Socket): boolean {
    return !socket.destroyed && this.#known.get(socket)?.() === true
  }

  /** Who asks for what anybody may. */
  anybody(req: IncomingMessage): Principal {
    this.#anybodys.add(req)
    return { ...NOBODY, from: fromOf(req.socket) }
  }

  /** Whether it asks for that. */
  isAnybodys(req: IncomingMessage): boolean {
    return this.#anybodys.has(req)
  }

  reload(): { tokens: number; failed: string[] } {
    this.#reloads++
    return this.#keyring.reload()
  }

  close(): void {
    this.#keyring.close()
  }

  /**
   * Who is asking. What we can tell by ourselves is always looked at: 256 random bits cannot be guessed at any speed, and strangers who come from
   * where an operator comes from, as all do behind a proxy, are not to lock it out.
   *
   * @param isAgain Of a call that was let in, and lasts: that ends when this fails, so that it is no way to guess.
   * @throws {Problem} 401, the same for whatever is wrong; 429 with `retryAfterMs` when too many failed before (the application is not asked then),
   *   or when this caller asks too often; 503 `ERR_LAMEDUCK_OPS_AUTHORIZE` when the application's function gave no answer.
   */
  async admit(req: IncomingMessage, path: string, isAgain = false): Promise<Principal> {
    const { socket } = req
    const { authorization } = req.headers
    const [, token] = BEARER.exec(authorization ?? '') ?? []
    const found = token === undefined ? undefined : this.#keyring.find(token)
    const own = found && !found.expired ? found : authorization === undefined ? this.#byCertificate(socket) : undefined
    const who = own ?? await this.#byOthers(req, path, token, found, isAgain)
    this.#known.set(socket, who.inForce)
    const busyMs = this.#calls.of(who.name).take()
    if (busyMs > 0) throw throttled(busyMs, 'too many calls')
    return { name: who.name, scopes: who.scopes, from: fromOf(socket) }
  }

  /** Whom the application knows, and who could open the unix socket. Each try counts as a failure until it was none. */
  async #byOthers(req: IncomingMessage, path: string, token: string | undefined, found: Found | undefined, isAgain: boolean): Promise<Known> {
    const { socket, headers } = req
    // Nobody needs a token for a unix socket that is open to all who can reach it: nothing to fail, nothing to throttle.
    const open = headers.authorization === undefined ? this.#ofSocket(socket) : undefined
    const known = this.knows(socket) ? this.#known.get(socket) : undefined
    const counted = !open && !known && !isAgain
    const failures = token === undefined ? this.#without : this.#wrong
    const place = neighbourhood(socket)
    const waitMs = counted ? failures.take(place) : 0
    if (waitMs > 0) throw throttled(waitMs, 'too many failed before')
    if (found) this.#log(`the token of ${found.name} has expired`)
    // One try at a time goes uncounted: a thousand that were sent at once would all be under way before the first of them has failed.
    if (!isAgain) this.#known.delete(socket)
    const who = (this.#authorize ? await this.#byApplication(this.#authorize, req, path).catch((error: unknown) => {
      // The application's fault, not theirs.
      if (known) this.#known.set(socket, known)
      throw error
    }) : undefined) ?? open
    if (!who) {
      this.#known.delete(socket)
      if (!counted) failures.take(place)
      throw UNKNOWN
    }
    if (counted) failures.giveBack(place)
    return who
  }

  /** By its fingerprint, or its subject's name; both only if one of our authorities signed it and it is still good. */
  #byCertificate(socket: Socket): Known | undefined {
    const { certificates } = this.#settings.auth
    const tls = socket as TLSSocket
    // Of one that has been destroyed there is none any more.
    if (!certificates || !tls.encrypted || !tls.authorized || tls.destroyed) return undefined
    const { subject, fingerprint256, valid_to } = (tls.getPeerCertificate() ?? {}) as Partial<PeerCertificate>
    // A connection may live longer than the certificate it began with.
    if (!subject || !valid_to || Date.parse(valid_to) < Date.now()) return undefined
    // A subject may have several names; one that does is nobody.
    const names: unknown[] = [fingerprint256, subject.CN]
    const isOne = (name: unknown): name is string => typeof name === 'string' && Object.hasOwn(certificates, name)
    const name = names.filter(isOne).find(name => name === fingerprint256 || !FINGERPRINT.test(name))
    return name === undefined ? undefined : { name, scopes: new Set(certificates[name]), inForce: () => this.#byCertificate(socket) !== undefined }
  }

  async #byApplication(authorize: Authorize, req: IncomingMessage, path: string): Promise<Known | undefined> {
    const reloads = this.#reloads
    const headers = Object.fromEntries(Object.entries(req.headers).map(([name, value]) => [name, String(value)]))
    try {
      const request = { method: req.method ?? '', path, headers, from: fromOf(req.socket) }
      const said = await within(AUTHORIZE_MS, Promise.resolve(authorize(request)))
      if (said === null || said === undefined) return undefined
      const { name, scopes } = said
      if (typeof name !== 'string' || name === '' || !Array.isArray(scopes) || !scopes.every(scope => SCOPES.includes(scope))) {
        throw new TypeError(`authorize returned something else than null or { name, scopes } with scopes of ${SCOPES.join(', ')}`)
      }
      return { name: name.slice(0, 64), scopes: new Set<Scope>(scopes), inForce: () => this.#reloads === reloads }
    } catch (error) {
      this.#log(`authorize: ${messageOf(error)}`)
      throw new Problem(503, 'ERR_LAMEDUCK_OPS_AUTHORIZE', 'it cannot be found out now who may do this')
    }
  }

  /** Whoever could open the socket, 0600 in a folder of ours, is this user or root. */
  #ofSocket(socket: Socket): Known | undefined {
    const scopes = this.#settings.auth.socket ?? []
    return this.#insiders.has(socket) && scopes.length > 0 ? { name: 'socket', scopes: new Set(scopes), inForce: () => true } : undefined
  }
}
