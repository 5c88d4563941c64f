import { STATUS_CODES } from 'node:http'

/** What a client did wrong, or what cannot be done now; answered as a problem document (RFC 9457). */
export class Problem extends Error {
  readonly status: number
  /** For programs: `ERR_LAMEDUCK_OPS_…`. */
  readonly code: string
  /** Further members of the document: `retryAfterMs`, `since`, the figures that did not fit. */
  readonly more: Record<string, unknown>

  constructor(status: number, code: string, detail: string, more: Record<string, unknown> = {}) {
    super(detail)
    this.name = 'Problem'
    this.status = status
    this.code = code
    this.more = more
  }

  /** The document; `type` is about:blank, for which the title is the status's own phrase (RFC 9457 §4.2.1). */
  toJSON(): Record<string, unknown> {
    return { type: 'about:blank', title: STATUS_CODES[this.status], status: this.status, code: this.code, detail: this.message, ...this.more }
  }
}
