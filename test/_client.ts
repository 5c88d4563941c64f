import net from 'node:net'
import tls from 'node:tls'
import { leftover } from './_leftovers.ts'
import { AnswerParser, type Answer } from './_parser.ts'
import { Stopwatch } from './_stopwatch.ts'

/** Where a server listens, and how to reach it. */
export interface Address {
  host?: string
  port?: number
  /** A unix socket. */
  path?: string
  /** The certificate to trust: TLS. */
  ca?: string
}

export interface Ask {
  method?: string
  id?: string
  headers?: Record<string, string>
  body?: string | Buffer
  version?: '1.0' | '1.1'
}

/** How a connection ended: by the server's FIN, by its RST, or not yet. */
export type End = 'open' | 'fin' | 'reset'

/** What does not come, never comes; where failures are published there are thousands of them, and nobody waits longer than he must. */
const PATIENCE_MS = process.env.LAMEDUCK_AUTOPSY ? 5_000 : 15_000

let serial = 0

/** A name for a request that nothing else has. */
export function freshId(): string {
  return `r${++serial}`
}

/** The bytes of a request. What is left out of `ask` has a default; a body gets its `Content-Length`. */
export function requestBytes(path: string, ask: Ask & { id: string }): Buffer {
  const { method = 'GET', id, headers = {}, body, version = '1.1' } = ask
  const given = new Set(Object.keys(headers).map(name => name.toLowerCase()))
  let head = `${method} ${path} HTTP/${version}\r\nHost: test\r\nX-Id: ${id}\r\n`
  for (const [name, value] of Object.entries(headers)) head += `${name}: ${value}\r\n`
  const framed = given.has('content-length') || given.has('transfer-encoding')
  if (body !== undefined && !framed) head += `Content-Length: ${Buffer.byteLength(body)}\r\n`
  return Buffer.concat([Buffer.from(`${head}\r\n`), Buffer.from(body ?? '')])
}

/**
 * One connection on which the test decides about every byte. It notes what was sent, what was answered whole, and how the
 * connection ended. It never closes its own side by itself unless `polite`, which answers a FIN with a FIN as browsers and
 * agents do.
 */
export class Client {
  readonly socket: net.Socket
  /** The ids of the requests that went out, in order. */
  readonly sent: string[] = []
  /** The ids of the requests whose responses arrived whole, in order. */
  readonly answered: string[] = []
  /** Everything that arrived, in the order of arrival. */
  readonly answers: Answer[] = []
  /** Status codes of interim (1xx) responses. */
  readonly interim: number[] = []
  end: End = 'open'
  /** Of the socket, if it failed. */
  error: string | undefined
  /** `performance.now()` at the end. */
  endedAt = Number.NaN
  bytesRead = 0
  #methods: string[] = []
  #parser: AnswerParser
  #taken = 0
  #waiting = new Set<() => void>()

  constructor(socket: net.Socket) {
    this.socket = socket
    this.#parser = new AnswerParser(() => this.#methods.shift() ?? 'GET', answer => this.#answered(answer))
    socket.on('data', chunk => {
      this.bytesRead += chunk.length
      this.#parser.push(chunk)
      this.#wake()
    })
    socket.on('end', () => this.#ended('fin'))
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.error ??= error.code ?? error.message
      this.#ended('reset')
    })
    const closed = leftover(() => socket.destroy())
    socket.on('close', () => {
      closed()
      this.#ended('fin')
    })
  }

  /** Connects, with TLS if the address has a certificate. */
  static async open(address: Address, options: { polite?: boolean } = {}): Promise<Client> {
    const client = Client.dial(address, options)
    await client.connected()
    return client
  }

  /** Begins to connect. */
  static dial(address: Address, options: { polite?: boolean } = {}): Client {
    const allowHalfOpen = !(options.polite ?? true)
    const { ca, ...where } = address
    // As HTTP clients do: otherwise Nagle's algorithm holds a written request back in the client's own kernel, while the
    // server delays its ACK of the one before; that one is not lost by the server.
    const target = { ...where, allowHalfOpen, noDelay: true } as net.NetConnectOpts
    if (ca === undefined) return new Client(net.connect(target))
    // A TLS socket of a client that was told the host's name checks the certificate as a browser would.
    const socket = tls.connect({ ...target, ca, servername: 'localhost' } as tls.ConnectionOptions)
    // `tls.connect` does not pass it on.
    socket.once('connect', () => socket.setNoDelay(true))
    return new Client(socket)
  }

  /** The connection (and with TLS the handshake) is done. */
  connected(): Promise<void> {
    const event = this.socket instanceof tls.TLSSocket ? 'secureConnect' : 'connect'
    return new Promise((resolve, reject) => {
      this.socket.once(event, () => resolve())
      this.socket.once('error', reject)
      this.socket.once('close', () => reject(new Error('closed before it was connected')))
    })
  }

  /** Writes a whole request. @returns Its id. */
  request(path: string, ask: Ask = {}): string {
    const id = ask.id ?? freshId()
    this.note(id, ask.method)
    this.socket.write(requestBytes(path, { ...ask, id }))
    return id
  }

  /** Writes several requests at once, in one segment if it fits. */
  pipeline(asks: (Ask & { path: string })[]): string[] {
    const all = asks.map(ask => ({ ...ask, id: ask.id ?? freshId() }))
    for (const { id, method } of all) this.note(id, method)
    this.socket.write(Buffer.concat(all.map(ask => requestBytes(ask.path, ask))))
    return all.map(ask => ask.id)
  }

  /** Writes half of a request now. @returns What writes the other half. */
  half(path: string, ask: Ask & { cut: 'head' | 'body' }): { id: string, rest: () => void } {
    const id = ask.id ?? freshId()
    const bytes = requestBytes(path, { ...ask, id })
    const head = bytes.indexOf('\r\n\r\n') + 4
    const at = ask.cut === 'head' ? head - 8 : head + Math.floor((bytes.length - head) / 2)
    // With its head whole it may be executed, and answered.
    if (ask.cut === 'body') this.note(id, ask.method)
    this.socket.write(bytes.subarray(0, at))
    return {
      id,
      rest: () => {
        if (ask.cut === 'head') this.note(id, ask.method)
        this.socket.write(bytes.subarray(at))
      },
    }
  }

  /** What came through the tunnel (CONNECT or 101) so far. */
  get tunnelled(): string {
    return Buffer.concat(this.#parser.tunnelled).toString()
  }

  /** Any bytes. */
  write(bytes: string | Buffer): void {
    this.socket.write(bytes)
  }

  /** What was written is in the kernel, that of the server. */
  async flushed(): Promise<void> {
    if (this.socket.connecting) await this.connected()
    await new Promise<void>(resolve => this.socket.write('', () => resolve()))
  }

  /** Expects an answer for a request whose bytes are written by other means. */
  note(id: string, method = 'GET'): void {
    this.sent.push(id)
    this.#methods.push(method)
  }

  /** The next response. @throws When the connection ends before it is whole. */
  async answer(ms = PATIENCE_MS): Promise<Answer> {
    await this.#until(() => this.answers.length > this.#taken || this.end !== 'open', ms, 'an answer')
    const answer = this.answers[this.#taken++]
    if (!answer) throw new Error(`the connection ended (${this.error ?? this.end}) without an answer after ${this.bytesRead} bytes`)
    return answer
  }

  /** All responses until the connection ends. */
  async rest(ms = PATIENCE_MS): Promise<Answer[]> {
    await this.ended(ms)
    return this.answers.slice(this.#taken)
  }

  /** How the connection ended. */
  async ended(ms = PATIENCE_MS): Promise<End> {
    await this.#until(() => this.end !== 'open', ms, 'the end of the connection')
    return this.end
  }

  /** An interim response. */
  async interimAnswer(ms = PATIENCE_MS): Promise<number> {
    const [have, final] = [this.interim.length, this.answers.length]
    await this.#until(() => this.interim.length > have || this.answers.length > final || this.end !== 'open', ms, 'a 1xx')
    return this.interim[have] ?? Number.NaN
  }

  /** At least so many bytes have arrived. */
  received(bytes: number, ms = PATIENCE_MS): Promise<void> {
    return this.#until(() => this.bytesRead >= bytes || this.end !== 'open', ms, `${bytes} bytes`)
  }

  /** Stops reading: the server's writes pile up in the kernel. */
  pause(): void {
    this.socket.pause()
  }

  resume(): void {
    this.socket.resume()
  }

  /** Our FIN. */
  halfClose(): void {
    this.socket.end()
  }

  /** Closes as an aborting client does. */
  destroy(): void {
    this.socket.destroy()
  }

  /** A RST; over TLS, where Node has none, a plain end. */
  reset(): void {
    if (this.socket instanceof tls.TLSSocket) this.socket.destroy()
    else this.socket.resetAndDestroy()
  }

  #answered(answer: Answer): void {
    if (answer.status >= 100 && answer.status < 200 && answer.status !== 101) {
      this.interim.push(answer.status)
      return
    }
    const id = this.sent[this.answers.length]
    this.answers.push(answer)
    if (id !== undefined) this.answered.push(id)
  }

  #ended(end: End): void {
    if (this.end === 'open') {
      this.#parser.end()
      this.end = end
      this.endedAt = performance.now()
    }
    this.#wake()
  }

  #wake(): void {
    for (const look of [...this.#waiting]) look()
  }

  #until(done: () => boolean, ms: number, what: string): Promise<void> {
    if (done()) return Promise.resolve()
    const { stack } = new Error(`no ${what} within ${ms} ms (connection: ${this.end}, ${this.bytesRead} bytes read)`)
    const watch = new Stopwatch()
    return new Promise((resolve, reject) => {
      const look = () => {
        if (!done()) return
        clearTimeout(timer)
        this.#waiting.delete(look)
        resolve()
      }
      const late = () => {
        const leftMs = ms - watch.ranMs
        if (leftMs > 1) {
          timer = setTimeout(late, leftMs)
          return
        }
        this.#waiting.delete(look)
        reject(new Error((stack ?? '').replace(/^Error: /, '')))
      }
      let timer = setTimeout(late, ms)
      this.#waiting.add(look)
    })
  }
}
