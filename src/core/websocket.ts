import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { Frames } from './frames.ts'

/** What goes out in place of that which may not follow a close frame: it calls back in its turn, and sends nothing. */
const NOTHING = new Uint8Array(0)

/** A ping of no length that anybody else would think of, masked with zeros as what comes from a client has to be: its pong tells it. */
const PING = Uint8Array.of(0x89, 0x80 | 119, ...new Uint8Array(4 + 119))
const PONG_LENGTH = 119

const WIRE = Symbol('lameduck.wire')

type Callback = (error?: Error | null) => void
type Write = (this: Duplex, chunk: unknown, encoding?: BufferEncoding, callback?: Callback) => boolean
type End = (this: Duplex, ...args: unknown[]) => Duplex
type Push = (this: Duplex, chunk: unknown, encoding?: BufferEncoding) => boolean

type WiredSocket = Duplex & { [WIRE]?: WebSocketWire }

/** The frames of a socket, if it is a WebSocket's. */
export function wireOf(socket: Duplex): WebSocketWire | undefined {
  return (socket as WiredSocket)[WIRE]
}

/**
 * Follows what goes over a socket that is about to become a WebSocket (RFC 6455 §4.2.1).
 *
 * @param stream What the application gets: for a request with a body something other than the socket, from Node 26 on, and no WebSocket.
 * @param head What came right behind the request.
 */
export function follow({ headers, socket }: IncomingMessage, stream: unknown, head: unknown): void {
  // A server may hand on to another one what both see.
  if (stream === socket && headers.upgrade?.toLowerCase() === 'websocket' && !wireOf(socket)) void new WebSocketWire(socket, head)
}

/** Undefined for what no stream takes. */
function bytesOf(chunk: unknown, encoding?: BufferEncoding): Uint8Array | undefined {
  if (typeof chunk === 'string') return Buffer.from(chunk, encoding)
  if (chunk instanceof Uint8Array) return chunk
  return ArrayBuffer.isView(chunk) ? new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength) : undefined
}

/** An owner without a listener for errors would lose the process to a client that is gone when we say goodbye. */
function ignore(): void {}

// In place of a socket's own methods, shared by all sockets.

const methods = {
  write(this: WiredSocket, chunk: unknown, encoding?: BufferEncoding | Callback, callback?: Callback): boolean {
    const wire = this[WIRE] as WebSocketWire
    return typeof encoding === 'function' ? wire.write(chunk, undefined, encoding) : wire.write(chunk, encoding, callback)
  },
  end(this: WiredSocket, ...args: unknown[]): Duplex {
    return (this[WIRE] as WebSocketWire).end(args)
  },
  push(this: WiredSocket, chunk: unknown, encoding?: BufferEncoding): boolean {
    return (this[WIRE] as WebSocketWire).push(chunk, encoding)
  },
}

/** Who is told how far the goodbye of a WebSocket has come. */
export interface Leaver {
  /** With the status code that says why (RFC 6455 §7.4.1). */
  readonly closeFrame: Uint8Array
  /** Our close frame is written, behind all that the application wrote. */
  said(): void
  /** Close frames have passed both ways, or the peer's FIN came in place of its own: it is the server's part to end TCP (§7.1.1). */
  parted(): void
}

/**
 * The bytes of a WebSocket, whoever speaks on it. It knows where frames begin and end, so that a close frame of ours can go
 * between two of the application's; nothing that the application writes follows that (RFC 6455 §5.5.1).
 */
export class WebSocketWire {
  #socket: Duplex
  #write: Write
  #end: End
  #push: Push
  #outgoing: Frames
  #incoming = new Frames(false)
  /** The peer's FIN has come. */
  #fin = false
  /** Since it is to go. */
  #leaver: Leaver | undefined
  /** How many messages the application had begun at the last look, and when it was last asked. */
  #seen = 0
  #asked = -1
  /** Whether messages may be compressed, and so reach the socket some time after the application has sent them. */
  #compresses = false
  /** Our ping among the peer's frames: due as soon as one of those ends, or not answered yet. */
  #ping: 'due' | 'out' | undefined
  /** Our close frame: due as soon as a frame ends, or written. */
  #goodbye: 'due' | 'said' | undefined

  /**
   * @param head What came right behind the request: the first bytes of the peer's frames.
   * @param extensions Of the answer, on a stream of HTTP/2; on a socket they come before the frames.
   */
  constructor(socket: Duplex, head: unknown, extensions?: string) {
    this.#socket = socket
    this.#outgoing = new Frames(extensions === undefined)
    this.#negotiated(extensions)
    this.#write = socket.write as Write
    this.#end = socket.end as End
    this.#push = socket.push as Push
    ;(socket as WiredSocket)[WIRE] = this
    Object.assign(socket, methods)
    if (head instanceof Uint8Array) this.#incoming.push(head)
  }

  /** Leaves the socket as it was found. What somebody has put over ours stays, and ours passes on. */
  restore(): void {
    const found = { write: this.#write, end: this.#end, push: this.#push }
    const inherited = Object.getPrototypeOf(this.#socket) as typeof found
    const own = this.#socket as Partial<typeof found>
    let ours = true
    for (const name of ['write', 'end', 'push'] as const) {
      if (own[name] !== (methods[name] as unknown)) {
        ours = false
        continue
      }
      delete own[name]
      if (found[name] !== inherited[name]) Object.assign(own, { [name]: found[name] })
    }
    if (ours) delete (this.#socket as WiredSocket)[WIRE]
  }

  /** From here on both close frames, whoever sends the first, end the socket. */
  accompany(leaver: Leaver): void {
    this.#leaver = leaver
    this.#seen = this.#outgoing.begun
    this.#socket.on('error', ignore)
    this.#part()
  }

  /**
   * If the application compresses, asks it how far it has come: a library answers a ping behind all that it has been given
   * to send, in its order. The peer sees a pong that it did not ask for, which is none of its concern (RFC 6455 §5.5.3).
   * What came out since it was asked last may have been waited for: then there may be more by now.
   *
   * @returns Whether an answer is to be expected.
   */
  sound(): boolean {
    const { begun } = this.#outgoing
    if (!this.#compresses || this.silent || this.#incoming.closing || this.#fin || begun === this.#asked) return false
    this.#asked = begun
    this.#outgoing.pong = -1
    this.#ping = 'due'
    this.#sound()
    return true
  }

  /** Nothing is left for us to say: the application has closed, or ended the socket, by itself. */
  get silent(): boolean {
    return this.#goodbye !== undefined || this.#outgoing.closing || this.#socket.writableEnded
  }

  /** Whether no message was begun since the last look, none is half written, and nobody waits for the peer to take what was. */
  quiet(): boolean {
    const { begun, between, fragmented } = this.#outgoing
    const quiet = begun === this.#seen && this.#ping === undefined && between && !fragmented && this.#socket.writableLength === 0
    this.#seen = begun
    return quiet
  }

  /** Says goodbye, now or as soon as the frame ends that the application is writing. */
  goodbye(): void {
    if (this.silent) return
    if (this.#outgoing.between) this.#say()
    else this.#goodbye = 'due'
  }

  // What the application does with the socket.

  write(chunk: unknown, encoding?: BufferEncoding, callback?: Callback): boolean {
    if (this.#goodbye === 'said') return this.#swallow(callback)
    if (this.#goodbye === 'due') return this.#writeLast(chunk, encoding, callback)
    this.#follow(chunk, encoding)
    const more = this.#write.call(this.#socket, chunk, encoding, callback)
    if (this.#outgoing.pong === PONG_LENGTH) this.#ping = undefined
    if (this.#outgoing.closed) this.#part()
    return more
  }

  end(args: unknown[]): Duplex {
    if (this.#goodbye === 'said') args = args.filter(arg => typeof arg === 'function')
    return this.#end.apply(this.#socket, args)
  }

  push(chunk: unknown, encoding?: BufferEncoding): boolean {
    const more = this.#push.call(this.#socket, chunk, encoding)
    if (chunk instanceof Uint8Array) this.#incoming.push(chunk)
    else if (chunk === null) this.#fin = true
    if (this.#ping === 'due') this.#sound()
    this.#part()
    return more
  }

  #sound(): void {
    if (!this.#incoming.between || this.#incoming.closing || this.#fin) return
    this.#ping = 'out'
    this.#push.call(this.#socket, PING)
  }

  /** @param head Of the answer, as far as it tells the extensions. */
  #negotiated(head: unknown): void {
    if (String(head).includes('permessage-deflate')) this.#compresses = true
  }

  #follow(chunk: unknown, encoding?: BufferEncoding): void {
    if (typeof chunk === 'string') {
      const length = Buffer.byteLength(chunk, encoding)
      if (length <= this.#outgoing.left) {
        this.#outgoing.skip(length)
        return
      }
    }
    const bytes = bytesOf(chunk, encoding)
    if (!bytes) return
    if (this.#outgoing.before && this.#outgoing.left === 0) this.#negotiated(Buffer.from(bytes))
    this.#outgoing.push(bytes)
  }

  /** Up to the end of the last frame that ends in it; what begins behind that will not be sent. */
  #writeLast(chunk: unknown, encoding?: BufferEncoding, callback?: Callback): boolean {
    const bytes = bytesOf(chunk, encoding)
    const whole = bytes ? this.#outgoing.push(bytes) : 0
    // The application was faster.
    if (this.#outgoing.closing) this.#goodbye = undefined
    if (!bytes || whole === 0 || this.#goodbye === undefined) return this.#write.call(this.#socket, chunk, encoding, callback)
    const more = this.#write.call(this.#socket, bytes.subarray(0, whole), undefined, callback)
    this.#say()
    return more
  }

  #say(): void {
    this.#goodbye = 'said'
    this.#write.call(this.#socket, this.#leaver?.closeFrame)
    this.#leaver?.said()
    this.#part()
  }

  #swallow(callback?: Callback): boolean {
    if (!this.#socket.writableEnded) return this.#write.call(this.#socket, NOTHING, undefined, callback)
    if (callback) process.nextTick(callback, null)
    return false
  }

  #part(): void {
    const here = this.#goodbye === 'said' || this.#outgoing.closed || this.#socket.writableEnded
    if (here && (this.#incoming.closed || this.#fin)) this.#leaver?.parted()
  }
}
