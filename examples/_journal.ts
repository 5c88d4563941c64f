import { closeSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * A file that child processes append lines to, one for each request: its path, and after a blank whatever else there is to say.
 * What they have written is known even after a SIGKILL.
 */
export class Journal {
  readonly fd: number
  /** How many of the requests were there before: they have been executed twice. */
  twice = 0
  readonly #requests = new Map<string, string>()
  readonly #chunk = Buffer.alloc(65_536)
  #position = 0
  #partial = ''
  #closed = false

  /** @param file Without one it has no name: children inherit it, and there is nothing to clean up, however this ends. */
  constructor(file?: string) {
    this.fd = file === undefined ? nameless() : openSync(file, 'a+')
  }

  /** All requests so far by their paths, with what else was said of them. */
  requests(): ReadonlyMap<string, string> {
    while (!this.#closed) {
      const length = readSync(this.fd, this.#chunk, 0, this.#chunk.length, this.#position)
      if (length === 0) break
      this.#position += length
      const lines = (this.#partial + this.#chunk.toString('latin1', 0, length)).split('\n')
      this.#partial = lines.pop() ?? ''
      for (const line of lines) this.#add(line)
    }
    return this.#requests
  }

  /** Keeps what is there. */
  close(): void {
    this.requests()
    this.#closed = true
    closeSync(this.fd)
  }

  #add(line: string): void {
    const [path = '', ...rest] = line.split(' ')
    if (this.#requests.has(path)) this.twice++
    this.#requests.set(path, rest.join(' '))
  }
}

function nameless(): number {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-start-'))
  const fd = openSync(join(folder, 'journal'), 'a+')
  rmSync(folder, { recursive: true })
  return fd
}
