import type { IncomingMessage, ServerResponse } from 'node:http'

const TYPE = 'text/event-stream'

const isType = (value: unknown) => typeof value === 'string' && value.toLowerCase().startsWith(TYPE)

/** The `Content-Type` among what `writeHead` was given: an object, a flat list, or pairs. */
function typeIn(headers: unknown): unknown {
  if (typeof headers !== 'object' || headers === null) return undefined
  const pairs = Array.isArray(headers)
    ? Array.isArray(headers[0]) ? (headers as unknown[][]) : headers.flatMap((name, i) => (i % 2 === 0 ? [[name, headers[i + 1] as unknown]] : []))
    : Object.entries(headers)
  return pairs.find(([name]) => String(name).toLowerCase() === 'content-type')?.[1]
}

/** What an `EventSource` sends, and sends alone: clients that take other answers, too, list them (HTML Living Standard §9.2.2). */
function fromEventSource({ method, headers }: IncomingMessage): boolean {
  return method === 'GET' && headers.accept === TYPE
}

/** Of the heads that were seen on their way out. */
const seen = new WeakMap<ServerResponse, boolean>()

/** Notes a head as it goes out: Node forgets what `writeHead` was given. */
export function noteHead(res: ServerResponse, headers: unknown): void {
  seen.set(res, isType(typeIn(headers) ?? res.getHeader('content-type')))
}

/** Whether a response whose head is out is an event stream. If that head was not seen, the client's own `Accept` may have to do. */
export function isEventStream(res: ServerResponse): boolean {
  if (!res.headersSent || res.statusCode !== 200) return false
  const type = res.getHeader('content-type')
  return seen.get(res) ?? (type === undefined ? fromEventSource(res.req) : isType(type))
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
export function endEventStream(res: ServerResponse): void {
  if (res.writableEnded || res.destroyed) return
  res.end()
  res.write = ((...args: unknown[]) => {
    ended(...args)
    return false
  }) as ServerResponse['write']
  res.end = ((...args: unknown[]) => {
    ended(...args)
    return res
  }) as ServerResponse['end']
}
