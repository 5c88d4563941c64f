import http2, { type ClientHttp2Session, type ClientHttp2Stream, type OutgoingHttpHeaders } from 'node:http2'
import type http from 'node:http'
import net from 'node:net'
import tls from 'node:tls'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap, type Duck, type Options } from '../src/core/index.ts'
import { app } from './_app.ts'
import { freshId } from './_client.ts'
import { leftover } from './_leftovers.ts'
import { addressOf, CERTIFICATE, exchange, listen, QUICK, sendRaw, siteOf, type World } from './_world.ts'

export const KINDS = ['h2c', 'h2'] as const
export type Kind = (typeof KINDS)[number]

export function isHttp2(over: string): over is Kind {
  return (KINDS as readonly string[]).includes(over)
}

/** What became of one stream. */
export interface Outcome {
  id: string
  status: number | undefined
  headers: http2.IncomingHttpHeaders
  text: string
  trailers: http2.IncomingHttpHeaders | undefined
  /** Of the RST_STREAM that ended it, 0 if it ended well. */
  code: number
  /** The whole response arrived. */
  answered: boolean
}

/** A client's session, and what it saw. */
export interface Peer {
  session: ClientHttp2Session
  /** The last stream ids of the GOAWAYs that came, in order. */
  goaways: number[]
  ended: Promise<void>
  ask(path: string, headers?: OutgoingHttpHeaders, body?: string): Promise<Outcome>
  /** Opens a stream and leaves it to the test. */
  open(path: string, headers?: OutgoingHttpHeaders, options?: http2.ClientSessionRequestOptions): ClientHttp2Stream
}

export interface Site2 {
  server: http2.Http2Server
  duck: Duck
  executed: string[]
  connect(options?: http2.ClientSessionOptions | http2.SecureClientSessionOptions): Promise<Peer>
  close(): Promise<void>
}

/** An HTTP/2 server that is not wrapped, and the ids of the requests that it has executed. */
export function createHttp2(kind: Kind, executed: string[], signal?: () => AbortSignal, options: http2.SecureServerOptions = {}): http2.Http2Server {
  const listener = (req: http2.Http2ServerRequest, res: http2.Http2ServerResponse) => {
    const [request, response] = [req, res] as unknown as [http.IncomingMessage, http.ServerResponse]
    const reply = app(exchange(executed, request, response, signal?.()))
    if (reply instanceof Promise) reply.then(value => sendRaw(response, value), () => res.destroy())
    else sendRaw(response, reply)
  }
  return kind === 'h2c' ? http2.createServer(options, listener) : (http2.createSecureServer({ ...CERTIFICATE, ...options }, listener) as unknown as http2.Http2Server)
}

/** Follows what a stream receives, to its end. */
export function outcome(stream: ClientHttp2Stream, id = ''): Promise<Outcome> {
  return new Promise(resolve => {
    const seen = { status: undefined as number | undefined, headers: {} as http2.IncomingHttpHeaders, text: '', trailers: undefined as http2.IncomingHttpHeaders | undefined }
    let whole = false
    stream.setEncoding('utf8')
    stream.on('response', headers => {
      seen.headers = headers
      seen.status = headers[':status']
    })
    stream.on('trailers', trailers => {
      seen.trailers = trailers
    })
    stream.on('data', (text: string) => {
      seen.text += text
    })
    stream.on('end', () => {
      whole = true
    })
    stream.on('error', () => {})
    stream.on('close', () => {
      const code = stream.rstCode
      resolve({ id, ...seen, code, answered: whole && !stream.aborted && code === 0 && seen.status !== undefined })
    })
  })
}

export function peerOf(session: ClientHttp2Session): Peer {
  const goaways: number[] = []
  session.on('goaway', (_code, last) => goaways.push(last))
  session.on('error', () => {})
  const ended = new Promise<void>(resolve => session.once('close', () => resolve()))
  session.once('close', leftover(() => session.destroy()))
  const open: Peer['open'] = (path, headers = {}, options) => {
    const stream = session.request({ ':path': path, ...headers }, options)
    stream.on('error', () => {})
    return stream
  }
  return {
    session,
    goaways,
    ended,
    open,
    ask(path, headers = {}, body) {
      const id = freshId()
      const stream = open(path, { 'x-id': id, ...(body !== undefined && { ':method': 'POST' }), ...headers })
      stream.end(body)
      return outcome(stream, id)
    },
  }
}

/** A client's session with a server of these tests. */
export async function connectTo(server: net.Server, options: http2.ClientSessionOptions | http2.SecureClientSessionOptions = {}): Promise<Peer> {
  const { ca, path, host, port } = addressOf(server as http.Server)
  const connect = (path: string) => (ca === undefined ? net.connect(path) : tls.connect({ path, ca, servername: 'localhost', ALPNProtocols: ['h2'] }))
  const at = path === undefined ? { host, port } : { createConnection: () => connect(path) }
  const session = http2.connect(`${ca === undefined ? 'http' : 'https'}://localhost${port === undefined ? '' : `:${port}`}`, { ...(ca !== undefined && { ca }), ...at, ...options } as http2.SecureClientSessionOptions)
  const peer = peerOf(session)
  await new Promise((resolve, reject) => {
    session.once('remoteSettings', resolve)
    session.once('error', reject)
  })
  return peer
}

/** A wrapped HTTP/2 server that listens. */
export async function startHttp2(kind: Kind, options: Options = {}, how: { unix?: boolean; server?: http2.SecureServerOptions } = {}): Promise<Site2> {
  const executed: string[] = []
  const server = createHttp2(kind, executed, () => duck.signal, how.server)
  const duck = wrap(server, { ...QUICK, ...options })
  await listen(server as unknown as http.Server, how.unix)
  return {
    server,
    duck,
    executed,
    connect: client => connectTo(server, client),
    async close() {
      await duck.abort('the test is over')
    },
  }
}

/** node:http2 for the scenarios, with the application of all of them. */
export function http2World(kind: Kind): World {
  return {
    name: kind,
    tls: kind === 'h2',
    lacks: ['catch'],
    async start(_app, setup = {}) {
      const executed: string[] = []
      // For the suite, which needs no more than it has in common with those, it is an http.Server.
      const server = createHttp2(kind, executed, () => duck.signal) as unknown as http.Server
      const duck = wrap(server, { ...QUICK, ...setup.options })
      await listen(server, setup.unix)
      return siteOf(server, duck, executed)
    },
  }
}

/** Waits until something is so. */
export async function until(what: string, so: () => boolean, ms = 15_000): Promise<void> {
  for (const limit = performance.now() + ms; !so(); await sleep(2)) {
    if (performance.now() > limit) throw new Error(`${what}: not within ${ms} ms`)
  }
}
