import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import https from 'node:https'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { neighbourhood } from './doorkeeper.ts'
import type { Visitors } from './listener.ts'
import { Problem } from './problem.ts'
import { SECURITY_LINES } from './respond.ts'
import { Turnstile, WINDOW_MS } from './turnstile.ts'

/** A reader that takes nothing for so long has gone. */
export const STALL_MS = 60_000

/** What is still being answered when the listener closes has so long. */
export const LAST_MS = 500

/** A connection that has sent nothing for so long is closed: nobody needs that long to say who they are. */
export const MOST_SILENT_MS = 2_000

/**
 * So long a new connection is let be when there are too many: what it sends at once is on its way, and may have a token. One that is sent away comes
 * again: shorter than a stranger has to wait, this would be a way past the turnstile.
 */
const GRACE_MS = WINDOW_MS

/** How often to look whether there are still too many. */
const SWEEP_MS = 100

/** Of the cap: with so many nobody has a grace, and with twice as many nobody is let in. */
const FLOOD = 4

/** What Node's parser found, as an answer. */
function faultOf(code: string | undefined): Problem {
  if (code === 'HPE_HEADER_OVERFLOW') return new Problem(431, 'ERR_LAMEDUCK_OPS_HEAD_SIZE', "the request's head is too large")
  if (code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') return new Problem(413, 'ERR_LAMEDUCK_OPS_BODY_SIZE', 'the chunk extensions are too large')
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return new Problem(408, 'ERR_LAMEDUCK_OPS_TIMEOUT', 'the request was not whole in time')
  return new Problem(400, 'ERR_LAMEDUCK_OPS_HTTP', 'this is no HTTP request')
}

/** So many requests of a stranger may wait for their answers on one connection: what is read at once is thousands, which would be held in memory. */
const MOST_PIPELINED = 32

/** One connection. */
interface Peer {
  /** As it was accepted: below TLS. */
  raw: Socket
  /** What requests come on: with TLS, once that is safe, a socket of its own. */
  socket: Socket | undefined
  place: string
  since: number
  /** Answers on their way. */
  busy: number
  /** The last request. */
  req: IncomingMessage | undefined
  /** A WebSocket by now, or asks for one. */
  upgraded: boolean
}

/** Keeps an eye on the connections of one server, and on how many there are. */
export class Sockets {
  /** The oldest first. */
  #peers = new Map<Socket, Peer>()
  #bySocket = new Map<Socket, Peer>()
  #visitors: Visitors
  #most: number
  #isInsider: boolean
  #sweeper: NodeJS.Timeout | undefined
  #turnstile = new Turnstile<Peer>()

  constructor(server: http.Server, visitors: Visitors, { connections, requestMs }: { connections: number; requestMs: number }, isInsider: boolean) {
    this.#visitors = visitors
    this.#most = connections
    this.#isInsider = isInsider
    const tls = server instanceof https.Server
    // A net below our own count, which knows whom to send away.
    server.maxConnections = connections * FLOOD * 2
    server.on('connection', (socket: Socket) => {
      const peer = this.#enter(socket, requestMs)
      if (peer && !tls) this.#open(peer, socket)
    })
    // With TLS another socket, once it is safe, is the one that requests come on.
    if (tls) server.on('secureConnection', (socket: Socket) => this.#secure(socket))
    server.on('timeout', (socket: Socket) => this.#quiet(socket))
    server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => this.#fault(error, socket as Socket))
    server.on('tlsClientError', (error: unknown, socket: Socket) => visitors.refused(socket, 400, 'ERR_LAMEDUCK_OPS_TLS'))
    server.on('drop', () => visitors.refused(undefined, 503, 'ERR_LAMEDUCK_OPS_CONNECTIONS'))
  }

  /** One more answer on its way. @returns Whether there is to be one: not on a connection that has gone, nor on one of a stranger who does not wait. */
  busy(req: IncomingMessage, res: ServerResponse): boolean {
    // Not that of the response, which has none while others are before it.
    const { socket } = req
    const peer = this.#bySocket.get(socket)
    if (!peer || socket.destroyed) return false
    if (peer.busy >= MOST_PIPELINED && !this.#visitors.known(socket)) {
      this.#cut(socket)
      return false
    }
    peer.busy++
    peer.req = req
    res.once('close', () => {
      peer.busy--
    })
    return true
  }

  /** Nothing of ours may come between the answers before it and its own. @returns Whether the connection can be upgraded; otherwise it is cut. */
  mayUpgrade(socket: Socket): boolean {
    if (!this.#isBusy(socket)) {
      const peer = this.#bySocket.get(socket)
      if (peer) peer.upgraded = true
      return true
    }
    // Node has taken its own listeners off.
    socket.on('error', () => {})
    this.#cut(socket)
    return false
  }

  /** Sends a refusal: to a stranger when it is its turn, and until then nothing more is read from there. */
  refuse(socket: Socket, send: () => void): void {
    const peer = this.#bySocket.get(socket)
    if (!peer || this.#visitors.known(socket)) return send()
    this.#turnstile.pass(peer, () => {
      if (socket.destroyed) return
      send()
      if (socket.isPaused() && !this.#turnstile.holds(peer)) socket.resume()
    })
    if (this.#turnstile.holds(peer)) socket.pause()
  }

  /** An upgraded one is its handler's; it is only ended with the rest. */
  destroyAll(): void {
    clearTimeout(this.#sweeper)
    this.#turnstile.close()
    for (const { raw, socket } of this.#peers.values()) {
      socket?.destroy()
      raw.destroy()
    }
  }

  #enter(raw: Socket, requestMs: number): Peer | undefined {
    const kept = [...this.#peers.values()].filter(peer => !this.#isIdle(peer)).length
    if (kept >= this.#most) {
      this.#evict({ raw, socket: undefined })
      return undefined
    }
    const peer: Peer = { raw, socket: undefined, place: neighbourhood(raw), since: performance.now(), busy: 0, req: undefined, upgraded: false }
    this.#peers.set(raw, peer)
    // A shorter time for the whole head is Node's own, with an answer.
    const silent = requestMs > MOST_SILENT_MS ? setTimeout(() => this.#silent(peer), MOST_SILENT_MS).unref() : undefined
    raw.once('close', () => {
      clearTimeout(silent)
      this.#peers.delete(raw)
      this.#turnstile.forget(peer)
    })
    if (this.#peers.size > this.#most * FLOOD) this.#sweep()
    if (this.#peers.size > Math.ceil(this.#most / 2)) this.#soon()
    return peer
  }

  #open(peer: Peer, socket: Socket): void {
    peer.socket = socket
    this.#bySocket.set(socket, peer)
    socket.once('close', () => this.#bySocket.delete(socket))
    if (this.#isInsider) this.#visitors.insider(socket)
  }

  #secure(socket: Socket): void {
    const { remoteAddress, remotePort } = socket
    const peer = [...this.#peers.values()].find(({ raw }) => raw.remotePort === remotePort && raw.remoteAddress === remoteAddress)
    // It has been sent away meanwhile.
    if (!peer) return void socket.destroy()
    return this.#open(peer, socket)
  }

  #isKnown({ socket }: Peer): boolean {
    return socket !== undefined && this.#visitors.known(socket)
  }

  /** Whether it may go for another: no whole request is being answered with anything but a refusal, or is a probe. */
  #isIdle(peer: Peer): boolean {
    const { socket, busy, req, upgraded } = peer
    if (socket === undefined) return true
    if (upgraded && this.#isKnown(peer)) return false
    if (busy === 0 || req?.complete === false || this.#turnstile.holds(peer)) return true
    return busy === 1 && req !== undefined && this.#visitors.isAnybodys(req)
  }

  /** Soon, and then after what has arrived meanwhile was read: it may have a token. */
  #soon(): void {
    this.#sweeper ??= setTimeout(() => setImmediate(() => {
      this.#sweeper = undefined
      if (this.#sweep()) this.#soon()
    }), SWEEP_MS).unref()
  }

  /** Sends away whoever is too many. @returns Whether somebody is left who may have to go in a moment. */
  #sweep(): boolean {
    const over = this.#peers.size - this.#most
    const all = [...this.#peers.values()].filter(peer => this.#isIdle(peer))
    const idle = all.filter(peer => !this.#isKnown(peer))
    let young = this.#thin(idle, over)
    // Not before all strangers: only for somebody who is known, too, and for calls that are being answered.
    young = this.#thin(all.filter(peer => this.#isKnown(peer)), over - idle.length) || young
    // All of a unix socket are one user's.
    if (this.#isInsider) return young
    const silent = new Map<string, Peer[]>()
    for (const peer of idle) {
      if (peer.req === undefined && this.#peers.has(peer.raw)) silent.set(peer.place, [...(silent.get(peer.place) ?? []), peer])
    }
    for (const peers of silent.values()) young = this.#thin(peers, peers.length - Math.ceil(this.#most / 2)) || young
    return young
  }

  /** @returns Whether some were too young to go. */
  #thin(peers: Peer[], over: number): boolean {
    const flooded = this.#peers.size > this.#most * FLOOD
    const oldEnough = performance.now() - (flooded ? 0 : GRACE_MS)
    const going = peers.slice(0, Math.max(0, over))
    const gone = going.filter(({ since }) => since <= oldEnough)
    for (const peer of gone) this.#evict(peer)
    return gone.length < going.length
  }

  #evict({ raw, socket }: Pick<Peer, 'raw' | 'socket'>): void {
    this.#visitors.refused(raw, 503, 'ERR_LAMEDUCK_OPS_CONNECTIONS')
    this.#peers.delete(raw)
    socket?.destroy()
    raw.destroy()
  }

  #cut(socket: Socket): void {
    this.#visitors.refused(socket, 400, 'ERR_LAMEDUCK_OPS_HTTP')
    socket.destroy()
  }

  #silent({ raw, socket, req }: Peer): void {
    if (req !== undefined || (socket !== undefined && socket.bytesRead > 0)) return
    this.#visitors.refused(raw, 408, 'ERR_LAMEDUCK_OPS_TIMEOUT')
    socket?.destroy()
    raw.destroy()
  }

  /** Nothing has moved for a while: an idle connection goes, an event stream stays, a download that nobody takes goes. */
  #quiet(socket: Socket): void {
    if (!this.#isBusy(socket) || socket.writableLength > 0) socket.destroy()
    else socket.setTimeout(STALL_MS)
  }

  #isBusy(socket: Socket): boolean {
    return (this.#bySocket.get(socket)?.busy ?? 0) > 0
  }

  #fault(error: NodeJS.ErrnoException, socket: Socket): void {
    if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
    const problem = faultOf(error.code)
    this.#visitors.refused(socket, problem.status, problem.code)
    // Behind an answer that is on its way these bytes would be a part of it.
    if (this.#isBusy(socket)) return void socket.destroy()
    const body = `${JSON.stringify(problem)}\n`
    return this.refuse(socket, () => {
      socket.end(`HTTP/1.1 ${problem.status} ${http.STATUS_CODES[problem.status]}\r\nConnection: close\r\n${SECURITY_LINES}`
        + `Content-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
      // The rest of what it sends; then its FIN, or not.
      socket.resume()
      setTimeout(() => socket.destroy(), LAST_MS).unref()
    })
  }
}
