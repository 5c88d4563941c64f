import type { Audit } from './audit.ts'

/** Within which refusals of a kind become one line. */
const WINDOW_MS = 1_000

/** Kinds at once; the rest go together. */
const MOST_KINDS = 32

export interface RefusedCall {
  who: string
  /** Without the port: that is another one each time. */
  from: string
  method?: string
  path?: string
  status: number
  code: string
}

/** Refused requests in the audit: the first of a kind at once, what follows as one line a second with a count. A flood is a few lines. */
export class Refusals {
  #audit: Audit
  #kinds = new Map<string, { call: RefusedCall; count: number }>()
  #timer: NodeJS.Timeout | undefined

  constructor(audit: Audit) {
    this.#audit = audit
  }

  count(call: RefusedCall): void {
    const own = `${call.who} ${call.from} ${call.code}`
    const crowded = !this.#kinds.has(own) && this.#kinds.size >= MOST_KINDS
    const key = crowded ? `others ${call.code.slice(0, 40)}` : own
    const kind = this.#kinds.get(key)
    this.#timer ??= setInterval(() => this.#tell(), WINDOW_MS).unref()
    if (kind) {
      kind.count++
      return
    }
    const first = crowded ? { who: '-', from: 'others', status: call.status, code: call.code } : call
    this.#kinds.set(key, { call: first, count: 0 })
    this.#write(first, 1)
  }

  /** Writes what has not been written yet. */
  close(): void {
    this.#tell()
    clearInterval(this.#timer)
    this.#kinds.clear()
  }

  #tell(): void {
    for (const [key, { call, count }] of this.#kinds) {
      if (count > 0) this.#write(call, count)
      // Quiet for a whole window: the next one is told at once again.
      else this.#kinds.delete(key)
    }
    for (const kind of this.#kinds.values()) kind.count = 0
    if (this.#kinds.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #write(call: RefusedCall, count: number): void {
    // The trail itself says when it cannot be written; a refusal stays one.
    this.#audit.write({ event: 'refused', ...call, count }).catch(() => {})
  }
}
