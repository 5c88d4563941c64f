import type { IncomingMessage, ServerResponse } from 'node:http'
import { LameduckError } from '../core/index.ts'

/** A maintenance endpoint (`ops({ thread: false, listen: false })` of lameduck/ops), as far as an adapter uses it. */
export interface Mountable {
  handle(req: IncomingMessage, res: ServerResponse, options: { prefix: string }): void
}

/**
 * Whether a request is for what is mounted under a prefix. Only literally so: what a router would first decode or tidy up is not.
 *
 * @throws {LameduckError} `ERR_LAMEDUCK_OPTION` for a prefix that is none.
 */
export function under(prefix: string): (url?: string) => boolean {
  if (typeof prefix !== 'string' || !/^(?:\/[\w.~-]+)+$/.test(prefix)) {
    throw new LameduckError('ERR_LAMEDUCK_OPTION', `prefix is ${JSON.stringify(prefix)}; allowed: a path such as "/ops", without a "/" at its end`)
  }
  return (url = '') => {
    if (!url.startsWith(prefix)) return false
    const next = url[prefix.length]
    return next === undefined || next === '/' || next === '?'
  }
}
