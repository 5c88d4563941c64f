import type { Audit, AuditEntry } from './audit.ts'

type Line = Omit<AuditEntry, 'time'>

interface Kind {
  line: Line
  /** Since its last line. */
  count: number
  written: Promise<void>
}

/** What comes in floods, in the audit: the first of a kind at once, what follows as one line each window with a `count`. */
export class Collapse {
  #audit: Audit
  #windowMs: number
  #kinds = new Map<string, Kind>()
  #timer: NodeJS.Timeout | undefined

  constructor(audit: Audit, windowMs: number) {
    this.#audit = audit
    this.#windowMs = windowMs
  }

  has(kind: string): boolean {
    return this.#kinds.has(kind)
  }

  /** How many kinds there are at the moment. */
  get size(): number {
    return this.#kinds.size
  }

  /** @returns Settles when the last line of this kind is written. Rejects when it could not be; nobody need listen. */
  count(kind: string, line: Line): Promise<void> {
    this.#timer ??= setInterval(() => this.#tell(), this.#windowMs).unref()
    const known = this.#kinds.get(kind)
    if (known) known.count++
    else this.#kinds.set(kind, { line, count: 0, written: this.#write(line, 1) })
    return (known ?? this.#kinds.get(kind) as Kind).written
  }

  /** Writes what has not been written yet. */
  close(): void {
    this.#tell()
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#kinds.clear()
  }

  #tell(): void {
    for (const [key, kind] of this.#kinds) {
      if (kind.count > 0) kind.written = this.#write(kind.line, kind.count)
      // Quiet for a whole window: the next one is told at once again.
      else this.#kinds.delete(key)
      kind.count = 0
    }
    if (this.#kinds.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #write(line: Line, count: number): Promise<void> {
    const written = this.#audit.write({ ...line, count })
    // The trail itself says when it cannot be written.
    written.catch(() => {})
    return written
  }
}
