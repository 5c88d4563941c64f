import { closeSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * A file that a child process appends lines to. What it has written is known even after a SIGKILL. The file has no name:
 * there is nothing to clean up, however this ends.
 */
export class Journal {
  readonly fd: number
  readonly #lines = new Set<string>()
  readonly #chunk = Buffer.alloc(65_536)
  #position = 0
  #partial = ''
  #closed = false

  constructor() {
    const folder = mkdtempSync(join(tmpdir(), 'lameduck-start-'))
    this.fd = openSync(join(folder, 'journal'), 'a+')
    rmSync(folder, { recursive: true })
  }

  /** All lines so far. */
  lines(): ReadonlySet<string> {
    while (!this.#closed) {
      const length = readSync(this.fd, this.#chunk, 0, this.#chunk.length, this.#position)
      if (length === 0) break
      this.#position += length
      const lines = (this.#partial + this.#chunk.toString('latin1', 0, length)).split('\n')
      this.#partial = lines.pop() ?? ''
      for (const line of lines) this.#lines.add(line)
    }
    return this.#lines
  }

  /** Keeps the lines that are there. */
  close(): void {
    this.lines()
    this.#closed = true
    closeSync(this.fd)
  }
}
