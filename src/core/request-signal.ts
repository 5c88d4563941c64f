import type { ServerResponse } from 'node:http'
import type { Http2ServerResponse, ServerHttp2Stream } from 'node:http2'

/** What answers a request: a response, or a stream of HTTP/2. */
export type Answer = ServerResponse | Http2ServerResponse | ServerHttp2Stream

/**
 * A signal for one request: aborted as the drain begins, or when the client goes away before its answer; whichever is first.
 * Nothing of it is kept once the response has closed.
 */
export function requestSignal(res: Answer, draining: AbortSignal): AbortSignal {
  // Of a response over HTTP/2 its stream knows more: the response itself says finished, even after a reset.
  const ended = ('stream' in res ? res.stream : res) as ServerHttp2Stream
  const controller = new AbortController()
  const drained = () => controller.abort(draining.reason)
  const left = () => controller.abort(new DOMException('the client has gone away', 'AbortError'))
  if (ended.closed || ended.destroyed) left()
  else if (draining.aborted) drained()
  if (controller.signal.aborted) return controller.signal
  draining.addEventListener('abort', drained)
  ended.once('close', () => {
    draining.removeEventListener('abort', drained)
    // A response has no `rstCode`, and not `aborted` either.
    if (ended.aborted || ended.rstCode || !ended.writableFinished) left()
  })
  return controller.signal
}
