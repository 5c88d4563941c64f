import type { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import type { Clearing } from './clearing.ts'
import { isEventStream } from './event-stream.ts'
import type { Lingerer, Lingering } from './lingering.ts'
import type { Partings, Upgraded } from './partings.ts'
import type { Recent, Settling } from './recent.ts'
import { ageOf, carrierOf, obituary, pathOf, type Destroyed, type InFlight } from './report.ts'
import { noteCut, wasServed } from './served.ts'
import type { Tracked } from './tracked.ts'
import { hold, holderOf, letGo, restore, type Holder } from './tracked-socket.ts'
import { wireOf } from './websocket.ts'

/**
 * handshake: TCP is there, TLS not yet         -> fresh
 * fresh:     has not carried a request         -> active, closing
 * active:    at least one request in flight    -> idle, upgraded, closing
 * idle:      kept alive, nothing in flight     -> active, closing
 * upgraded:  left HTTP/1 (WebSocket, CONNECT)  -> its end
 * closing:   our FIN is queued                 -> its end. No request on it reaches the application any more
 */
export type ConnectionState = 'handshake' | 'fresh' | 'active' | 'idle' | 'upgraded' | 'closing'

/** What a connection asks of the one who tracks it. */
export interface Tracking {
  /** The server is out of rotation: its connections are to end with care. */
  readonly leaving: boolean
  readonly clearing: Clearing
  readonly recent: Recent
  readonly lingering: Lingering
  readonly partings: Partings
  served(): void
  /** A connection has become idle. */
  idle(): void
  gone(connection: Tracked): void
  /** A socket that somebody patched. */
  patched(): void
  /** The last request of a connection is to be its last. */
  sayClose(res: ServerResponse, connection: Connection): void
  /** The head of an event stream is out. */
  eventStream(stream: Writable): void
  /** @param isConnection False for one stream of a session that goes on. */
  destroyed(entry: Destroyed, isConnection?: boolean): void
}

/** The connection of a socket, if it is tracked as one; HTTP/2 makes a session of it. */
export function connectionOf(socket: Socket | null): Connection | undefined {
  const holder = holderOf(socket)
  return holder instanceof Connection ? holder : undefined
}

// Shared by all requests: a closure for each would be felt.
function onResponseClose(this: ServerResponse): void {
  connectionOf(this.req.socket)?.responded(this)
}

/** Once for each response, however often it is looked at. */
function awaitClose(res: ServerResponse): void {
  if (!res.listeners('close').includes(onResponseClose)) res.on('close', onResponseClose)
}

/**
 * In place of `end()`, once it has been called: Node's HTTP server answers the peer's FIN with another one, and a finished
 * stream makes an Error of that, with a stack, which nobody sees. For 10,000 connections that was a third of the drain's CPU time.
 */
function endedAlready(this: Socket): Socket {
  return this
}

/** Those that are in the report: few, so a field of each connection would be a waste. */
const reported = new WeakSet<Connection>()

/** The requests of those that were upgraded, likewise. */
const upgrades = new WeakMap<Connection, Pick<IncomingMessage, 'method' | 'url'>>()

/** Those on which a response that says `Connection: close` is on its way (RFC 9112 §9.6); once there is one. */
let farewells: WeakSet<Connection> | undefined

/** The responses that came before the last one and have not closed yet, oldest first; of those connections whose clients pipeline. */
const pipelined = new WeakMap<Connection, ServerResponse[]>()

/** RFC 9112 §6.3: a request without either header has no body. */
function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/** In place of a socket that has closed. A connection may die among V8's old objects, and would keep its socket from the cheap collection of the young. */
const GONE = new Socket().destroy()

/** `Connection.seen` was not read when the last request ended. */
const UNSEEN = -1

/** One connection of a client, TLS included, from the accept to the end. Its fields are few: a server has as many of each as connections. */
export class Connection implements Tracked, Upgraded, Holder, Settling, Lingerer {
  /** The socket that HTTP runs on; until a TLS handshake is done, the TCP socket. */
  socket: Socket
  /** When it became what it is (accepted, active, idle), in whole milliseconds on the clock of `performance.now()`; late by a tick of `Recent` at most. */
  since: number
  /** The socket's `bytesRead` as the last request ended: any more is the beginning of another one. */
  seen = 0
  /** The last request handed to the application, until its end was noticed. Responses go out in order, so it is the one that may say `close`. */
  last: ServerResponse | undefined = undefined
  #tracking: Tracking
  /**
   * uploading: idle, but the last response was finished before its request had arrived whole; what still comes is the rest of that.
   * waiting: idle, and Node's parser said so, too, or had been asked before; until the next request.
   * lingering: closing, and reading on until the peer's FIN.
   */
  #state: 'handshake' | 'fresh' | 'used' | 'uploading' | 'waiting' | 'upgraded' | 'closing' | 'lingering'

  constructor(socket: Socket, tracking: Tracking, handshake: boolean) {
    this.socket = socket
    this.since = Math.ceil(performance.now())
    this.#tracking = tracking
    this.#state = handshake ? 'handshake' : 'fresh'
    if (!hold(socket, this)) tracking.patched()
  }

  get state(): ConnectionState {
    const state = this.#state
    if (state === 'closing' || state === 'lingering') return 'closing'
    if (state === 'upgraded') return state
    if (this.last && !this.last.closed) return 'active'
    return state === 'handshake' || state === 'fresh' ? state : 'idle'
  }

  get carrier(): this {
    return this
  }

  get quietSince(): number {
    const { state } = this
    return state === 'idle' || state === 'fresh' || state === 'handshake' ? this.since : Infinity
  }

  get leaving(): boolean {
    return this.#tracking.leaving
  }

  /** What still arrives cannot be answered any more, and so must not be executed. */
  get over(): boolean {
    return farewells?.has(this) || this.state === 'closing'
  }

  foundIdle(): void {
    if (this.state !== 'idle') return
    if (this.seen === UNSEEN) this.#mark()
    this.#state = 'waiting'
  }

  /**
   * It was idle when Node's parser was asked, which had seen the beginning of another request. In rotation bytes are
   * counted up to 20 ms after an answer, and so may include that.
   */
  get #half(): boolean {
    return this.#state !== 'waiting' && this.since <= this.#tracking.clearing.asked && this.state === 'idle'
  }

  /** Half a head (or half a handshake) was received and waits for its rest, or may have been. A stream that is no socket counts no bytes. */
  get partial(): boolean {
    return this.#half || (this.socket.bytesRead ?? this.seen) !== this.seen
  }

  /** A handshake on a unix socket: there is no telling which TLS socket will come out of it. */
  get nameless(): boolean {
    return this.#state === 'handshake' && this.socket.remotePort === undefined
  }

  /** The TLS handshake is done: HTTP runs on `socket` from now on. */
  secured(socket: Socket): void {
    letGo(this.socket)
    this.socket = socket
    this.since = Math.ceil(performance.now())
    this.#state = 'fresh'
    if (!hold(socket, this)) this.#tracking.patched()
  }

  /** A request was handed to the application. In rotation this is all that a request costs, but for a look at it later. */
  requested(res: ServerResponse): void {
    const { last } = this
    const { leaving, recent } = this.#tracking
    const behind = last !== undefined && !last.closed
    if (behind) this.#precedes(last)
    else if (last) this.#count()
    else if (!leaving) recent.add(this)
    if (!behind) this.since = leaving ? Math.ceil(performance.now()) : recent.now
    this.last = res
    this.seen = UNSEEN
    this.#state = 'used'
    if (behind || leaving) res.on('close', onResponseClose)
    if (leaving && !hasBody(res.req)) this.#mark()
  }

  /**
   * Looks whether the last response has closed; if not, listens for it. `finish` alone would miss an aborted one. When the
   * server leaves at this very moment, half a head may have come since then.
   */
  settle(): void {
    const { last } = this
    if (last === undefined) return
    if (!last.closed) awaitClose(last)
    else {
      if (!this.leaving) this.#mark()
      this.#idle(this.#tracking.recent.now)
    }
  }

  /** A response has closed: flushed to the kernel, or aborted with the connection. */
  responded(res: ServerResponse): void {
    // Node 20 and 22 end the socket when its turn comes; later ones would leave all behind it waiting for ever.
    if (res.socket === null && !res.writableEnded) res.once('socket', socket => socket.destroy())
    if (res !== this.last) {
      if (this.#take(res)) this.#served(res)
      return
    }
    if (this.#back()) return
    if (this.seen === UNSEEN) this.#mark()
    this.#idle(Math.ceil(performance.now()))
  }

  /**
   * The socket left HTTP/1; its request has no response of ours to wait for.
   *
   * @param req Undefined when it never was HTTP.
   */
  upgraded(req?: IncomingMessage): void {
    this.#state = 'upgraded'
    if (req) upgrades.set(this, { method: req.method, url: req.url })
    this.since = Math.ceil(performance.now())
    this.#tracking.clearing.changed()
  }

  /** The head that says `Connection: close` is out. */
  saidClose(): void {
    ;(farewells ??= new WeakSet()).add(this)
  }

  /** The server leaves: from here on it counts what arrives behind a request in flight. */
  lameduck(): void {
    if (this.last?.req.complete) this.#mark()
    this.#sayClose()
  }

  /**
   * Says goodbye and queues our FIN. From here on no request on this connection is executed: after a FIN there is no way
   * to answer it. Reads nothing more, not even the peer's FIN, until `linger()`.
   */
  finish(farewell?: string): void {
    if (this.state === 'closing') return
    if (this.#state === 'handshake') {
      // There is no TLS session to close politely, and nothing unread: this is a plain FIN.
      this.socket.destroy()
      return
    }
    this.#state = 'closing'
    this.socket.end(farewell as string)
    this.socket.end = endedAlready
    this.socket.pause()
  }

  /** After `finish()`: reads on and discards until the peer's FIN, for a bounded time (RFC 9112 §9.6). */
  linger(): void {
    if (this.#state !== 'closing' || this.socket.destroyed) return
    this.#state = 'lingering'
    this.socket.resume()
    this.#tracking.lingering.add(this)
  }

  giveUp(): void {
    this.destroy('linger')
  }

  close(farewell?: string): void {
    this.finish(farewell)
    this.linger()
  }

  /** Half a head (or handshake) has not become whole in time. */
  expire(): void {
    if (this.#state === 'handshake') {
      this.destroy('handshake')
      return
    }
    if (this.seen === UNSEEN && !this.#half) {
      this.close()
      return
    }
    this.#report('head')
    this.close(this.#state === 'uploading' ? undefined : 'HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n')
  }

  /** A limit of Node's own ends it: its request, or half a head, goes with it. */
  timedOut(silent?: true): void {
    const active = this.state === 'active'
    if (this.leaving && (!silent || (active && this.socket.destroyed))) this.#report(active ? 'timeout' : 'head')
  }

  /** Ends it now, whatever is unsent, and says so in the report. */
  destroy(why: Destroyed['why']): void {
    if (this.socket.destroyed) return
    this.#report(why)
    this.socket.destroy()
  }

  /** The responses that have not closed yet, oldest first. */
  responses(): ServerResponse[] {
    if (!this.last || this.last.closed) return []
    return [...(pipelined.get(this) ?? []), this.last].filter(res => !res.closed)
  }

  /** The requests in flight, oldest first; of an upgraded one that which it began with, behind those before it. */
  inFlight(): InFlight[] {
    const rest = { ageMs: ageOf(this.since), ...carrierOf(this.socket) }
    const requests = [...this.responses().map(({ req }) => req), upgrades.get(this)].filter(req => req !== undefined)
    return requests.map(({ method = '', url }) => ({ method, path: pathOf(url), ...rest }))
  }

  eventStreams(): ServerResponse[] {
    return this.responses().filter(isEventStream)
  }

  tunnels(): Upgraded[] {
    return this.state === 'upgraded' ? [this] : []
  }

  ending(): void {
    this.responses().forEach(noteCut)
  }

  /** Its socket is another connection from now on: a tunnel that is handed to a server, or what a PROXY header stood before. */
  handedOn(): void {
    this.#countEarlier()
    this.#count()
    this.#tracking.gone(this)
    // Who has it in a list of his own leaves it alone.
    this.#state = 'closing'
    this.socket = GONE
  }

  /** The socket has closed. Pipelined responses that never had the socket get no `close` event. */
  closed(): void {
    letGo(this.socket)
    this.handedOn()
  }

  /** Leaves the socket as it was found. */
  release(): void {
    restore(this.socket)
    wireOf(this.socket)?.restore()
  }

  #idle(since: number): void {
    const { last } = this
    this.#count()
    // All before the last one have closed. Who took our listeners off a response took its end from us as well.
    this.#countEarlier()
    this.since = since
    if (this.#state !== 'used') return
    if (!last?.req.complete) this.#state = 'uploading'
    else if (this.#tracking.clearing.asked) this.#state = 'waiting'
    this.#tracking.idle()
  }

  /** Another response will go out behind this one. It is counted as it closes: a client that goes on and on has no idle moment. */
  #precedes(res: ServerResponse): void {
    const earlier = pipelined.get(this)
    if (earlier) earlier.push(res)
    else pipelined.set(this, [res])
    awaitClose(res)
  }

  /** Takes one away from those that came before the last. @returns Whether it was one of them. */
  #take(res: ServerResponse): boolean {
    const earlier = pipelined.get(this) ?? []
    const at = earlier.indexOf(res)
    if (at === -1) return false
    earlier.splice(at, 1)
    return true
  }

  #sayClose(): void {
    if (this.last?.headersSent === false) this.#tracking.sayClose(this.last, this)
  }

  /** From Node 24 on one that is destroyed while others are still to be sent before it closes at once. @returns Whether there are such. */
  #back(): boolean {
    const before = pipelined.get(this)?.findLast(res => !res.closed)
    if (!before) return false
    this.#take(before)
    this.#count()
    this.last = before
    if (this.leaving) this.#sayClose()
    return true
  }

  #countEarlier(): void {
    for (const res of pipelined.get(this) ?? []) this.#served(res)
    pipelined.delete(this)
  }

  /** Forgets the last request, which has ended, and counts it if it was served. */
  #count(): void {
    if (this.last) this.#served(this.last)
    this.last = undefined
  }

  #served(res: ServerResponse): void {
    if (wasServed(res)) this.#tracking.served()
  }

  /** What comes from here on is another request, and half a head of that gets its time. */
  #mark(): void {
    this.seen = this.socket.bytesRead ?? 0
  }

  /** Once for each connection: what ended it is what counts. */
  #report(why: Destroyed['why']): void {
    if (reported.has(this)) return
    reported.add(this)
    this.#tracking.destroyed(obituary(this, why, this.socket.writableLength))
  }
}
