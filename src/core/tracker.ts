import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2ServerResponse, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import tls from 'node:tls'
import { Admission } from './admission.ts'
import { Clearing } from './clearing.ts'
import { compat } from './compat.ts'
import { Connection, connectionOf, type Tracking } from './connection.ts'
import { endEventStream, isEventStream } from './event-stream.ts'
import { sayClose } from './farewell.ts'
import { Handshakes } from './handshakes.ts'
import type { TrackerHost } from './host.ts'
import { intercept } from './intercept.ts'
import { Latch } from './latch.ts'
import { Lingering } from './lingering.ts'
import { Listener } from './listener.ts'
import type { Settings } from './options.ts'
import { Partings, type Upgraded } from './partings.ts'
import { Recent } from './recent.ts'
import type { Counters, Destroyed } from './report.ts'
import { Session, sessionOf, socketOf } from './session.ts'
import { isAside } from './served.ts'
import type { Tracked } from './tracked.ts'
import { askIdle } from './tracked-socket.ts'
import { tunnelOf } from './tunnel.ts'
import { Unknown } from './unknown.ts'
import { follow } from './websocket.ts'
import { closeAllConnections, type WrappableServer } from './wrappable.ts'

/** The connections of one server, and what becomes of them phase by phase. */
export class Tracker implements Tracking {
  readonly server: WrappableServer
  readonly order: number
  readonly connections = new Set<Tracked>()
  readonly counters: Counters = { accepted: 0, served: 0, rejected: 0, refused: 0 }
  readonly listener: Listener
  readonly lingering: Lingering
  readonly recent = new Recent()
  readonly partings: Partings
  readonly clearing: Clearing
  /** When the last connection was accepted, on the clock of `performance.now()`. */
  acceptedAt = -Infinity
  #phase: 'running' | 'lameduck' | 'draining' = 'running'
  #settings: Settings
  #host: TrackerHost
  #admission: Admission
  #secure: boolean
  #unknown: Unknown
  /** One that never does is given its connections by somebody else, and Node has no list of them to ask. */
  #listened: boolean
  #handshakes = new Handshakes()
  /** Requests that came with an `Expect` header, once there was one. */
  #expected: WeakSet<ServerResponse> | undefined
  /** The last connection has ended; while a drain waits for that. */
  #empty: Latch | undefined
  #release: () => void

  constructor(server: WrappableServer, order: number, settings: Settings, host: TrackerHost) {
    this.server = server
    this.order = order
    this.#settings = settings
    this.#host = host
    const { fault } = host
    this.lingering = new Lingering(settings.lingerMs, fault)
    this.listener = new Listener(server, fault)
    this.#admission = new Admission(settings, fault)
    this.clearing = new Clearing(this.connections, settings, () => (this.#unknown.excluded && this.#listened ? askIdle(server) : 0), fault)
    this.partings = new Partings(settings, fault)
    this.#unknown = new Unknown(server, this.connections)
    this.#secure = server instanceof tls.Server
    this.#listened = server.listening
    this.#release = intercept(server, (event, first, second, third) => this.#see(event, first, second, third))
  }

  get leaving(): boolean {
    return this.#phase !== 'running'
  }

  /** The numbers as of now: while in rotation the ends of requests are noticed a little later. */
  count(): Counters {
    this.recent.settle()
    return this.counters
  }

  /** Serves on, and asks every client to go elsewhere: responses say `Connection: close`. */
  lameduck(): void {
    if (this.#phase !== 'running') return
    this.#phase = 'lameduck'
    // Without a listener Node answers `Expect: 100-continue` itself, before anyone can refuse the body.
    if (this.#admission.selective && this.server.listenerCount('checkContinue') === 0) {
      this.server.on('checkContinue', this.#continue)
    }
    this.recent.settle()
    this.recent.stop()
    for (const connection of this.connections) connection.lameduck()
  }

  /** Back from lame duck. Responses that have said `close` by now keep their word. */
  resume(): void {
    this.#phase = 'running'
    this.clearing.stop()
    this.listener.comeBack()
    this.server.off('checkContinue', this.#continue)
  }

  /**
   * Closes the listener, then each connection as its turn comes; done when the last one has ended.
   *
   * @param leftMs Until the deadline.
   */
  async drain(leftMs: number): Promise<void> {
    this.lameduck()
    this.#phase = 'draining'
    this.clearing.start()
    // One walk for both: ten thousand idle ones are not to hold up the event loop.
    const upgraded: Upgraded[] = []
    for (const connection of this.connections) {
      if (connection.state === 'active' && this.#settings.endEventStreams) connection.eventStreams().forEach(stream => endEventStream(stream, this.#host.fault))
      upgraded.push(...connection.tunnels())
    }
    this.partings.start(upgraded, leftMs)
    await this.listener.close(() => this.counters.accepted)
    // Not once: as the listener closed, the last one may have ended before another was accepted.
    while (this.connections.size > 0) await (this.#empty = new Latch()).opened
    const { upgradedMs } = this.#settings
    const unknown = setTimeout(() => void this.#unknown.destroy(upgradedMs, entry => this.#host.destroyed(entry)), upgradedMs)
    // One that shows itself by now is cleared as the others were.
    await this.listener.end()
    clearTimeout(unknown)
    this.clearing.stop()
    this.server.off('checkContinue', this.#continue)
  }

  /** Ends everything now: what is left is destroyed, and named. */
  abort(why: 'deadline' | 'abort'): void {
    this.#phase = 'draining'
    this.clearing.stop()
    this.partings.stop()
    this.listener.giveUp()
    for (const connection of this.connections) connection.destroy(why)
    // Those that nobody saw, too.
    closeAllConnections(this.server)
    void this.listener.end()
    this.server.off('checkContinue', this.#continue)
  }

  /** How many connections nobody has seen yet. */
  unknown(): Promise<number> {
    return this.#unknown.count()
  }

  /** Removes every listener and property that this tracker added. */
  unwrap(): void {
    this.#release()
    this.server.off('checkContinue', this.#continue)
    this.listener.unwrap()
    this.clearing.stop()
    this.recent.stop()
    this.lingering.stop()
    this.partings.stop()
    for (const connection of this.connections) connection.release()
    this.connections.clear()
    this.#handshakes.clear()
  }

  // What its connections tell it.

  served(): void {
    this.counters.served++
  }

  idle(): void {
    this.clearing.wake()
  }

  gone(connection: Tracked): void {
    this.connections.delete(connection)
    if (connection instanceof Connection) this.#handshakes.forget(connection)
    this.clearing.changed()
    if (this.connections.size > 0) return
    this.lingering.stop()
    this.partings.stop()
    this.#empty?.open()
    this.#host.emptied()
  }

  patched(): void {
    this.#unknown.patched()
  }

  destroyed(entry: Destroyed, isConnection?: boolean): void {
    this.#host.destroyed(entry, isConnection)
  }

  sayClose(res: ServerResponse, connection: Connection): void {
    sayClose(res, connection, () => this.leaving, () => {
      if (isEventStream(res)) this.eventStream(res)
    })
  }

  eventStream(stream: Writable): void {
    // One that begins now: its client has its answer, and comes back to somebody else.
    if (this.#phase === 'draining' && this.#settings.endEventStreams) setImmediate(endEventStream, stream, this.#host.fault)
  }

  // What the server sees.

  #see(event: string | symbol, first: unknown, second: unknown, third: unknown): boolean {
    switch (event) {
      case 'request':
        // The application's `checkContinue` listener hands on what came by here before.
        if (this.#expected?.has(second as ServerResponse)) return false
        return this.#requested(first as IncomingMessage, second as ServerResponse)
      case 'checkContinue':
      case 'checkExpectation':
        ;(this.#expected ??= new WeakSet()).add(second as ServerResponse)
        return this.#requested(first as IncomingMessage, second as ServerResponse)
      case 'connection':
        this.#connected(first as Socket)
        return false
      case 'secureConnection':
        this.#secured(first as Socket)
        return false
      case 'upgrade':
        if (this.#upgraded(first as IncomingMessage)) return true
        follow(first as IncomingMessage, second, third)
        return false
      case 'connect':
        return this.#upgraded(first as IncomingMessage)
      case 'session':
        this.#session(first as ServerHttp2Session)
        return false
      case 'stream':
        return this.#streamed(first as ServerHttp2Stream, second as IncomingHttpHeaders)
      case 'unknownProtocol':
        // Of a client that wants neither HTTP/2 nor 1: what it sends is no request, and the application may have it.
        connectionOf(first as Socket)?.upgraded()
        return false
      case 'clientError':
        if ((first as NodeJS.ErrnoException | undefined)?.code === 'ERR_HTTP_REQUEST_TIMEOUT') connectionOf(second as Socket)?.timedOut()
        return false
      case 'timeout':
        // Node destroys the socket next, unless somebody listened.
        process.nextTick(() => connectionOf(first as Socket)?.timedOut(true))
        return false
      case 'listening':
        this.#listened = true
        this.listener.opened()
        // A start-up that overlaps a drain: what comes late is not opened.
        if (this.#phase === 'draining') void this.listener.close(() => this.counters.accepted).then(() => this.listener.end())
        return false
      case 'error':
        this.listener.failed()
        return false
      case 'close':
        return this.listener.holdsClose
      default:
        return false
    }
  }

  #connected(socket: Socket): void {
    this.counters.accepted++
    this.acceptedAt = performance.now()
    if (this.#secure) this.#handshakes.began(this.#track(socket, true))
    else this.#track(socket)
  }

  #secured(socket: Socket): void {
    const connection = this.#handshakes.done(socket, this.connections)
    if (connection) connection.secured(socket)
    else this.#track(socket)
  }

  /** What was a connection by now turns out to be a session. One from before wrap() shows itself with its next stream. */
  #session(http2: ServerHttp2Session): Session {
    const socket = socketOf(http2)
    // Around a stream that is no socket Node puts one of its own.
    const connection = connectionOf(socket) ?? connectionOf((socket as { stream?: Socket }).stream ?? null)
    if (connection) this.connections.delete(connection)
    const session = new Session(http2, connection?.socket ?? socket, this)
    this.connections.add(session)
    this.clearing.wake()
    return session
  }

  /** @returns Whether it is answered here, and so kept from the application. */
  #streamed(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): boolean {
    const http2 = stream.session as ServerHttp2Session | undefined
    if (!http2 || http2.destroyed) return false
    const session = sessionOf(http2) ?? this.#session(http2)
    session.opened(stream, headers)
    // As with an upgrade of HTTP/1: what begins now would only be cut.
    if (this.#phase === 'draining' && tunnelOf(stream)) {
      this.counters.rejected++
      this.#admission.refuse(stream)
      return true
    }
    // With a listener of `request` there will be that, too; unless the application has one of each: Node's own is the other.
    if (this.server.listenerCount('request') > 0 && this.server.listenerCount('stream') < 2) return false
    const health = this.#host.health?.concerns(headers[':method'], headers[':path'])
    if (!health && !(this.#phase === 'draining' && this.#admission.selective)) return false
    return this.#answered(...compat(stream, headers))
  }

  #track(socket: Socket, handshake = false): Connection {
    // Of which it was a tunnel, or half of this very one.
    connectionOf(socket)?.handedOn()
    const connection = new Connection(socket, this, handshake)
    this.connections.add(connection)
    this.clearing.wake()
    return connection
  }

  /** @returns Whether it is answered here, or not at all, and so kept from the application. */
  #requested(req: IncomingMessage, res: ServerResponse): boolean {
    // `reject` may have handed it on to the application. `req.socket` is not to be touched there.
    if (req.httpVersionMajor === 2) return isAside((res as unknown as Http2ServerResponse).stream) ? false : this.#answered(req, res)
    // A socket that was open before wrap() shows itself with its next request.
    const connection = connectionOf(req.socket) ?? this.#track(req.socket)
    // `reject` hands it on to the application, maybe when others have come behind it.
    if (connection.last === res || isAside(res)) return false
    if (connection.over) {
      this.counters.refused++
      req.resume()
      return true
    }
    connection.requested(res)
    if (this.#phase !== 'running') this.sayClose(res, connection)
    return this.#answered(req, res)
  }

  #answered(req: IncomingMessage, res: ServerResponse): boolean {
    if (this.#host.health?.answer(req, res)) return true
    if (this.#phase !== 'draining' || this.#admission.admits(req)) return false
    this.counters.rejected++
    void this.#admission.reject(req, res)
    return true
  }

  #upgraded(req: IncomingMessage): boolean {
    // CONNECT of HTTP/2 is a stream as any other.
    if (req.httpVersionMajor === 2) return false
    const { socket } = req
    const connection = connectionOf(socket) ?? this.#track(socket)
    if (this.#phase !== 'draining' && !connection.over) {
      connection.upgraded(req)
      return false
    }
    // Node has taken its own listeners off the socket: nobody else reads it to its end or hears its errors.
    socket.on('error', () => socket.destroy())
    socket.resume()
    // Behind requests in flight there is nothing to write yet; the last of those says `close`, and that is the answer.
    if (connection.state === 'active') {
      this.counters.refused++
      return true
    }
    this.counters.rejected++
    connection.close(this.#admission.refusal)
    return true
  }

  /** What Node does when nobody listens for `checkContinue`; the request comes by here first, and may have been refused. */
  #continue = (req: IncomingMessage, res: ServerResponse): void => {
    res.writeContinue()
    this.server.emit('request', req, res)
  }
}
