import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Client } from './_client.ts'

/** One frame on the wire (RFC 6455 §5.2). */
export interface Frame {
  opcode: number
  payload: Buffer
  fin: boolean
}

export const TEXT = 1
export const BINARY = 2
export const CLOSE = 8
export const PONG = 10

/** The bytes of a frame, as a server sends it, or masked as a client has to. */
export function frame(opcode: number, payload: string | Buffer = '', { fin = true, mask = false } = {}): Buffer {
  const body = Buffer.from(payload)
  const { length } = body
  const extended = length < 126 ? 0 : length < 65_536 ? 2 : 8
  const head = Buffer.alloc(2 + extended + (mask ? 4 : 0))
  head[0] = (fin ? 0x80 : 0) | opcode
  head[1] = (mask ? 0x80 : 0) | (extended === 0 ? length : extended === 2 ? 126 : 127)
  if (extended === 2) head.writeUInt16BE(length, 2)
  if (extended === 8) head.writeBigUInt64BE(BigInt(length), 2)
  if (mask) {
    const key = Buffer.from([1, 2, 3, 4])
    key.copy(head, 2 + extended)
    for (let i = 0; i < length; i++) body[i]! ^= key[i % 4]!
  }
  return Buffer.concat([head, body])
}

/** The bytes of a close frame. */
export function closeFrame(code: number, mask = false): Buffer {
  const payload = Buffer.alloc(2)
  payload.writeUInt16BE(code)
  return frame(CLOSE, payload, { mask })
}

/** The head of the answer to a handshake. */
export function switching({ headers }: IncomingMessage): string {
  const accept = createHash('sha1').update(`${headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
  return `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`
}

/** What a client sends. */
export const HANDSHAKE = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
  'Sec-WebSocket-Version': '13',
}

/** An upgrade handler as one writes it by hand: it answers, and knows nothing of close frames. */
export function simple(spoken: (socket: Duplex, req: IncomingMessage) => void = () => {}) {
  return (req: IncomingMessage, socket: Duplex): void => {
    socket.on('error', () => {})
    socket.on('data', () => {})
    socket.write(switching(req))
    spoken(socket, req)
  }
}

/** The frames of one direction. Those of a client it shows masked. */
export class FrameReader {
  #bytes = Buffer.alloc(0)
  #seen: (frame: Frame) => void

  constructor(seen: (frame: Frame) => void) {
    this.#seen = seen
  }

  push(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk])
    for (;;) {
      const [first, second] = this.#bytes
      if (first === undefined || second === undefined) return
      const short = second & 0x7f
      const head = short === 126 ? 4 : short === 127 ? 10 : 2
      if (this.#bytes.length < head) return
      const length = short === 126 ? this.#bytes.readUInt16BE(2) : short === 127 ? Number(this.#bytes.readBigUInt64BE(2)) : short
      if (this.#bytes.length < head + length) return
      const payload = this.#bytes.subarray(head, head + length)
      this.#bytes = this.#bytes.subarray(head + length)
      this.#seen({ fin: first >= 0x80, opcode: first & 0x0f, payload })
    }
  }
}

/** A WebSocket client that shows each frame, and answers none but as it is told. */
export class Peer {
  readonly client: Client
  readonly frames: Frame[] = []
  /** When the close frame came, on the clock of `performance.now()`. */
  closedAt = Number.NaN
  /** What came before the end of the answer's head. */
  #head: Buffer | undefined = Buffer.alloc(0)
  #reader = new FrameReader(frame => this.#seen(frame))
  #replies: boolean

  /** @param replies Whether it answers a close frame with the same one. */
  constructor(client: Client, replies = true) {
    this.client = client
    this.#replies = replies
    client.socket.on('data', chunk => this.#take(chunk))
  }

  /** The handshake. @param also Bytes in the same segment. */
  async open(path = '/', also?: Buffer): Promise<this> {
    this.client.request(path, { headers: HANDSHAKE })
    if (also) this.client.write(also)
    const { status } = await this.client.answer()
    if (status !== 101) throw new Error(`status ${status}`)
    return this
  }

  /** The code of the close frame, once it has come. */
  get code(): number | undefined {
    const close = this.frames.find(({ opcode }) => opcode === CLOSE)
    return close?.payload.length ? close.payload.readUInt16BE() : undefined
  }

  /** Payloads of the frames that are no control frames. */
  get messages(): string[] {
    return this.frames.filter(({ opcode }) => opcode < 8).map(({ payload }) => payload.toString())
  }

  send(opcode: number, payload: string | Buffer = ''): void {
    this.client.write(frame(opcode, payload, { mask: true }))
  }

  #take(chunk: Buffer): void {
    if (!this.#head) {
      this.#reader.push(chunk)
      return
    }
    this.#head = Buffer.concat([this.#head, chunk])
    const end = this.#head.indexOf('\r\n\r\n')
    if (end === -1) return
    const rest = this.#head.subarray(end + 4)
    this.#head = undefined
    this.#reader.push(rest)
  }

  #seen(frame: Frame): void {
    this.frames.push(frame)
    if (frame.opcode !== CLOSE) return
    this.closedAt = performance.now()
    if (this.#replies) this.send(CLOSE, frame.payload)
  }
}
