import { setTimeout as sleep } from 'node:timers/promises'
import type { Duck } from '../../core/index.ts'
import { Problem } from '../http/problem.ts'

/** How an instance leaves the rotation before a pause. */
export interface IsolationOptions {
  /** How long to be unready before idle connections are closed, so that balancers notice and clients are told to close. Default 2 000. Less when nobody is left. */
  lameduckMs?: number
  /** How long to wait beyond that for requests in flight, and for idle connections to end. Default 30 000. */
  inFlightMs?: number
}

/** How often to look. The core has no event for "nothing is in flight". */
const LOOK_MS = 25

/** To a client with a new connection for each request, or a balancer between two checks, no connection does not mean gone. */
const CALM_MS = 300

/** How many of the requests that hold it up the problem names. */
const NAMED = 10

/** A drain has begun, also while the state still says lame duck: it must never be resumed from. */
const isDraining = (duck: Duck) => duck.signal.aborted || (duck.state !== 'running' && duck.state !== 'lameduck')

/** @throws {Problem} 409 `ERR_LAMEDUCK_OPS_STATE` */
export function checkState(duck: Duck): void {
  if (isDraining(duck)) throw new Problem(409, 'ERR_LAMEDUCK_OPS_STATE', `the process is going down (${duck.state})`)
}

/** @throws {Problem} 409 `ERR_LAMEDUCK_OPS_STATE`, also when somebody else has put it back into rotation. */
function checkLameDuck(duck: Duck): void {
  checkState(duck)
  if (duck.state !== 'lameduck') throw new Problem(409, 'ERR_LAMEDUCK_OPS_STATE', 'somebody has put the instance back into rotation')
}

/**
 * Waits until everybody has had the time to go elsewhere, then closes what is idle: who keeps a connection for later would send
 * on it in the pause, and wait. Done when those connections have ended and nothing is in flight. The listener stays open: a
 * client that has nobody else to go to is better served late than not at all.
 */
async function emptied(duck: Duck, { lameduckMs = 2_000, inFlightMs = 30_000 }: IsolationOptions, force: boolean, signal: AbortSignal): Promise<void> {
  const began = performance.now()
  let [accepted, calmSince] = [-1, began]
  const idle = { closing: false, closed: false }
  const closed = () => {
    idle.closed = true
  }
  for (;;) {
    signal.throwIfAborted()
    checkLameDuck(duck)
    const { connections, inFlight, counters } = duck.stats()
    const now = performance.now()
    if (connections.total > 0 || counters.accepted !== accepted) calmSince = now
    accepted = counters.accepted
    const told = now - began >= lameduckMs || now - calmSince >= CALM_MS
    if (told && !idle.closing) {
      idle.closing = true
      void duck.quiet({ timeoutMs: inFlightMs }).then(closed, closed)
    }
    if (idle.closed && inFlight.length === 0) return
    if (now - began >= lameduckMs + inFlightMs) {
      // What is idle has had its time: that is not what the job fails for.
      if (force || inFlight.length === 0) return
      const detail = `${inFlight.length} requests are still in flight after ${Math.round(now - began)} ms out of rotation`
      throw new Problem(409, 'ERR_LAMEDUCK_OPS_IN_FLIGHT', detail, { inFlight: inFlight.slice(0, NAMED) })
    }
    await sleep(LOOK_MS, undefined, { signal }).catch(() => {})
  }
}

/**
 * Takes the instance out of rotation: readiness fails, responses say `Connection: close`, until nothing is in flight. On any
 * failure it is back in rotation when this rejects. One that was a lame duck before stays one.
 *
 * @param force Go on with requests in flight when the time is over.
 * @returns What brings it back; does nothing once a drain has begun.
 * @throws {Problem} 409 `ERR_LAMEDUCK_OPS_STATE`, `ERR_LAMEDUCK_OPS_IN_FLIGHT`; what `signal` was aborted with.
 */
export async function leaveRotation(duck: Duck, options: IsolationOptions, force: boolean, signal: AbortSignal): Promise<() => void> {
  checkState(duck)
  signal.throwIfAborted()
  let left = duck.state === 'running'
  const comeBack = () => {
    if (left && duck.state === 'lameduck' && !duck.signal.aborted) duck.resume()
    left = false
  }
  duck.lameduck()
  try {
    await emptied(duck, options, force, signal)
    return comeBack
  } catch (error) {
    comeBack()
    throw error
  }
}
