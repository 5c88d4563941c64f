import http, { type ServerResponse } from 'node:http'
import type { Writable } from 'node:stream'

const TYPE = 'text/event-stream'

export const isEventStreamType = (value: unknown) => typeof value === 'string' && value.toLowerCase().startsWith(TYPE)

/** The `Content-Type` among what `writeHead` was given: an object, a flat list, or pairs. */
function typeIn(headers: unknown): unknown {
  if (typeof headers !== 'object' || headers === null) return undefined
  const pairs = Array.isArray(headers)
    ? Array.isArray(headers[0]) ? (headers as unknown[][]) : headers.flatMap((name, i) => (i % 2 === 0 ? [[name, headers[i + 1] as unknown]] : []))
    : Object.entries(headers)
  return pairs.find(([name]) => String(name).toLowerCase() === 'content-type')?.[1]
}

/** Those whose `writeHead` was given the type: Node forgets it. */
const seen = new WeakSet<ServerResponse>()

/** In place of a response's `writeHead()`, shared by all: an event stream is noted, and nothing changed. */
function writeHead(this: ServerResponse): ServerResponse {
  // `arguments`, not a rest parameter: no array per response.
  const args = arguments as unknown as Parameters<ServerResponse['writeHead']>
  const inherited = Object.getPrototypeOf(this) as ServerResponse
  inherited.writeHead.apply(this, args)
  if (args.length > 1 && isEventStreamType(typeIn(args[args.length - 1]))) seen.add(this)
  return this
}

/** Sees the head of a response as it goes out; for GET alone, since nothing else is answered by an event stream of ours to end. */
export function watchHead(res: ServerResponse): void {
  if (res.req.method === 'GET' && res.writeHead === http.ServerResponse.prototype.writeHead) res.writeHead = writeHead
}

/**
 * Whether a response whose head is out is an event stream that its client will ask for again: an `EventSource` sends GET (HTML
 * Living Standard §9.2.2). What answers a POST in this form has an end of its own.
 */
export function isEventStream(res: ServerResponse): boolean {
  if (res.req.method !== 'GET' || !res.headersSent || res.statusCode !== 200) return false
  return seen.has(res) || isEventStreamType(res.getHeader('content-type'))
}

const ended = (...args: unknown[]): void => {
  const callback = args.findLast(arg => typeof arg === 'function') as ((error: Error) => void) | undefined
  if (callback) process.nextTick(callback, Object.assign(new Error('the event stream was ended by a drain'), { code: 'ERR_STREAM_WRITE_AFTER_END' }))
}

/**
 * Ends an event stream cleanly, so that its client reconnects, elsewhere, with its `Last-Event-ID`; half an event at the end is
 * discarded there (HTML Living Standard §9.2.6). What the application writes on does not become an error event: it learns
 * of the end by the response's `close`, as when a client goes away.
 */
export function endEventStream(res: Writable, fault: (where: string, error: unknown) => void): void {
  if (res.writableEnded || res.destroyed) return
  try {
    res.end()
  } catch (error) {
    // Somebody's patch of the response.
    fault('ending an event stream', error)
    return
  }
  res.write = ((...args: unknown[]) => {
    ended(...args)
    return false
  }) as Writable['write']
  res.end = ((...args: unknown[]) => {
    ended(...args)
    return res
  }) as Writable['end']
}
