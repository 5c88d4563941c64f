import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Destroyed, InFlight } from './report.ts'

/** Where a socket keeps its connection: a property costs less than a map, and goes with the socket. */
const CONNECTION = Symbol('lameduck.connection')

/** On a response that is not the application's (health, 503): not counted as served. */
const ASIDE = Symbol('lameduck.aside')

type TrackedSocket = Socket & { [CONNECTION]?: Connection | undefined }
type TrackedResponse = ServerResponse & { [ASIDE]?: true }

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
  readonly lingerMs: number
  /** The server is out of rotation: its connections are to end with care. */
  readonly leaving: boolean
  served(): void
  idle(connection: Connection): void
  gone(connection: Connection): void
  destroyed(entry: Destroyed): void
}

/** The connection of a socket, if it is tracked. */
export function connectionOf(socket: Socket | null): Connection | undefined {
  return (socket as TrackedSocket | null)?.[CONNECTION]
}

/** Leaves a response out of the count of what the application served. */
export function setAside(res: ServerResponse): void {
  ;(res as TrackedResponse)[ASIDE] = true
}

// Shared by all requests and connections: a closure per request would be felt.

function onResponseClose(this: ServerResponse): void {
  connectionOf(this.req.socket)?.responded(this)
}

function onSocketClose(this: Socket): void {
  connectionOf(this)?.closed()
}

/**
 * In place of `destroySoon()`, which Node calls after a response that said `Connection: close`: it would close the socket
 * with unread bytes in it (pipelined requests, the rest of an upload), and the RST that follows overtakes the response.
 */
function lingerSoon(this: Socket): void {
  connectionOf(this)?.close()
}

/**
 * In place of `end()`, once it has been called: Node's HTTP server answers the peer's FIN with another one, and a finished
 * stream makes an Error of that, with a stack, which nobody sees. For 10,000 connections that was a third of the drain's CPU time.
 */
function endedAlready(this: Socket): Socket {
  return this
}

function endLinger(connection: Connection): void {
  connection.destroy('linger')
}

/** RFC 9112 §6.3: a request without either header has no body. */
function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

function path(url = ''): string {
  const query = url.indexOf('?')
  return query === -1 ? url : url.slice(0, query)
}

/** One connection of a client, TLS included, from the accept to the end. */
export class Connection {
  /** The socket that HTTP runs on; until a TLS handshake is done, the TCP socket. */
  socket: Socket
  /** When it became what it is (accepted, active, idle), on the clock of `performance.now()`. */
  since: number
  /** The socket's `bytesRead` as the last request ended: any more is the beginning of another one. */
  seen = 0
  /** Who is at the other end of a TLS handshake. */
  peer: string | undefined = undefined
  /** A response that says `Connection: close` is on its way (RFC 9112 §9.6). */
  saidClose = false
  /** The last request handed to the application and not answered yet. Responses go out in order, so it is the one that may say `close`. */
  last: ServerResponse | undefined = undefined
  #tracking: Tracking
  #state: 'handshake' | 'http' | 'upgraded' | 'closing'
  #used = false
  #inFlight = 0
  /** The last response was finished before its request had arrived whole: what still comes is the rest of that. */
  #uploading = false
  /** `seen` is known before the response has closed. */
  #marked = false
  #reported = false
  /** The pipelined ones before `last`. */
  #earlier: ServerResponse[] | undefined = undefined
  #linger: NodeJS.Timeout | undefined = undefined

  constructor(socket: Socket, tracking: Tracking, handshake: boolean) {
    this.socket = socket
    this.since = performance.now()
    this.#tracking = tracking
    this.#state = handshake ? 'handshake' : 'http'
    this.#attach()
  }

  get state(): ConnectionState {
    if (this.#state !== 'http') return this.#state
    if (this.#inFlight > 0) return 'active'
    return this.#used ? 'idle' : 'fresh'
  }

  /** What still arrives cannot be answered any more, and so must not be executed. */
  get over(): boolean {
    return this.saidClose || this.#state === 'closing'
  }

  /** Half a head (or half a handshake) was received and waits for its rest. A stream that is no socket counts no bytes. */
  get partial(): boolean {
    return (this.socket.bytesRead ?? this.seen) !== this.seen
  }

  /** A handshake on a unix socket: there is no telling which TLS socket will come out of it. */
  get nameless(): boolean {
    return this.#state === 'handshake' && this.socket.remotePort === undefined
  }

  /** The TLS handshake is done: HTTP runs on `socket` from now on. */
  secured(socket: Socket): void {
    this.#detach()
    this.socket = socket
    this.since = performance.now()
    this.#state = 'http'
    this.#attach()
  }

  /** A request was handed to the application. */
  requested(res: ServerResponse): void {
    if (this.#inFlight++ === 0) this.since = performance.now()
    else if (this.last) (this.#earlier ??= []).push(this.last)
    this.last = res
    this.#used = true
    this.#uploading = false
    this.#marked = false
    if (this.#tracking.leaving && !hasBody(res.req)) this.#mark()
    res.on('close', onResponseClose)
  }

  /** Its response has closed: flushed to the kernel, or aborted with the connection. `finish` alone would miss the latter. */
  responded(res: TrackedResponse): void {
    if (res.writableFinished && res[ASIDE] === undefined) this.#tracking.served()
    if (--this.#inFlight > 0) return
    this.last = undefined
    this.#earlier = undefined
    this.since = performance.now()
    if (!this.#marked) this.seen = this.socket.bytesRead ?? 0
    this.#uploading = !res.req.complete
    if (this.#state === 'http') this.#tracking.idle(this)
  }

  /** The socket left HTTP/1; its request has no response of ours to wait for. */
  upgraded(): void {
    this.#state = 'upgraded'
    this.since = performance.now()
  }

  /** From now on every end of this connection is a FIN with a linger, never a RST over a response. Undone by `relax()`. */
  careful(): void {
    this.socket.destroySoon = lingerSoon
    if (this.last?.req.complete) this.#mark()
  }

  relax(): void {
    if (Object.hasOwn(this.socket, 'destroySoon')) delete (this.socket as Partial<Socket>).destroySoon
  }

  /**
   * Says goodbye and queues our FIN. From here on no request on this connection is executed: after a FIN there is no way
   * to answer it. Reads nothing more, not even the peer's FIN, until `linger()`.
   */
  finish(farewell?: string): void {
    if (this.#state === 'closing') return
    if (this.#state === 'handshake') {
      // There is no TLS session to close politely, and nothing unread: this is a plain FIN.
      this.socket.destroy()
      return
    }
    this.#state = 'closing'
    if (farewell === undefined) this.socket.end()
    else this.socket.end(farewell)
    this.socket.end = endedAlready
    this.socket.pause()
  }

  /** After `finish()`: reads on and discards until the peer's FIN, for a bounded time (RFC 9112 §9.6). */
  linger(): void {
    if (this.#state !== 'closing' || this.#linger !== undefined || this.socket.destroyed) return
    this.socket.resume()
    this.#linger = setTimeout(endLinger, this.#tracking.lingerMs, this)
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
    this.#report('head')
    this.close(this.#uploading ? undefined : 'HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n')
  }

  /** Ends it now, whatever is unsent, and says so in the report. */
  destroy(why: Destroyed['why']): void {
    if (this.socket.destroyed) return
    this.#report(why)
    this.socket.destroy()
  }

  /** The requests in flight, oldest first. */
  inFlight(): InFlight[] {
    if (!this.last) return []
    const ageMs = Math.round(performance.now() - this.since)
    const open = [...(this.#earlier ?? []).filter(res => !res.closed), this.last]
    return open.map(({ req }) => ({ method: req.method ?? '', path: path(req.url), ageMs }))
  }

  /** The socket has closed. Pipelined responses that never had the socket get no `close` event: hence this clears them all. */
  closed(): void {
    clearTimeout(this.#linger)
    ;(this.socket as TrackedSocket)[CONNECTION] = undefined
    this.#tracking.gone(this)
  }

  /** Leaves the socket as it was found. */
  release(): void {
    clearTimeout(this.#linger)
    this.relax()
    this.#detach()
  }

  /** The request in flight has arrived whole: what comes from here on is another one, and half a head of that gets its time. */
  #mark(): void {
    this.seen = this.socket.bytesRead ?? 0
    this.#marked = true
  }

  /** Once for each connection: what ended it is what counts. */
  #report(why: Destroyed['why']): void {
    if (this.#reported) return
    this.#reported = true
    const [request] = this.inFlight()
    const { remoteAddress, remotePort } = this.socket
    this.#tracking.destroyed({
      why,
      state: this.state,
      ageMs: Math.round(performance.now() - this.since),
      ...(request && { method: request.method, path: request.path }),
      ...(remoteAddress !== undefined && { remote: `${remoteAddress}:${remotePort}` }),
      unsentBytes: this.socket.writableLength,
    })
  }

  #attach(): void {
    ;(this.socket as TrackedSocket)[CONNECTION] = this
    this.socket.on('close', onSocketClose)
    if (this.#tracking.leaving) this.careful()
  }

  #detach(): void {
    // Not `delete`: that would turn the socket into a slow and larger dictionary.
    ;(this.socket as TrackedSocket)[CONNECTION] = undefined
    this.socket.off('close', onSocketClose)
  }
}
