import type { DrainReport, Stats } from '../../core/index.ts'

/** How long the event loop kept its timers waiting, in milliseconds, since the endpoint began or the last reset. */
export interface LoopDelay {
  p50: number
  p90: number
  p99: number
  max: number
  mean: number
  /** Of the time, how much the loop was at work: 0 to 1, since the report before. */
  utilization: number
}

export interface Memory {
  rss: number
  heapUsed: number
  heapTotal: number
  heapLimit: number
  external: number
  arrayBuffers: number
}

/** A drain's report without the class of an error that a hook threw, which JSON would make an empty object of. */
export function reportJson(report: DrainReport): Record<string, unknown> {
  return { ...report, hooks: report.hooks.map(hook => ({ ...hook, ...('error' in hook && { error: String(hook.error) }) })) }
}

/** What the main thread knows at a moment. */
export interface Snapshot {
  /** Unix time in milliseconds. */
  at: number
  uptimeMs: number
  stats: Stats | undefined
  servedLate: number
  /** How many drains have begun, resumed ones included. */
  drains: number
  lastReport: DrainReport | undefined
  memory: Memory
  loop: LoopDelay
}

/** The last {@link Snapshot}, and how far it can be trusted. */
export interface State {
  snapshot: Snapshot | undefined
  /** How old it is. More than a moment only while the main thread is blocked. */
  ageMs: number
  /** For how long the main thread has been blocked; 0 when it is not. */
  blockedMs: number
  /** A pause of our own making that is under way. */
  pause: Pause | undefined
}

/** A pause that was announced: a heap snapshot. */
export interface Pause {
  what: string
  /** Unix time in milliseconds. */
  since: number
  /** After that it counts as stuck. */
  untilMs: number
}
