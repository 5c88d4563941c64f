import type { Audit } from './audit.ts'
import { Collapse } from './collapse.ts'

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
  #lines: Collapse

  constructor(audit: Audit) {
    this.#lines = new Collapse(audit, WINDOW_MS)
  }

  count(call: RefusedCall): void {
    const own = `${call.who} ${call.from} ${call.code}`
    const crowded = !this.#lines.has(own) && this.#lines.size >= MOST_KINDS
    const { status, code } = call
    const line = crowded ? { who: '-', from: 'others', status, code } : call
    // A refusal stays one, written or not.
    this.#lines.count(crowded ? `others ${code.slice(0, 40)}` : own, { event: 'refused', ...line }).catch(() => {})
  }

  /** Writes what has not been written yet. */
  close(): void {
    this.#lines.close()
  }
}
