/** What a worker knows of itself, sent every `heartbeatMs`. */
export interface Vitals {
  /** Bytes. */
  rss: number
  /** Bytes. */
  heapUsed: number
  /** Responses that were finished since the start; without our own probes. */
  requests: number
  /** Of those, with a status of 500 or more. */
  errors: number
  /** Of wrapped servers all that lameduck tracks; of others what Node counts. */
  connections: number
  /** Only known of wrapped servers. */
  inFlight?: number
}

/** Of all ducks of a worker together: the one that is furthest on its way out. `none`: no server is wrapped. */
export type DuckState = 'none' | 'running' | 'lameduck' | 'draining' | 'drained' | 'aborted'

/**
 * What a worker says to its supervisor. The first four are for applications and the maintenance endpoint, by `process.send`:
 *
 * - `pause`: the event loop is going to be blocked (a snapshot); no heartbeat is expected before `untilMs` (`Date.now()`). 0 ends it.
 * - `isolate`: replace me first, then tell me that I may leave the rotation: answered by `isolated`.
 * - `return`: what followed `isolated` is done; `retire: true` ends this worker, otherwise it is in rotation again.
 * - `lastReady`: would nobody be ready without me? Answered by `lastReady`.
 */
export type FromWorker =
  | { lameduck: 'pause'; untilMs: number }
  | { lameduck: 'isolate' }
  | { lameduck: 'return'; retire: boolean }
  | { lameduck: 'lastReady' }
  | { lameduck: 'ready'; ready: boolean; why: string }
  | { lameduck: 'state'; state: DuckState }
  | { lameduck: 'beat'; vitals: Vitals }
  | { lameduck: 'crash'; message: string }
  | { lameduck: 'draining' }

/** What a supervisor says to a worker. */
export type ToWorker =
  | { lameduck: 'drain'; reason: string; signal: 'SIGTERM' | 'SIGINT' }
  | { lameduck: 'lameduck' }
  | { lameduck: 'resume' }
  /** `ok: false`: there is no replacement, and why; the worker stays what it was. */
  | { lameduck: 'isolated'; ok: boolean; reason?: string }
  /** `ready`: how many are, this one included. */
  | { lameduck: 'lastReady'; last: boolean; ready: number }

/** How the worker's side is to behave; passed in the environment. */
export interface WorkerSettings {
  heartbeatMs: number
  readyPath: string | false | undefined
  deadlineMs: number
}

/** The variable that holds {@link WorkerSettings} as JSON. Taken out of the environment as the worker starts. */
export const SETTINGS = 'LAMEDUCK_WORKER'

/** Whether something that came over IPC is one of ours: applications send what they like. */
export function isOurs(message: unknown): message is { lameduck: string } {
  return typeof message === 'object' && message !== null && typeof (message as { lameduck?: unknown }).lameduck === 'string'
}
