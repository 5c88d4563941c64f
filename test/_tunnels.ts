import { once } from 'node:events'
import http2, { type ClientHttp2Stream, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type http from 'node:http'
import type { AddressInfo } from 'node:net'
import { after } from 'node:test'
import { wrap, type Duck, type Options } from '../src/core/index.ts'
import type { Address } from './_client.ts'
import { connectTo, type Kind } from './_http2.ts'
import { endLeftovers } from './_leftovers.ts'
import { CLOSE, frame, FrameReader, type Frame } from './_websocket.ts'
import { CERTIFICATE, listen, QUICK } from './_world.ts'

after(endLeftovers)

export const OPTIONS = { ...QUICK, deadlineMs: 20_000, upgradedMs: 10_000 }

export const TUNNEL = { ':method': 'CONNECT', ':authority': 'db:5432', ':path': undefined }
export const WEBSOCKET = { ':method': 'CONNECT', ':protocol': 'websocket', 'sec-websocket-version': '13' }

export interface Site {
  duck: Duck
  address: Address
  /** Opens a stream, and has both its ends. */
  open(headers: object, path?: string): Promise<[client: ClientHttp2Stream, server: ServerHttp2Stream]>
  /** Opens one without waiting for anybody. */
  ask(headers: object, path?: string): ClientHttp2Stream
}

export type Owner = (stream: ServerHttp2Stream, duck: Duck, headers: IncomingHttpHeaders) => void

export const accept: Owner = stream => {
  stream.respond({ ':status': 200 })
  stream.resume()
}

/** A server whose CONNECT streams have an owner, and one session with it. */
export async function site(owner: Owner = accept, options: Options = {}, kind: Kind = 'h2c'): Promise<Site> {
  const settings = { enableConnectProtocol: true }
  const server = kind === 'h2c' ? http2.createServer({ settings }) : http2.createSecureServer({ ...CERTIFICATE, settings })
  const duck = wrap(server, { ...OPTIONS, ...options })
  const opened = new Map<string, ServerHttp2Stream>()
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {})
    if (headers[':method'] === 'CONNECT') owner(stream, duck, headers)
    else stream.respond({ ':status': 200 }, { endStream: headers[':path'] !== '/open' })
    opened.set(String(headers['x-id']), stream)
  })
  await listen(server as unknown as http.Server)
  const peer = await connectTo(server)
  let last = 0
  const ask = (headers: object, path = '/') => {
    const stream = peer.open(path, { 'x-id': ++last, ...headers }, { endStream: false })
    stream.on('end', () => stream.end())
    return stream
  }
  return {
    duck,
    address: { host: '127.0.0.1', port: (server.address() as AddressInfo).port },
    ask,
    async open(headers, path) {
      const stream = ask(headers, path)
      const id = String(last)
      await once(stream, 'response')
      return [stream, opened.get(id) as ServerHttp2Stream]
    },
  }
}

/** The frames that a client gets on a stream; it answers a close frame, and ends the stream, as it is told. */
export function speak(stream: ClientHttp2Stream, replies = true): Frame[] {
  const frames: Frame[] = []
  const reader = new FrameReader(one => {
    frames.push(one)
    if (one.opcode === CLOSE && replies) stream.write(frame(CLOSE, one.payload, { mask: true }))
  })
  stream.on('data', chunk => reader.push(chunk as Buffer))
  return frames
}

export const messages = (frames: readonly Frame[]) => frames.filter(({ opcode }) => opcode < 8).map(({ payload }) => payload.toString())
export const codes = (frames: readonly Frame[]) => frames.filter(({ opcode }) => opcode === CLOSE).map(({ payload }) => payload.readUInt16BE())
