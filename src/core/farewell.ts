import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Connection } from './connection.ts'

type Headers = OutgoingHttpHeaders | readonly unknown[]

/** Of the connection's own headers, which only the connection may decide (RFC 9110 §7.6.1). */
const hopByHop = (name: unknown) => /^(connection|keep-alive)$/i.test(String(name))

/** `writeHead` takes an object, a flat list (name, value, name, value …) or a list of pairs: whichever it was, it stays. */
function withClose(headers: Headers): Headers {
  if (!Array.isArray(headers)) {
    const others = Object.entries(headers).filter(([name]) => !hopByHop(name))
    return { ...Object.fromEntries(others), Connection: 'close' } as Headers
  }
  if (Array.isArray(headers[0])) return [...headers.filter((pair: unknown[]) => !hopByHop(pair[0])), ['Connection', 'close']]
  return [...headers.filter((_, i) => !hopByHop(headers[i - (i % 2)])), 'Connection', 'close']
}

/** Those that are seen to already: a lame duck that comes back and leaves again finds them once more. */
const seen = new WeakSet<ServerResponse>()

/**
 * Makes a response say `Connection: close`, whatever the application sets, unless another request is queued behind it when
 * its head goes out: a client discards what it pipelined behind a `close`, and those have been executed (RFC 9112 §9.6).
 * Hence the decision at the last moment, in `writeHead`, which Node calls for implicit heads too.
 *
 * @param leaving Whether the connection is still to end: false after `resume()`.
 * @param sent Called when the head is out.
 */
export function sayClose(res: ServerResponse, connection: Connection, leaving: () => boolean, sent: (res: ServerResponse) => void): void {
  if (seen.has(res)) return
  seen.add(res)
  const writeHead = res.writeHead as (...args: unknown[]) => ServerResponse
  res.writeHead = function (this: ServerResponse, ...args: unknown[]): ServerResponse {
    // As Node takes them: the headers may come third without a reason phrase, too.
    const at = typeof args[1] === 'string' || (args[2] !== undefined && args[2] !== null) ? 2 : 1
    if (this.headersSent) return writeHead.apply(this, args)
    const closes = connection.last === this && leaving()
    if (closes) {
      this.removeHeader('Keep-Alive')
      if (typeof args[at] === 'object' && args[at] !== null) args[at] = withClose(args[at] as Headers)
      else this.setHeader('Connection', 'close')
    }
    writeHead.apply(this, args)
    if (closes) connection.saidClose()
    sent(this)
    return this
  } as ServerResponse['writeHead']
}
