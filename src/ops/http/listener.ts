import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import https from 'node:https'
import type { AddressInfo, Server, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Settings } from '../options.ts'
import { refusal } from '../refusal.ts'
import { isLoopback } from '../settle.ts'
import { Problem } from './problem.ts'
import { SECURITY_LINES } from './respond.ts'
import { listenOnSocket } from './unix-socket.ts'

/** An idle connection stays so long: a client with a next request has it ready. */
const KEEP_ALIVE_MS = 2_000

/** How often Node looks for requests that take too long. */
const LOOK_MS = 500

/** A reader that takes nothing for so long has gone. */
const STALL_MS = 60_000

/** What is still being answered when the listener closes has so long. */
const LAST_MS = 500

/** What a listener hands over. */
export interface Visitors {
  request(req: IncomingMessage, res: ServerResponse, expects: boolean): void
  upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void
  /** A connection through our own unix socket. */
  insider(socket: Socket): void
  /** Somebody was sent away before there was a request. */
  refused(socket: Socket | undefined, status: number, code: string): void
}

export interface Listener {
  /** For the `Host` header at least: with `path`, connect there. */
  url: string
  /** Of the unix socket. */
  path?: string
  close(): Promise<void>
}

/** What Node's parser found, as an answer. */
function faultOf(code: string | undefined): Problem {
  if (code === 'HPE_HEADER_OVERFLOW') return new Problem(431, 'ERR_LAMEDUCK_OPS_HEAD_SIZE', "the request's head is too large")
  if (code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') return new Problem(413, 'ERR_LAMEDUCK_OPS_BODY_SIZE', 'the chunk extensions are too large')
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return new Problem(408, 'ERR_LAMEDUCK_OPS_TIMEOUT', 'the request was not whole in time')
  return new Problem(400, 'ERR_LAMEDUCK_OPS_HTTP', 'this is no HTTP request')
}

/** Keeps an eye on the connections of one server. */
class Sockets {
  #all = new Map<Socket, { busy: number }>()
  /** Below TLS: some never get as far as being safe. */
  #raw = new Set<Socket>()
  #visitors: Visitors

  constructor(server: http.Server, visitors: Visitors, isInsider: boolean) {
    this.#visitors = visitors
    // With TLS the same socket, once it is safe, is the one that requests come on.
    server.on(server instanceof https.Server ? 'secureConnection' : 'connection', (socket: Socket) => {
      this.#all.set(socket, { busy: 0 })
      socket.once('close', () => this.#all.delete(socket))
      if (isInsider) visitors.insider(socket)
    })
    server.on('connection', (socket: Socket) => {
      this.#raw.add(socket)
      socket.once('close', () => this.#raw.delete(socket))
    })
    server.on('timeout', (socket: Socket) => this.#quiet(socket))
    server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => this.#fault(error, socket as Socket))
    server.on('tlsClientError', (error: unknown, socket: Socket) => visitors.refused(socket, 400, 'ERR_LAMEDUCK_OPS_TLS'))
    server.on('drop', () => visitors.refused(undefined, 503, 'ERR_LAMEDUCK_OPS_CONNECTIONS'))
  }

  /** One more answer on its way. */
  busy(res: ServerResponse): void {
    const state = res.socket && this.#all.get(res.socket)
    if (!state) return
    state.busy++
    res.once('close', () => state.busy--)
  }

  /** An upgraded one is its handler's; it is only ended with the rest. */
  destroyAll(): void {
    for (const socket of [...this.#all.keys(), ...this.#raw]) socket.destroy()
  }

  /** Nothing has moved for a while: an idle connection goes, an event stream stays, a download that nobody takes goes. */
  #quiet(socket: Socket): void {
    if ((this.#all.get(socket)?.busy ?? 0) === 0 || socket.writableLength > 0) socket.destroy()
    else socket.setTimeout(STALL_MS)
  }

  #fault(error: NodeJS.ErrnoException, socket: Socket): void {
    if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
    const problem = faultOf(error.code)
    this.#visitors.refused(socket, problem.status, problem.code)
    // Behind an answer that is on its way these bytes would be a part of it.
    if ((this.#all.get(socket)?.busy ?? 0) > 0) return void socket.destroy()
    const body = `${JSON.stringify(problem)}\n`
    socket.end(`HTTP/1.1 ${problem.status} ${http.STATUS_CODES[problem.status]}\r\nConnection: close\r\n${SECURITY_LINES}`
      + `Content-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
    // The rest of what it sends; then its FIN, or not.
    socket.resume()
    return void setTimeout(() => socket.destroy(), LAST_MS).unref()
  }
}

function createServer(settings: Settings): http.Server {
  const { headBytes, requestMs, connections } = settings.limits
  const options: http.ServerOptions = {
    maxHeaderSize: headBytes,
    headersTimeout: requestMs,
    // A body has a time of its own, with a better answer; this is the net below it.
    requestTimeout: requestMs + 2 * LOOK_MS,
    connectionsCheckingInterval: Math.min(LOOK_MS, requestMs),
    keepAliveTimeout: KEEP_ALIVE_MS,
    insecureHTTPParser: false,
    // The guard says so in our own words.
    requireHostHeader: false,
    noDelay: true,
  }
  const { listen } = settings
  const tls = listen !== false && 'tls' in listen ? listen.tls : undefined
  const server = tls
    // Whoever has no certificate of ours is a stranger, and may have a token.
    ? https.createServer({ ...options, ...tls, requestCert: tls.ca !== undefined, rejectUnauthorized: false, minVersion: 'TLSv1.2', handshakeTimeout: requestMs })
    : http.createServer(options)
  server.maxConnections = connections
  server.timeout = STALL_MS
  return server
}

function listenOn(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host, port, exclusive: true }, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

async function openPort(server: http.Server, { host = '127.0.0.1', port = 0, tls }: { host?: string; port?: number; tls?: object }): Promise<string> {
  await listenOn(server, host, port)
  const { address, port: actual, family } = server.address() as AddressInfo
  // What `localhost` resolves to is up to somebody else.
  if (isLoopback(host) && !isLoopback(address)) {
    server.close()
    throw refusal('ERR_LAMEDUCK_OPS_INSECURE', `options.listen.host '${host}' resolves to ${address}, which is not loopback`)
  }
  const name = host === 'localhost' ? host : family === 'IPv6' ? `[${address}]` : address
  return `${tls ? 'https' : 'http'}://${name}:${actual}`
}

/**
 * Opens the endpoint's own listener.
 *
 * @throws {LameduckError} `ERR_LAMEDUCK_OPS_FOLDER` or `ERR_LAMEDUCK_OPS_IN_USE` for a unix socket, `ERR_LAMEDUCK_OPS_INSECURE` for a localhost that
 *   is none; the system's error for an address that cannot be had.
 */
export async function openListener(settings: Settings, visitors: Visitors): Promise<Listener> {
  const { listen } = settings
  if (listen === false) throw refusal('ERR_LAMEDUCK_OPTION', 'options.listen is false; allowed for a listener: { path } or { host, port, tls }')
  const server = createServer(settings)
  const sockets = new Sockets(server, visitors, 'path' in listen)
  const take = (req: IncomingMessage, res: ServerResponse, expects: boolean) => {
    sockets.busy(res)
    visitors.request(req, res, expects)
  }
  server.on('request', (req, res) => take(req, res, false))
  server.on('checkContinue', (req, res) => take(req, res, true))
  server.on('upgrade', (req, socket, head) => visitors.upgrade(req, socket, head))
  server.on('connect', (req, socket, head) => visitors.upgrade(req, socket, head))
  let remove = () => {}
  let url = 'http://localhost'
  if ('path' in listen) remove = await listenOnSocket(server, listen.path)
  else url = await openPort(server, listen)
  // From here on an error is one of accepting a connection, as when there are no file descriptors left: the next one may be luckier.
  server.on('error', () => visitors.refused(undefined, 503, 'ERR_LAMEDUCK_OPS_ACCEPT'))
  let closing: Promise<void> | undefined
  const close = async () => {
    remove()
    const closed = new Promise<void>(resolve => server.close(() => resolve()))
    const timer = setTimeout(() => sockets.destroyAll(), LAST_MS)
    await closed
    clearTimeout(timer)
    sockets.destroyAll()
  }
  return { url, ...('path' in listen ? { path: listen.path } : {}), close: () => closing ??= close() }
}
