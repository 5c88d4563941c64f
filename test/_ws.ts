import { once } from 'node:events'
import type http from 'node:http'
import { WebSocket as WsClient, WebSocketServer, type ServerOptions } from 'ws'
import { wrap, type Duck, type Options } from '../src/core/index.ts'
import { addressOf, CERTIFICATE, createServer, listen, QUICK } from './_world.ts'

export const OPTIONS = { ...QUICK, deadlineMs: 10_000, upgradedMs: 5_000 }

export interface Scene {
  server: http.Server
  wss: WebSocketServer
  duck: Duck
  url: string
  /** The server's side of each client. */
  accepted: import('ws').WebSocket[]
}

/** A `ws` server with nothing but `wrap()`. */
export async function scene(options: Options = {}, ws: ServerOptions = {}, tls = false): Promise<Scene> {
  const server = createServer(tls)
  const wss = new WebSocketServer({ server, ...ws })
  const accepted: Scene['accepted'] = []
  wss.on('connection', socket => accepted.push(socket.on('error', () => {})))
  const duck = wrap(server, { ...OPTIONS, ...options })
  await listen(server)
  const { port } = addressOf(server)
  return { server, wss, duck, accepted, url: `${tls ? 'wss' : 'ws'}://localhost:${port}` }
}

/** What a client got, and how its connection ended. */
export interface Seen {
  messages: (string | Buffer)[]
  closed: Promise<{ code: number, at: number }>
  send(text: string): void
}

/** A client of `ws`. */
export async function dial(url: string, options: import('ws').ClientOptions = {}): Promise<Seen & { client: WsClient }> {
  const client = new WsClient(url.replace('localhost', '127.0.0.1'), { ca: CERTIFICATE.cert, servername: 'localhost', ...options } as object)
  const messages: (string | Buffer)[] = []
  client.on('message', (data, binary) => messages.push(binary ? data as Buffer : String(data as Buffer)))
  const closed = once(client, 'close').then(([code]) => ({ code: code as number, at: performance.now() }))
  await once(client, 'open')
  return { messages, closed, client, send: text => client.send(text) }
}
