import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import https from 'node:https'
import type { AddressInfo, Server, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Settings } from '../options.ts'
import { refusal } from '../refusal.ts'
import { isLoopback } from '../settle.ts'
import { LAST_MS, MOST_SILENT_MS, Sockets, STALL_MS } from './sockets.ts'
import { listenOnSocket } from './unix-socket.ts'

/** An idle connection stays so long: a client with a next request has it ready. */
const KEEP_ALIVE_MS = 2_000

/** How often Node looks for requests that take too long. */
const LOOK_MS = 500

/** Sends a refusal, or keeps it back for a while. */
export type Refuse = (send: () => void) => void

/** What a listener hands over. */
export interface Visitors {
  request(req: IncomingMessage, res: ServerResponse, expects: boolean, refuse: Refuse): void
  upgrade(req: IncomingMessage, socket: Duplex, head: Buffer, refuse: Refuse): void
  /** A connection through our own unix socket. */
  insider(socket: Socket): void
  /** Whether a request on it was authorised, by what is still in force, and none has failed since. */
  known(socket: Socket): boolean
  /** Whether anybody may ask for this: a probe. */
  isAnybodys(req: IncomingMessage): boolean
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

function createServer(settings: Settings): http.Server {
  const { headBytes, requestMs } = settings.limits
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
    ? https.createServer({ ...options, ...tls, requestCert: tls.ca !== undefined, rejectUnauthorized: false, minVersion: 'TLSv1.2', handshakeTimeout: Math.min(requestMs, MOST_SILENT_MS) })
    : http.createServer(options)
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
  const sockets = new Sockets(server, visitors, settings.limits, 'path' in listen)
  const take = (req: IncomingMessage, res: ServerResponse, expects: boolean) => {
    if (!sockets.busy(req, res)) return
    visitors.request(req, res, expects, send => sockets.refuse(req.socket, send))
  }
  const upgrade = (req: IncomingMessage, duplex: Duplex, head: Buffer) => {
    const socket = duplex as Socket
    if (!sockets.mayUpgrade(socket)) return
    visitors.upgrade(req, socket, head, send => sockets.refuse(socket, send))
  }
  server.on('request', (req, res) => take(req, res, false))
  server.on('checkContinue', (req, res) => take(req, res, true))
  // Node would answer by itself, past every check.
  server.on('checkExpectation', (req, res) => take(req, res, false))
  server.on('upgrade', upgrade)
  server.on('connect', upgrade)
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
