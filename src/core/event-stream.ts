import type { ServerResponse } from 'node:http'
import type { Writable } from 'node:stream'

const TYPE = 'text/event-stream'

const IN_HEAD = /\r\ncontent-type: *text\/event-stream/i

const LENGTH = /\r\ncontent-length:/i

export const isEventStreamType = (value: unknown) => typeof value === 'string' && value.toLowerCase().startsWith(TYPE)

/**
 * Whether a response whose head is out is an event stream that its client will ask for again: an `EventSource` sends GET (HTML
 * Living Standard §9.2.2). What answers a POST in this form has an end of its own, and so has one of a known length.
 */
export function isEventStream(res: ServerResponse): boolean {
  if (res.req.method !== 'GET' || !res.headersSent || res.statusCode !== 200) return false
  // Of what `writeHead()` was given, Node keeps nothing but the text. To see it there instead costs every request something.
  const { _header: head } = res as { _header?: unknown }
  const text = typeof head === 'string' ? head : ''
  const typed = isEventStreamType(res.getHeader('content-type')) || IN_HEAD.test(text)
  return typed && !res.hasHeader('content-length') && !LENGTH.test(text)
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
