import net from 'node:net'
import tls from 'node:tls'
import type { Address, End } from './_client.ts'
import { leftover } from './_leftovers.ts'

/** Frame types and flags (RFC 9113 §6). */
export const FRAME = { data: 0, headers: 1, rstStream: 3, settings: 4, ping: 6, goaway: 7, windowUpdate: 8, continuation: 9 } as const
const END_STREAM = 1
const END_HEADERS = 4
const ACK = 1

export interface Frame {
  type: number
  flags: number
  stream: number
  payload: Buffer
}

export function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

/** A literal field without indexing (RFC 7541 §6.2.2). */
function field(name: string, value: string): Buffer {
  const text = (s: string) => Buffer.concat([Buffer.from([s.length]), Buffer.from(s)])
  return Buffer.concat([Buffer.from([0]), text(name), text(value)])
}

export function uint32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4)
  values.forEach((value, i) => bytes.writeUInt32BE(value, i * 4))
  return bytes
}

/** An HTTP/2 client that keeps no rule by itself: every frame is the test's. It answers neither PING nor SETTINGS nor a FIN. */
export class RawPeer {
  readonly socket: net.Socket
  readonly frames: Frame[] = []
  /** The ids of the requests, by their streams. */
  readonly asked = new Map<number, string>()
  end: End = 'open'
  #pending = Buffer.alloc(0)
  #next = 1

  constructor(socket: net.Socket) {
    this.socket = socket
    socket.on('data', chunk => this.#received(chunk as Buffer))
    socket.on('end', () => (this.end = 'fin'))
    socket.on('error', () => (this.end = 'reset'))
    socket.once('close', leftover(() => socket.destroy()))
  }

  /** Connects and sends the preface. */
  static async open({ ca, ...where }: Address, initialWindow = 65_535): Promise<RawPeer> {
    const at = { ...where, allowHalfOpen: true } as net.NetConnectOpts
    const socket = ca === undefined ? net.connect(at) : tls.connect({ ...at, ca, servername: 'localhost', ALPNProtocols: ['h2'] })
    await new Promise(resolve => socket.once(ca === undefined ? 'connect' : 'secureConnect', resolve))
    const peer = new RawPeer(socket)
    const settings = Buffer.concat([Buffer.from([0, 4]), uint32(initialWindow)])
    socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(FRAME.settings, 0, 0, settings)]))
    return peer
  }

  /** Opens a stream. @returns Its id. */
  request(path: string, { id = '', method = 'GET', ends = true, more = false }: { id?: string; method?: string; ends?: boolean; more?: boolean } = {}): number {
    const stream = this.#next
    this.#next += 2
    this.asked.set(stream, id)
    this.socket.write(this.head(stream, path, { id, method, ends, more }))
    return stream
  }

  /** The frame that opens a stream; with `more`, its head goes on in a CONTINUATION. */
  head(stream: number, path: string, { id = '', method = 'GET', ends = true, more = false } = {}): Buffer {
    const fields = [field(':method', method), field(':scheme', 'http'), field(':path', path), field(':authority', 'test'), field('x-id', id)]
    return frame(FRAME.headers, (ends ? END_STREAM : 0) | (more ? 0 : END_HEADERS), stream, Buffer.concat(fields))
  }

  continuation(stream: number): void {
    this.socket.write(frame(FRAME.continuation, END_HEADERS, stream, field('x-more', 'x')))
  }

  window(stream: number, bytes: number): void {
    this.socket.write(frame(FRAME.windowUpdate, 0, stream, uint32(bytes)))
  }

  of(type: number, stream?: number): Frame[] {
    return this.frames.filter(frame => frame.type === type && (stream === undefined || frame.stream === stream))
  }

  /** The last stream ids of the GOAWAYs that came. */
  get goaways(): number[] {
    return this.of(FRAME.goaway).map(({ payload }) => payload.readUInt32BE(0))
  }

  /** How many bytes of a response's body came. */
  received(stream: number): number {
    return this.of(FRAME.data, stream).reduce((sum, { payload }) => sum + payload.length, 0)
  }

  /** The stream came to its proper end. */
  whole(stream: number): boolean {
    return this.frames.some(frame => frame.stream === stream && frame.type <= FRAME.headers && (frame.flags & END_STREAM) !== 0)
  }

  /** The error code of the RST_STREAM that ended a stream. */
  reset(stream: number): number | undefined {
    return this.of(FRAME.rstStream, stream)[0]?.payload.readUInt32BE(0)
  }

  #received(chunk: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, chunk])
    while (this.#pending.length >= 9) {
      const length = this.#pending.readUIntBE(0, 3)
      if (this.#pending.length < 9 + length) return
      const [type = 0, flags = 0] = [this.#pending[3], this.#pending[4]]
      const stream = this.#pending.readUInt32BE(5)
      this.frames.push({ type, flags, stream, payload: this.#pending.subarray(9, 9 + length) })
      this.#pending = this.#pending.subarray(9 + length)
      // Without it Node ends the session after a while.
      if (type === FRAME.settings && (flags & ACK) === 0) this.socket.write(frame(FRAME.settings, ACK, 0))
    }
  }
}
