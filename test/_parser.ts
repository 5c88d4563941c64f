/** A response as it stood on the wire. */
export interface Answer {
  status: number
  version: string
  /** Header lines as sent: name, value. */
  lines: [string, string][]
  body: Buffer
  /** The first value of a header, by its lower-case name. */
  header(name: string): string | undefined
  /** All values of a header. */
  all(name: string): string[]
  text: string
}

/** Parses what a server sends over HTTP/1: strict about framing, so that a cut response is never taken for a whole one. */
export class AnswerParser {
  /** What came after a 101, or after the 2xx to a CONNECT. */
  readonly tunnelled: Buffer[] = []
  #method: () => string
  #emit: (answer: Answer) => void
  #pending: Buffer = Buffer.alloc(0)
  #head: Omit<Answer, 'body' | 'text'> | undefined
  #body: Buffer[] = []
  /** What comes next: so many bytes of a body, a chunk's size, the trailer, all until the end, or no HTTP any more. */
  #mode: 'head' | 'length' | 'size' | 'chunk' | 'after chunk' | 'trailer' | 'until end' | 'tunnel' = 'head'
  #left = 0

  /** @param method Of the request that the next final response answers. */
  constructor(method: () => string, emit: (answer: Answer) => void) {
    this.#method = method
    this.#emit = emit
  }

  push(chunk: Buffer): void {
    let rest: Buffer | undefined = this.#pending.length ? Buffer.concat([this.#pending, chunk]) : chunk
    this.#pending = Buffer.alloc(0)
    while (rest && rest.length) rest = this.#step(rest)
  }

  /** The connection has ended: the end of a body without a length. */
  end(): void {
    if (this.#mode === 'until end') this.#done()
  }

  /** Takes what it can. @returns What is left, or undefined if more bytes are needed first. */
  #step(bytes: Buffer): Buffer | undefined {
    if (this.#mode === 'until end') {
      this.#body.push(bytes)
      return undefined
    }
    if (this.#mode === 'tunnel') {
      this.tunnelled.push(bytes)
      return undefined
    }
    if (this.#mode === 'length' || this.#mode === 'chunk') return this.#take(bytes)
    const end = bytes.indexOf(this.#mode === 'head' ? '\r\n\r\n' : '\r\n')
    if (end === -1) {
      this.#pending = bytes
      return undefined
    }
    if (this.#mode === 'head') {
      this.#begin(bytes.toString('latin1', 0, end))
      return bytes.subarray(end + 4)
    }
    this.#line(bytes.toString('latin1', 0, end))
    return bytes.subarray(end + 2)
  }

  #take(bytes: Buffer): Buffer {
    const part = bytes.subarray(0, this.#left)
    this.#body.push(part)
    this.#left -= part.length
    if (this.#left === 0) {
      if (this.#mode === 'length') this.#done()
      else this.#mode = 'after chunk'
    }
    return bytes.subarray(part.length)
  }

  #line(line: string): void {
    if (this.#mode === 'after chunk') this.#mode = 'size'
    else if (this.#mode === 'size') {
      this.#left = Number.parseInt(line, 16)
      if (!Number.isInteger(this.#left)) throw new Error(`a chunk of size ${JSON.stringify(line)}`)
      this.#mode = this.#left === 0 ? 'trailer' : 'chunk'
    } else if (line === '') this.#done()
  }

  #begin(text: string): void {
    const [start = '', ...rest] = text.split('\r\n')
    const match = /^HTTP\/(\d\.\d) (\d{3})/.exec(start)
    if (!match) throw new Error(`not a status line: ${JSON.stringify(start.slice(0, 80))}`)
    const lines = rest.map((line): [string, string] => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon), line.slice(colon + 1).trim()]
    })
    const all = (name: string) => lines.filter(([key]) => key.toLowerCase() === name).map(([, value]) => value)
    const status = Number(match[2])
    this.#head = { status, version: match[1] as string, lines, all, header: name => all(name)[0] }
    this.#frame(status, all)
  }

  /** RFC 9112 §6.3: how long the body is. */
  #frame(status: number, all: (name: string) => string[]): void {
    const interim = status >= 100 && status < 200 && status !== 101
    const method = interim ? '' : this.#method()
    const length = all('content-length')[0]
    if (status === 101 || (method === 'CONNECT' && status >= 200 && status < 300)) {
      this.#done()
      this.#mode = 'tunnel'
    } else if (interim || status === 204 || status === 304 || method === 'HEAD') this.#done()
    else if (all('transfer-encoding').some(value => /chunked/i.test(value))) this.#mode = 'size'
    else if (length === undefined) this.#mode = 'until end'
    else {
      this.#mode = 'length'
      this.#left = Number(length)
      if (this.#left === 0) this.#done()
    }
  }

  #done(): void {
    const body = Buffer.concat(this.#body)
    this.#body = []
    this.#mode = 'head'
    if (this.#head) this.#emit({ ...this.#head, body, text: body.length > 1e5 ? '' : body.toString() })
    this.#head = undefined
  }
}
