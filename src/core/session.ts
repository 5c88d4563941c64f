import type { IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { answerField, whenAnswered } from './answered.ts'
import type { ConnectionState, Tracking } from './connection.ts'
import { isEventStreamType } from './event-stream.ts'
import type { Lingerer } from './lingering.ts'
import type { Settling } from './recent.ts'
import { ageOf, carrierOf, obituary, pathOf, type Destroyed, type InFlight } from './report.ts'
import { isAside } from './served.ts'
import type { Tracked } from './tracked.ts'
import { hold, holderOf, letGo, restore, type Holder } from './tracked-socket.ts'
import { Tunnel, tunnelOf } from './tunnel.ts'

/** RFC 9113 §7 */
const NO_ERROR = 0

/** How often a peer that is still sending gets the time of a linger. */
const MOST_LINGERS = 10

/** A request of a session, and its response. */
interface Exchange {
  readonly stream: ServerHttp2Stream
  readonly headers: IncomingHttpHeaders
  /** When its head was received, on the clock of `performance.now()`. */
  readonly since: number
  /** Hears of its end; in rotation nobody listens. */
  closed: (() => void) | undefined
  /** Somebody waits for its head. */
  watched: boolean
}

/** One that its client will ask for again: see `event-stream.ts`. */
function isEventStream({ stream, headers }: Exchange): boolean {
  return headers[':method'] === 'GET' && !stream.destroyed && isEventStreamType(answerField(stream, 'content-type')) && answerField(stream, 'content-length') === ''
}

const sessions = new WeakMap<ServerHttp2Session, Session>()

export function sessionOf(http2: ServerHttp2Session): Session | undefined {
  return sessions.get(http2)
}

/** The socket under a session. `session.socket` is a proxy that throws on what may not be touched, but its methods are the socket's own, and `off` returns that. */
export function socketOf(http2: ServerHttp2Session): Socket {
  return http2.socket.off('lameduck', () => {})
}

/** What was written has reached the kernel, our FIN behind it. Shared by all sockets. */
function onFinish(this: Socket): void {
  ;(holderOf(this) as Session | undefined)?.flushed()
}

/**
 * One HTTP/2 session. It says goodbye by GOAWAY: streams that are open finish, then Node ends it; a stream that comes later is
 * refused by Node in a way that its client may retry, and never reaches the application (RFC 9113 §6.8, §8.7).
 */
export class Session implements Tracked, Holder, Settling, Lingerer {
  readonly socket: Socket
  since: number
  readonly partial = false
  readonly nameless = false
  #http2: ServerHttp2Session
  #tracking: Tracking
  #open = new Set<Exchange>()
  #used = false
  /** The most streams at a time since the server left rotation. */
  #peak = 0
  /** When the last stream was, or the session itself. */
  #arrived: number
  /** It waits for its look in `Recent`. */
  #recent = false
  /** We have sent GOAWAY. */
  #away = false
  #reported = false
  /** The socket's `bytesRead` when its linger was last looked at. */
  #heard: number | undefined
  #lingers = 0

  constructor(http2: ServerHttp2Session, socket: Socket, tracking: Tracking) {
    this.#http2 = http2
    this.socket = socket
    this.#tracking = tracking
    this.since = Math.ceil(performance.now())
    this.#arrived = this.since
    sessions.set(http2, this)
    if (!hold(socket, this)) tracking.patched()
  }

  get state(): ConnectionState {
    for (const { stream } of this.#open) if (!stream.destroyed || this.#isCut(stream)) return 'active'
    if (this.#away || this.#http2.closed || this.#http2.destroyed) return 'closing'
    return this.#used ? 'idle' : 'fresh'
  }

  /** One that is in use is never quiet: it gets as long, from the moment that the idle ones are closed, to offer a good one. */
  get quietSince(): number {
    if (this.#away) return Infinity
    return this.#used ? Math.min(this.#arrived, this.#tracking.clearing.since) : this.#arrived
  }

  get leaving(): boolean {
    return this.#tracking.leaving
  }

  /** A stream was handed to the application. */
  opened(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    // A client's reset may overtake the event.
    if (stream.destroyed) return
    const { leaving, recent } = this.#tracking
    if (!leaving && !this.#recent) {
      this.#recent = true
      recent.add(this)
    }
    const since = leaving ? Math.ceil(performance.now()) : recent.now
    if (this.#open.size === 0) this.since = since
    this.#arrived = since
    this.#used = true
    const exchange: Exchange = { stream, headers, since, closed: undefined, watched: false }
    this.#open.add(exchange)
    if (headers[':method'] === 'CONNECT') this.#tunnel(exchange)
    if (!leaving) return
    this.#listen(exchange)
    this.#watchHead(exchange)
    const { size } = this.#open
    this.#peak = Math.max(this.#peak, size)
    // Not at once: what arrived together with it is still on its way through Node's parser, and would be refused.
    if (this.#tracking.clearing.since !== Infinity) setImmediate(() => this.#part(size))
  }

  /**
   * A stream has come since then. When with it there were as many as ever, this is the moment: no other is on its way from a client
   * that does so many things at once, and now waits for answers. That is every client that sends one after the other.
   */
  #part(size: number): void {
    if (size >= this.#peak && this.#tracking.clearing.since !== Infinity) this.finish()
  }

  /** Looks which streams have ended, and listens for the end of the others. */
  settle(): void {
    this.#recent = false
    for (const exchange of this.#open) {
      if (exchange.stream.destroyed) this.#ended(exchange, this.#tracking.recent.now)
      else this.#listen(exchange)
    }
  }

  lameduck(): void {
    this.#peak = this.#open.size
    for (const exchange of this.#open) if (!exchange.stream.headersSent) this.#watchHead(exchange)
  }

  eventStreams(): ServerHttp2Stream[] {
    return [...this.#open].filter(isEventStream).map(({ stream }) => stream)
  }

  inFlight(): InFlight[] {
    return [...this.#open].flatMap(exchange => !exchange.stream.destroyed || this.#isCut(exchange.stream) ? this.#describe(exchange) : [])
  }

  /** GOAWAY. Node ends the session by itself, once its last stream is done; Node 20 and 22 do not do even that in `server.close()`. */
  finish(): void {
    if (this.#away || this.socket.destroyed) return
    this.#away = true
    if (this.socket.writableFinished) this.flushed()
    else this.socket.once('finish', onFinish)
    this.#http2.close()
  }

  close(): void {
    this.finish()
  }

  /** Begins by itself, when what was written is flushed: a slow reader must not lose the end of its response. */
  linger(): void {}

  /** Our FIN is out: all that is waited for is the peer's. */
  flushed(): void {
    if (this.socket.destroyed) return
    this.#heard = this.socket.bytesRead
    this.#tracking.lingering.add(this)
  }

  /**
   * A client that still reads its responses says so, by WINDOW_UPDATE and PING; what of that reached a closed socket would be answered
   * with a RST, which overtakes the rest of a response. So it gets its time again, but not for ever.
   */
  giveUp(): void {
    if (this.socket.bytesRead === this.#heard || ++this.#lingers >= MOST_LINGERS) this.destroy('linger')
    else this.flushed()
  }

  expire(): void {
    this.finish()
  }

  tunnels(): Tunnel[] {
    return this.#streams().flatMap(stream => tunnelOf(stream) ?? [])
  }

  destroy(why: Destroyed['why']): void {
    if (this.socket.destroyed) return
    this.#report(why)
    this.socket.destroy()
  }

  /** The socket has closed, and Node has closed every stream that was left. */
  closed(): void {
    letGo(this.socket)
    for (const exchange of this.#open) this.#forget(exchange)
    this.#tracking.gone(this)
  }

  release(): void {
    for (const { stream, closed } of this.#open) {
      if (closed) stream.off('close', closed)
      tunnelOf(stream)?.release()
    }
    this.#open.clear()
    this.socket.off('finish', onFinish)
    sessions.delete(this.#http2)
    restore(this.socket)
  }

  /** Node has given the whole session up, as for a flood: ERR_HTTP2_ERROR, or ERR_HTTP2_TOO_MANY_INVALID_FRAMES. */
  #isCut({ errored }: ServerHttp2Stream): boolean {
    return this.#http2.destroyed && /^ERR_HTTP2_(ERROR|TOO_MANY_)/.test((errored as NodeJS.ErrnoException | null)?.code ?? '')
  }

  #describe({ headers, since }: Exchange): InFlight {
    return {
      method: headers[':method'] ?? '',
      // CONNECT has no path (RFC 9113 §8.5).
      path: pathOf(headers[':path'] ?? headers[':authority']),
      ageMs: ageOf(since),
      ...carrierOf(this.socket),
    }
  }

  #tunnel(exchange: Exchange): void {
    const { stream, headers, since } = exchange
    const tunnel = new Tunnel(stream, this, since, () => [this.#describe(exchange)], this.#tracking)
    if (headers[':protocol'] === 'websocket') tunnel.follow()
  }

  #streams(): ServerHttp2Stream[] {
    return [...this.#open].flatMap(({ stream }) => (stream.destroyed ? [] : stream))
  }

  #listen(exchange: Exchange): void {
    if (exchange.closed) return
    exchange.closed = () => this.#ended(exchange, Math.ceil(performance.now()))
    exchange.stream.on('close', exchange.closed)
  }

  #ended(exchange: Exchange, at: number): void {
    // The session's end may have come first.
    if (!this.#open.has(exchange)) return
    this.#forget(exchange)
    if (this.#open.size > 0) return
    this.since = at
    if (!this.#away) this.#tracking.idle()
  }

  #forget(exchange: Exchange): void {
    const { stream } = exchange
    if (this.#tracking.leaving && this.#isCut(stream)) this.#report('protocol')
    this.#open.delete(exchange)
    // The client's reset is no answer, nor is one of ours that cut it short.
    if (stream.headersSent && !stream.aborted && stream.rstCode === NO_ERROR && !isAside(stream)) this.#tracking.served()
  }

  /** An event stream that begins now is to be ended as those that have begun. */
  #watchHead(exchange: Exchange): void {
    const { stream } = exchange
    if (exchange.watched) return
    exchange.watched = true
    whenAnswered(stream, () => {
      if (isEventStream(exchange)) this.#tracking.eventStream(stream)
    })
  }

  /** Once for each session: what ended it is what counts. */
  #report(why: Destroyed['why']): void {
    if (this.#reported) return
    this.#reported = true
    const unsentBytes = this.#streams().reduce((sum, { writableLength }) => sum + writableLength, this.socket.writableLength)
    this.#tracking.destroyed(obituary(this, why, unsentBytes))
  }
}
