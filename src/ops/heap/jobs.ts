import type { Principal } from '../http/route.ts'

/** A job as `/jobs` shows it. */
export interface JobReport {
  id: string
  kind: string
  by: string
  state: 'running' | 'done' | 'failed' | 'cancelled'
  /** ISO 8601. */
  startedAt: string
  endedAt?: string
  /** What it does at the moment, in a word or two. */
  phase: string
  /** 0 to 1, if that can be known. */
  progress?: number
  result?: unknown
  /** A problem document. */
  problem?: Record<string, unknown>
}

/** What a job's work gets. */
export interface Work {
  id: string
  signal: AbortSignal
  progress(phase: string, fraction?: number): void
}

/** Long work, one heavy piece at a time. STUB: the heap part's owner writes it. */
export interface Jobs {
  /**
   * @param heavy Then only one at a time, with the cooldown and the daily budget.
   * @throws {Problem} 409 `ERR_LAMEDUCK_OPS_BUSY` with who has it and since when; 429 `ERR_LAMEDUCK_OPS_COOLDOWN` or
   *   `ERR_LAMEDUCK_OPS_BUDGET` with `retryAfterMs`.
   */
  start(kind: string, who: Pick<Principal, 'name' | 'from'>, heavy: boolean, run: (work: Work) => Promise<unknown>): JobReport
  list(): JobReport[]
  get(id: string): JobReport | undefined
  /** Resolves when it has ended, however. */
  ended(id: string): Promise<JobReport>
  cancel(id: string): boolean
}
