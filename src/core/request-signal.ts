import type { ServerResponse } from 'node:http'
import type { Http2ServerResponse } from 'node:http2'

/**
 * A signal for one request: aborted as the drain begins, or when the client goes away before its answer; whichever is first.
 * Nothing of it is kept once the response has closed.
 */
export function requestSignal(res: ServerResponse | Http2ServerResponse, draining: AbortSignal): AbortSignal {
  // Of a response over HTTP/2 its stream knows more: the response itself says finished, even after a reset.
  const stream = 'stream' in res ? res.stream : undefined
  const ended = stream ?? (res as ServerResponse)
  const controller = new AbortController()
  const drained = () => controller.abort(draining.reason)
  const left = () => controller.abort(new DOMException('the client has gone away', 'AbortError'))
  if (ended.closed || ended.destroyed) left()
  else if (draining.aborted) drained()
  if (controller.signal.aborted) return controller.signal
  draining.addEventListener('abort', drained)
  ended.once('close', () => {
    draining.removeEventListener('abort', drained)
    if (stream ? stream.aborted || stream.rstCode !== 0 : !res.writableFinished) left()
  })
  return controller.signal
}
