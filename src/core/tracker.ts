import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import https from 'node:https'
import type { Socket } from 'node:net'
import { Admission } from './admission.ts'
import { Connection, connectionOf, type Tracking } from './connection.ts'
import { LameduckError } from './errors.ts'
import { endEventStream, isEventStream } from './event-stream.ts'
import { sayClose } from './farewell.ts'
import type { Health } from './health.ts'
import { intercept } from './intercept.ts'
import { Latch } from './latch.ts'
import { Lingering } from './lingering.ts'
import { Listener } from './listener.ts'
import type { Settings } from './options.ts'
import { Partings } from './partings.ts'
import { Recent } from './recent.ts'
import type { Counters, Destroyed } from './report.ts'
import { Sweep } from './sweep.ts'
import { idleOf } from './tracked-socket.ts'
import { follow, wireOf } from './websocket.ts'

/** A server that lameduck can wrap. */
export type WrappableServer = http.Server | https.Server

/** What a tracker tells the one who leads the drain. */
export interface TrackerHost {
  readonly health: Health | undefined
  /** The last connection has ended. */
  emptied(): void
  destroyed(entry: Destroyed): void
  fault(where: string, error: unknown): void
}

/** Whom a TCP socket of a TLS server belongs to: the TLS socket that comes out of the handshake has the same peer. Unix sockets have no such name. */
function peer(socket: Socket): string | undefined {
  if (socket.remotePort === undefined) return undefined
  return `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress} ${socket.localPort}`
}

/** @throws {LameduckError} `ERR_LAMEDUCK_SERVER` */
export function checkServer(server: unknown): asserts server is WrappableServer {
  if (server instanceof http.Server || server instanceof https.Server) return
  const what = (server as object | undefined)?.constructor?.name ?? typeof server
  throw new LameduckError('ERR_LAMEDUCK_SERVER', `cannot wrap ${what}; allowed: an http.Server or https.Server (for an application of a framework, see lameduck/express, /koa, /hapi)`)
}

/** The connections of one server, and what becomes of them phase by phase. */
export class Tracker implements Tracking {
  readonly server: WrappableServer
  readonly order: number
  readonly connections = new Set<Connection>()
  readonly counters: Counters = { accepted: 0, served: 0, rejected: 0, refused: 0 }
  readonly listener: Listener
  readonly lingering: Lingering
  readonly recent = new Recent()
  readonly partings: Partings
  /** When the last connection was accepted, on the clock of `performance.now()`. */
  acceptedAt = -Infinity
  #phase: 'running' | 'lameduck' | 'draining' = 'running'
  #settings: Settings
  #host: TrackerHost
  #admission: Admission
  #sweep: Sweep
  #secure: boolean
  /** Every socket is held: none was there before, none was patched by somebody else. */
  #complete: boolean
  #patched = false
  #handshakes = new Map<string, Connection>()
  /** Requests that came with an `Expect` header, once there was one. */
  #expected: WeakSet<ServerResponse> | undefined
  #empty = new Latch()
  #release: () => void

  constructor(server: WrappableServer, order: number, settings: Settings, host: TrackerHost) {
    this.server = server
    this.order = order
    this.#settings = settings
    this.#host = host
    this.lingering = new Lingering(settings.lingerMs)
    const fault: TrackerHost['fault'] = (where, error) => host.fault(where, error)
    this.listener = new Listener(server, fault)
    this.#admission = new Admission(settings, fault)
    this.#sweep = new Sweep(this.connections, settings, fault)
    this.partings = new Partings(settings, fault)
    this.#complete = !server.listening
    this.#secure = server instanceof https.Server
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
    this.#makeSure()
    for (const connection of this.connections) {
      const { last } = connection
      if (last === undefined) continue
      connection.lameduck()
      if (!last.headersSent) this.#sayClose(last, connection)
    }
  }

  /** Those that ended a request a moment ago: has half of another one come by now? */
  #makeSure(): void {
    const unsure = [...this.connections].filter(connection => connection.unsure)
    if (unsure.length === 0 || !this.#complete) return
    const idle = idleOf(this.server)
    for (const connection of unsure) connection.sure(idle.has(connection))
  }

  /** Back from lame duck. Responses that have said `close` by now keep their word. */
  resume(): void {
    this.#phase = 'running'
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
    for (const connection of this.connections) for (const res of connection.responses()) this.#endEventStream(res)
    this.#sweep.start()
    this.partings.start(this.connections, leftMs)
    await this.listener.close(() => this.counters.accepted)
    if (this.connections.size > 0) await this.#empty.opened
    this.#sweep.stop()
    const unknown = setTimeout(() => void this.#destroyUnknown(), this.#settings.upgradedMs)
    await this.listener.end()
    clearTimeout(unknown)
    this.server.off('checkContinue', this.#continue)
  }

  /** Ends everything now: what is left is destroyed, and named. */
  abort(why: 'deadline' | 'abort'): void {
    this.#phase = 'draining'
    this.#sweep.stop()
    this.partings.stop()
    this.listener.giveUp()
    for (const connection of this.connections) connection.destroy(why)
    // Those that nobody saw, too.
    this.server.closeAllConnections()
    void this.listener.end()
    this.server.off('checkContinue', this.#continue)
  }

  /** Connections that Node counts and we do not: opened before `wrap()`, and silent since. */
  async unknown(): Promise<number> {
    const all = await new Promise<number>(resolve => this.server.getConnections((error, count) => resolve(error ? 0 : count)))
    const known = [...this.connections].filter(({ socket }) => !socket.destroyed).length
    if (all <= known && !this.#patched) this.#complete = true
    return Math.max(0, all - known)
  }

  /** Removes every listener and property that this tracker added. */
  unwrap(): void {
    this.#release()
    this.server.off('checkContinue', this.#continue)
    this.listener.unwrap()
    this.#sweep.stop()
    this.recent.stop()
    this.lingering.stop()
    this.partings.stop()
    for (const connection of this.connections) {
      connection.release()
      wireOf(connection.socket)?.restore()
    }
    this.connections.clear()
    this.#handshakes.clear()
  }

  // What its connections tell it.

  served(): void {
    this.counters.served++
  }

  idle(): void {
    if (this.#phase === 'draining') this.#sweep.wake()
  }

  gone(connection: Connection): void {
    this.connections.delete(connection)
    const { peer: key } = connection
    if (key !== undefined && this.#handshakes.get(key) === connection) this.#handshakes.delete(key)
    if (this.connections.size > 0) return
    this.lingering.stop()
    this.partings.stop()
    if (this.#phase === 'draining') this.#empty.open()
    this.#host.emptied()
  }

  patched(): void {
    this.#patched = true
    this.#complete = false
  }

  destroyed(entry: Destroyed): void {
    this.#host.destroyed(entry)
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
      case 'listening':
        this.listener.opened()
        // A start-up that overlaps a drain: what comes late is not opened.
        if (this.#phase === 'draining') void this.listener.close(() => this.counters.accepted).then(() => this.listener.end())
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
    if (!this.#secure) {
      this.#track(socket)
      return
    }
    const connection = this.#track(socket, true)
    const key = peer(socket)
    if (key === undefined) return
    connection.peer = key
    this.#handshakes.set(key, connection)
  }

  #secured(socket: Socket): void {
    const key = peer(socket)
    const connection = key === undefined ? this.#begunOnUnixSocket() : this.#handshakes.get(key)
    if (key !== undefined) this.#handshakes.delete(key)
    if (connection) connection.secured(socket)
    else this.#track(socket)
  }

  /** One of those whose handshake has begun: for the count, any is as good as another. */
  #begunOnUnixSocket(): Connection | undefined {
    for (const connection of this.connections) if (connection.nameless && connection.partial) return connection
    return undefined
  }

  #track(socket: Socket, handshake = false): Connection {
    const connection = new Connection(socket, this, handshake)
    this.connections.add(connection)
    if (this.#phase === 'draining') this.#sweep.wake()
    return connection
  }

  /** @returns Whether it is answered here, or not at all, and so kept from the application. */
  #requested(req: IncomingMessage, res: ServerResponse): boolean {
    // A socket that was open before wrap() shows itself with its next request.
    const connection = connectionOf(req.socket) ?? this.#track(req.socket)
    // `reject` hands it on to the application.
    if (connection.last === res) return false
    if (connection.over) {
      this.counters.refused++
      req.resume()
      return true
    }
    connection.requested(res)
    if (this.#phase !== 'running') this.#sayClose(res, connection)
    if (this.#host.health?.answer(req, res)) return true
    if (this.#phase !== 'draining' || this.#admission.admits(req)) return false
    this.counters.rejected++
    this.#admission.reject(req, res)
    return true
  }

  #upgraded(req: IncomingMessage): boolean {
    const { socket } = req
    const connection = connectionOf(socket) ?? this.#track(socket)
    if (this.#phase !== 'draining' && !connection.over) {
      connection.upgraded()
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

  /** Silent since before `wrap()`: nobody can tell what they are waiting for, so they get what an upgraded socket gets. */
  async #destroyUnknown(): Promise<void> {
    const count = await this.unknown()
    const entry: Destroyed = { why: 'unknown', state: 'fresh', ageMs: this.#settings.upgradedMs, unsentBytes: 0 }
    for (let i = 0; i < count; i++) this.#host.destroyed(entry)
    this.server.closeAllConnections()
  }

  #sayClose(res: ServerResponse, connection: Connection): void {
    sayClose(res, connection, () => this.leaving, () => {
      // One that begins now: its client has its answer, and comes back to somebody else.
      if (this.#phase === 'draining') setImmediate(() => this.#endEventStream(res))
    })
  }

  #endEventStream(res: ServerResponse): void {
    if (this.#settings.endEventStreams && isEventStream(res)) endEventStream(res)
  }

  /** What Node does when nobody listens for `checkContinue`; the request comes by here first, and may have been refused. */
  #continue = (req: IncomingMessage, res: ServerResponse): void => {
    res.writeContinue()
    this.server.emit('request', req, res)
  }
}
