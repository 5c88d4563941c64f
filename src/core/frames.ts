/** The bytes of a handshake's answer that tell what becomes of the socket: the `101` in `HTTP/1.1 101`. */
const STATUS = { from: 9, digits: [0x31, 0x30, 0x31] }

const END_OF_HEAD = [13, 10, 13, 10]

const CLOSE = 0x8
const PONG = 0xa

/**
 * Where the frames of one direction of a WebSocket begin and end (RFC 6455 §5.2). It looks at heads only, and keeps a few
 * numbers: a frame costs the same whatever its length, and may be cut anywhere.
 */
export class Frames {
  /** A close frame has begun: nothing may follow it (§5.5.1). */
  closing = false
  /** Between the fragments of a message. A control frame may go there (§5.4). */
  fragmented = false
  /** How many data frames have begun; an answer's head is one, too. */
  begun = 0
  /** How long the payload of the last pong is. */
  pong = -1
  /** How far the head of the handshake's answer has come; -1 once it is over, or was none of this direction. */
  #head: number
  #matched = 0
  /** What the next byte is: 0 begins a frame, 1 has the length, 2 and more are so many - 1 bytes of an extended length. */
  #at = 0
  #opcode = 0
  #masked = false
  #length = 0
  /** Bytes of the payload, masking key included, that are still to come. */
  #left = 0

  /** @param head Whether the head of an HTTP response comes first. */
  constructor(head: boolean) {
    this.#head = head ? 0 : -1
  }

  /** The head of the handshake's answer is still to come, or there are no frames. */
  get before(): boolean {
    return this.#head !== -1
  }

  /** A frame may begin here. */
  get between(): boolean {
    return this.#left === 0 && this.#at === 0 && !this.before
  }

  /** A close frame has come, whole. */
  get closed(): boolean {
    return this.closing && this.between
  }

  /** Bytes of the payload that are still to come: so many need not be looked at. */
  get left(): number {
    return this.#left
  }

  /** Takes so many bytes of the payload unseen: at most `left`. */
  skip(count: number): void {
    this.#left -= count
  }

  /** @returns How many of these bytes belong to frames that are whole. */
  push(bytes: Uint8Array): number {
    let i = this.before ? this.#pastHead(bytes) : 0
    let whole = this.between ? i : 0
    while (i < bytes.length && !this.closed) {
      if (this.#left > 0) {
        const skipped = Math.min(this.#left, bytes.length - i)
        this.#left -= skipped
        i += skipped
      } else this.#byte(bytes[i++] as number)
      if (this.between) whole = i
    }
    return whole
  }

  #byte(byte: number): void {
    if (this.#at === 0) {
      this.#opcode = byte & 0x0f
      if (this.#opcode === CLOSE) this.closing = true
      // Control frames, 8 and up, are no part of a message.
      else if (this.#opcode < CLOSE) {
        this.fragmented = byte < 0x80
        this.begun++
      }
      this.#at = 1
      return
    }
    if (this.#at === 1) {
      this.#masked = byte >= 0x80
      this.#length = byte & 0x7f
      if (this.#length < 126) this.#payload()
      else {
        this.#at = this.#length === 126 ? 3 : 9
        this.#length = 0
      }
      return
    }
    this.#length = this.#length * 256 + byte
    if (--this.#at === 1) this.#payload()
  }

  #payload(): void {
    this.#at = 0
    if (this.#opcode === PONG) this.pong = this.#length
    this.#left = this.#length + (this.#masked ? 4 : 0)
  }

  /** @returns Where the frames begin. After any other status than 101 there are none. */
  #pastHead(bytes: Uint8Array): number {
    if (this.#left > 0) return bytes.length
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i] as number
      const digit = STATUS.digits[this.#head++ - STATUS.from]
      if (digit !== undefined && byte !== digit) this.#left = Infinity
      this.#matched = byte === END_OF_HEAD[this.#matched] ? this.#matched + 1 : Number(byte === END_OF_HEAD[0])
      if (this.#matched === END_OF_HEAD.length && this.#left === 0) {
        this.#head = -1
        this.begun++
        return i + 1
      }
    }
    return bytes.length
  }
}
