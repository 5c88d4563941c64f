/** A line without an end is cut here, so that a worker cannot fill the supervisor's memory. */
const LONGEST_BYTES = 1024 * 1024
const NEWLINE = 10

/** Whole lines out of a stream of bytes. Characters are never cut: a newline is no part of one in UTF-8. */
export class Lines {
  #parts: Buffer[] = []
  #bytes = 0
  #line: (line: Buffer) => void

  /** @param line Gets each line, without its end. */
  constructor(line: (line: Buffer) => void) {
    this.#line = line
  }

  push(chunk: Buffer): void {
    let from = 0
    for (let at = chunk.indexOf(NEWLINE); at !== -1; at = chunk.indexOf(NEWLINE, from)) {
      this.#keep(chunk.subarray(from, at))
      this.#cut()
      from = at + 1
    }
    this.#keep(chunk.subarray(from))
    if (this.#bytes >= LONGEST_BYTES) this.#cut()
  }

  /** The last line may have no end. */
  end(): void {
    if (this.#bytes > 0) this.#cut()
  }

  #keep(part: Buffer): void {
    if (part.length === 0) return
    this.#parts.push(part)
    this.#bytes += part.length
  }

  #cut(): void {
    const line = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts)
    this.#parts = []
    this.#bytes = 0
    this.#line(line)
  }
}
