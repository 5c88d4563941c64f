/**
 * A load client that knows what became of each request: N keep-alive connections over raw sockets, each of which sends
 * a request with an id of its own, waits for the answer, thinks, and goes on until the connection ends.
 *
 * Raw sockets, because http.Agent retries, hides a FIN behind ECONNRESET and never says which request a RST took along.
 */
import net from 'node:net'

export interface LoadOptions {
  port: number
  host?: string
  connections: number
  method?: 'GET' | 'POST'
  /** Path of the request with this id. The id must be found again on the server's side. Default `/<id>`. */
  path?: (id: number) => string
  /** Mean of the exponential think time. 0: none. Infinity: one request per connection, then idle. */
  thinkMs: number
  /** Open a new connection after one that ended, until a connect is refused. Default false. */
  reconnect?: boolean
  /** Who answered, out of a whole response. Kept for `onEnd`. */
  by?: (response: string) => number | undefined
  /** Hears of each connection's end. */
  onEnd?: (ended: Ended) => void
  /** A request that has had no answer for so long is given up, and its connection: `hung`. Default never. */
  hangMs?: number
  /** 0 <= x < 1. For reproducible runs. */
  random?: () => number
}

/** How a connection ended, as the client saw it. `told`: by a response with `Connection: close`, or by our own stop(). */
export type End = 'told' | 'fin' | 'reset' | 'refused' | 'hung'

/** A connection that has ended. */
export interface Ended {
  end: End
  /** Who answered on it last. */
  by: number | undefined
  /** The port at our end; undefined if it was never open. */
  localPort: number | undefined
  /** Of the epoch, for those who compare with what another process noted: not after that one heard of the connection. */
  openedAt: number
  endedAt: number
  lost: Lost | undefined
}

/** A request that was sent before the client saw the connection end, and that got no (whole) response. */
export interface Lost {
  id: number
  connection: number
  end: End
  /** performance.now() at the write, and at the moment when the client learnt that the connection is gone. */
  sentAt: number
  endedAt: number
  /** How long the connection had been silent when the request was written. */
  silentMs: number
  /** Responses on this connection before. 0: it may never have been accepted. */
  before: number
  /** Bytes of the response that did arrive. */
  received: number
  /** It was us who gave up waiting, in `stop()`. */
  hung: boolean
}

export interface Counts {
  /** Connections open now. */
  open: number
  sent: number
  ok: number
  /** Answered 503. */
  rejected: number
  /** Answered with any other status that is not 2xx. */
  failed: number
  lost: number
  /** Ended connections, by how. */
  told: number
  fin: number
  reset: number
  refused: number
  hung: number
}

export interface Load {
  readonly counts: Readonly<Counts>
  readonly lost: readonly Lost[]
  /** performance.now() when the client learnt of the last end: FIN, RST or a response that says so. NaN before. */
  readonly endedAt: number
  /** Resolves when every connection has ended (and, with `reconnect`, none is going to be opened). */
  readonly ended: Promise<void>
  /** Was this request answered as a whole, whatever the status? */
  answered(id: number): boolean
  /** No new request. Each connection ends as soon as its answer is there; after `graceMs` it is destroyed. */
  stop(graceMs?: number): Promise<void>
}

/** Resolves when all connections are open. They are opened some at a time: a full accept queue costs a SYN a second. */
export async function startLoad(options: LoadOptions): Promise<Load> {
  const load = new LoadRun(options)
  const { connections } = options
  let next = 0
  const opener = async () => {
    while (next < connections) await load.open(next++)
  }
  await Promise.all(Array.from({ length: Math.min(100, connections) }, opener))
  return load
}

/** The ids that the application executed and whose answer never reached the client. */
export const ghosts = (executed: Iterable<number>, load: Load): number[] =>
  [...executed].filter((id) => !load.answered(id))

class LoadRun implements Load {
  readonly options: LoadOptions
  readonly counts: Counts = {
    open: 0, sent: 0, ok: 0, rejected: 0, failed: 0, lost: 0, told: 0, fin: 0, reset: 0, refused: 0, hung: 0,
  }
  readonly lost: Lost[] = []
  readonly ended: Promise<void>
  endedAt = NaN
  stopping = false
  #unanswered = new Set<number>()
  #connections = new Set<Connection>()
  #slots: number
  #lastEnd = 0
  #settle!: () => void
  #random: () => number
  #watch: NodeJS.Timeout | undefined

  constructor(options: LoadOptions) {
    this.options = options
    this.#slots = options.connections
    this.#random = options.random ?? Math.random
    this.ended = new Promise((resolve) => { this.#settle = resolve })
    const { hangMs } = options
    if (hangMs !== undefined) {
      this.#watch = setInterval(() => { for (const connection of this.#connections) connection.giveUp(hangMs) }, hangMs / 10)
    }
  }

  open(slot: number, again = false): Promise<void> {
    return new Promise((opened) => { this.#connections.add(new Connection(this, slot, again, opened)) })
  }

  /** Exponential: the process has no memory, so the load is in its steady state from the first request on. */
  thinkTime(): number {
    const { thinkMs } = this.options
    return thinkMs === 0 || thinkMs === Infinity ? 0 : Math.round(-thinkMs * Math.log(1 - this.#random()))
  }

  request(): { id: number, head: string } {
    const { method = 'POST', path = (id: number) => `/${id}`, host = '127.0.0.1' } = this.options
    const id = ++this.counts.sent
    this.#unanswered.add(id)
    const body = method === 'POST' ? `Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi` : '\r\n'
    return { id, head: `${method} ${path(id)} HTTP/1.1\r\nHost: ${host}\r\n${body}` }
  }

  settled(id: number, status: number): void {
    this.#unanswered.delete(id)
    if (status === 503) this.counts.rejected++
    else if (status >= 200 && status < 300) this.counts.ok++
    else this.counts.failed++
  }

  answered(id: number): boolean {
    return id > 0 && id <= this.counts.sent && !this.#unanswered.has(id)
  }

  closed(connection: Connection, end: End, endedAt: number, lost: Lost | undefined): void {
    this.#connections.delete(connection)
    this.counts[end]++
    this.#lastEnd = Math.max(this.#lastEnd, endedAt)
    if (lost) {
      this.counts.lost++
      this.lost.push(lost)
    }
    if (this.options.reconnect && !this.stopping && end !== 'refused') {
      // As a pool does: a new connection when there is something to send.
      setTimeout(() => this.open(connection.slot, true), this.thinkTime())
      return
    }
    if (--this.#slots === 0) {
      this.endedAt = this.#lastEnd
      clearInterval(this.#watch)
      this.#settle()
    }
  }

  async stop(graceMs = 5_000): Promise<void> {
    this.stopping = true
    for (const connection of this.#connections) connection.stop()
    const timer = setTimeout(() => { for (const connection of this.#connections) connection.destroy() }, graceMs)
    await this.ended
    clearTimeout(timer)
  }
}

class Connection {
  readonly slot: number
  #load: LoadRun
  #socket: net.Socket
  #again: boolean
  #opened: () => void
  #end: End | undefined
  #endedAt = 0
  #thinking: NodeJS.Timeout | undefined
  #pending: { id: number, sentAt: number, silentMs: number, before: number } | undefined
  #answers = 0
  #received = ''
  #heardAt = 0
  #by: number | undefined
  #localPort: number | undefined
  #openedAt = Date.now()
  #hung = false

  constructor(load: LoadRun, slot: number, again: boolean, opened: () => void) {
    const { port, host = '127.0.0.1' } = load.options
    this.slot = slot
    this.#load = load
    this.#again = again
    this.#opened = opened
    this.#socket = net.connect({ port, host, noDelay: true })
    this.#socket.on('connect', () => this.#onConnect())
    this.#socket.on('data', (chunk) => this.#onData(chunk))
    this.#socket.on('end', () => { this.#ending('fin') })
    this.#socket.on('error', (error: NodeJS.ErrnoException) => this.#onError(error))
    this.#socket.on('close', () => this.#onClose())
  }

  #onConnect(): void {
    this.#load.counts.open++
    this.#localPort = this.#socket.localPort
    this.#heardAt = performance.now()
    this.#opened()
    if (this.#again && !this.#load.stopping) this.#send()
    else this.#think()
  }

  #think(): void {
    if (this.#load.stopping) return this.stop()
    const ms = this.#load.thinkTime()
    if (ms === 0) this.#send()
    else this.#thinking = setTimeout(() => this.#send(), ms)
  }

  #send(): void {
    if (this.#end) return
    const { id, head } = this.#load.request()
    const sentAt = performance.now()
    this.#pending = { id, sentAt, silentMs: sentAt - this.#heardAt, before: this.#answers }
    this.#received = ''
    this.#socket.write(head)
  }

  #onData(chunk: Buffer): void {
    this.#heardAt = performance.now()
    this.#received += chunk.toString('latin1') // one character per byte, so that lengths are bytes
    const response = readResponse(this.#received)
    if (!response) return
    this.#by = this.#load.options.by?.(this.#received) ?? this.#by
    if (this.#pending) this.#load.settled(this.#pending.id, response.status)
    this.#answers++
    this.#pending = undefined
    if (response.close) this.#finish()
    else if (this.#load.options.thinkMs !== Infinity) this.#think()
  }

  #onError(error: NodeJS.ErrnoException): void {
    if (error.code === 'ECONNREFUSED') this.#ending('refused')
    else if (['ECONNRESET', 'EPIPE', 'ECONNABORTED'].includes(error.code ?? '')) this.#ending('reset')
    else throw error // EMFILE, EADDRNOTAVAIL …: the bench itself is broken, its figures would lie
  }

  /** A RST after the FIN is what the end was: bytes may have gone with it. */
  #ending(end: End): void {
    clearTimeout(this.#thinking)
    if (!this.#end) this.#endedAt = performance.now()
    if (!this.#end || end === 'reset') this.#end = end
  }

  #finish(): void {
    this.#ending('told')
    this.#socket.end()
  }

  #onClose(): void {
    this.#ending(this.#end ?? 'fin')
    const end = this.#end ?? 'fin'
    if (end !== 'refused' && this.#heardAt > 0) this.#load.counts.open--
    const pending = this.#pending
    const lost = pending && {
      ...pending, connection: this.slot, end, endedAt: this.#endedAt, received: this.#received.length, hung: this.#hung,
    }
    this.#opened()
    this.#load.options.onEnd?.({ end, by: this.#by, localPort: this.#localPort, openedAt: this.#openedAt, endedAt: Date.now(), lost })
    this.#load.closed(this, end, this.#endedAt, lost)
  }

  stop(): void {
    if (!this.#pending) this.#finish()
  }

  /** Ends it if its request has waited for too long. */
  giveUp(ms: number): void {
    if (!this.#pending || performance.now() - this.#pending.sentAt < ms) return
    this.#ending('hung')
    this.#socket.destroy()
  }

  destroy(): void {
    this.#hung = true
    this.#socket.destroy()
  }
}

/** The whole response, or undefined while some of it is missing. Framed by Content-Length or by the connection's end. */
function readResponse(text: string): { status: number, close: boolean } | undefined {
  const bodyAt = text.indexOf('\r\n\r\n') + 4
  if (bodyAt === 3) return undefined
  const head = text.slice(0, bodyAt)
  if (/\r\ntransfer-encoding:/i.test(head)) throw new Error('the load client reads no chunked responses')
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
  if (length !== undefined && text.length < bodyAt + Number(length)) return undefined
  return { status: Number(text.slice(9, 12)), close: length === undefined || /\r\nconnection: *close/i.test(head) }
}
