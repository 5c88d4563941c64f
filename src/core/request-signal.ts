import type { ServerResponse } from 'node:http'

/**
 * A signal for one request: aborted as the drain begins, or when the client goes away before its answer; whichever is first.
 * Nothing of it is kept once the response has closed.
 */
export function requestSignal(res: ServerResponse, draining: AbortSignal): AbortSignal {
  const controller = new AbortController()
  const drained = () => controller.abort(draining.reason)
  if (res.closed || res.destroyed) controller.abort()
  else if (draining.aborted) drained()
  if (controller.signal.aborted) return controller.signal
  draining.addEventListener('abort', drained)
  res.once('close', () => {
    draining.removeEventListener('abort', drained)
    if (!res.writableFinished) controller.abort()
  })
  return controller.signal
}
