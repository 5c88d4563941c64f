import { randomUUID } from 'node:crypto'
import { messageOf } from '../../core/thrown.ts'
import type { Principal } from '../http/route.ts'
import { Problem } from '../http/problem.ts'

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
  /** Aborted by `cancel()`. The job goes on until its work has settled: only then another heavy one may begin. */
  signal: AbortSignal
  progress(phase: string, fraction?: number): void
  /** Nothing heavy has been done: neither the cooldown nor the daily budget counts this job. */
  refund(): void
}

/** Long work, one heavy piece at a time. */
export interface Jobs {
  /**
   * @param heavy Then only one at a time, with the cooldown and the daily budget.
   * @throws {Problem} 409 `ERR_LAMEDUCK_OPS_BUSY` with who has it and since when; 429 `ERR_LAMEDUCK_OPS_COOLDOWN` or
   *   `ERR_LAMEDUCK_OPS_BUDGET` with `retryAfterMs`.
   */
  start(kind: string, who: Pick<Principal, 'name' | 'from'>, heavy: boolean, run: (work: Work) => Promise<unknown>): JobReport
  list(): JobReport[]
  get(id: string): JobReport | undefined
  /** Resolves when it has ended, however. @throws {Problem} 404 `ERR_LAMEDUCK_OPS_NOT_FOUND`, as a rejection. */
  ended(id: string): Promise<JobReport>
  /** @returns Whether there was something to cancel. */
  cancel(id: string): boolean
  /** Cancels what runs, and resolves when it has settled. */
  close(): Promise<void>
}

/** What is known of the jobs: the main thread keeps it for when the endpoint's thread crashes, which is to give nobody a new budget. */
export interface Ledger {
  jobs: JobReport[]
  /** When heavy jobs began, in the last 24 hours. */
  begun: number[]
  /** When the last heavy job ended; -Infinity before the first. */
  lastEnd: number
  /** Whether a heavy one runs that counts. */
  heavy: boolean
}

/** Of {@link createJobs}. */
export interface JobsOptions {
  /** Between two heavy jobs: from the end of one to the start of the next. */
  cooldownMs: number
  /** Heavy jobs in any 24 hours. */
  perDay: number
  /** Hears of every beginning and end: for the audit. */
  onChange?: (job: JobReport, from: string) => void
  /** From before a crash: what ran then has failed. */
  ledger?: Ledger | undefined
  /** Hears of what is to be kept beyond a crash, at every change. */
  onLedger?: (ledger: Ledger) => void
  /** Milliseconds since the epoch. */
  now?: () => number
}

/** How many are remembered, those that run included. */
const KEPT = 50

const DAY_MS = 86_400_000

interface Job {
  report: JobReport
  controller: AbortController
  ended: Promise<JobReport>
}

const crashed = () => new Problem(500, 'ERR_LAMEDUCK_OPS_CRASHED', 'the endpoint\'s thread crashed while the job ran')

function documentOf(error: unknown): Record<string, unknown> {
  if (error instanceof Problem) return error.toJSON()
  const detail = messageOf(error)
  return new Problem(500, 'ERR_LAMEDUCK_OPS_FAILED', detail).toJSON()
}

/** The jobs of one endpoint. */
class JobBook implements Jobs {
  #options: Required<Pick<JobsOptions, 'cooldownMs' | 'perDay' | 'now'>> & JobsOptions
  #jobs = new Map<string, Job>()
  #heavy: JobReport | undefined
  /** When heavy jobs began, in the last 24 hours. */
  #begun: number[] = []
  #lastEnd = -Infinity
  #closed = false

  /** Whether it counts. */
  #counts = false

  constructor(options: JobsOptions) {
    this.#options = { now: Date.now, ...options }
    if (options.ledger) this.#resume(options.ledger)
  }

  start(kind: string, who: Pick<Principal, 'name' | 'from'>, heavy: boolean, run: (work: Work) => Promise<unknown>): JobReport {
    if (this.#closed) throw new Problem(503, 'ERR_LAMEDUCK_OPS_CLOSED', 'the endpoint is closing')
    const at = this.#options.now()
    if (heavy) this.#admit(at)
    const report: JobReport = {
      id: randomUUID(), kind, by: who.name, state: 'running', startedAt: new Date(at).toISOString(), phase: 'starting',
    }
    const controller = new AbortController()
    if (heavy) this.#heavy = report
    let counts = heavy
    if (heavy) this.#counts = true
    const refund = () => {
      if (counts) this.#begun.splice(this.#begun.lastIndexOf(at), 1)
      if (counts) this.#counts = false
      counts = false
      this.#save()
    }
    const ended = this.#run(report, controller.signal, refund, run).then(() => {
      if (heavy) this.#heavy = undefined
      if (counts) this.#lastEnd = this.#options.now()
      if (counts) this.#counts = false
      this.#save()
      this.#options.onChange?.({ ...report }, who.from)
      return report
    })
    this.#jobs.set(report.id, { report, controller, ended })
    this.#forget()
    this.#save()
    this.#options.onChange?.({ ...report }, who.from)
    return { ...report }
  }

  list(): JobReport[] {
    return [...this.#jobs.values()].map(({ report }) => ({ ...report }))
  }

  get(id: string): JobReport | undefined {
    const job = this.#jobs.get(id)
    return job && { ...job.report }
  }

  async ended(id: string): Promise<JobReport> {
    const job = this.#jobs.get(id)
    if (!job) throw new Problem(404, 'ERR_LAMEDUCK_OPS_NOT_FOUND', 'there is no such job')
    return { ...await job.ended }
  }

  cancel(id: string): boolean {
    const job = this.#jobs.get(id)
    if (job?.report.state !== 'running') return false
    job.controller.abort(new Problem(409, 'ERR_LAMEDUCK_OPS_CANCELLED', 'the job was cancelled'))
    return true
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const id of this.#jobs.keys()) this.cancel(id)
    await Promise.all([...this.#jobs.values()].map(({ ended }) => ended))
  }

  #admit(at: number): void {
    const { cooldownMs, perDay } = this.#options
    if (this.#heavy) {
      const { id, kind, by, startedAt } = this.#heavy
      throw new Problem(409, 'ERR_LAMEDUCK_OPS_BUSY', `${kind} of ${by} is running since ${startedAt}`, { job: id, kind, by, since: startedAt })
    }
    const coolMs = this.#lastEnd + cooldownMs - at
    if (coolMs > 0) {
      const retryAfterMs = Math.ceil(coolMs)
      throw new Problem(429, 'ERR_LAMEDUCK_OPS_COOLDOWN', `the last heavy job ended less than ${cooldownMs} ms ago`, { retryAfterMs })
    }
    this.#begun = this.#begun.filter(begun => begun > at - DAY_MS)
    if (this.#begun.length >= perDay) {
      const retryAfterMs = Math.ceil((this.#begun[this.#begun.length - perDay] ?? at) + DAY_MS - at)
      throw new Problem(429, 'ERR_LAMEDUCK_OPS_BUDGET', `${perDay} heavy jobs within 24 hours are the limit`, { retryAfterMs })
    }
    this.#begun.push(at)
  }

  async #run(report: JobReport, signal: AbortSignal, refund: () => void, run: (work: Work) => Promise<unknown>): Promise<void> {
    const progress = (phase: string, fraction?: number) => {
      if (report.state !== 'running') return
      const isNew = report.phase !== phase
      report.phase = phase
      if (fraction === undefined) delete report.progress
      else report.progress = Math.min(1, Math.max(0, fraction))
      if (isNew) this.#save()
    }
    try {
      // Not within start(): whoever starts it gets the report first.
      await Promise.resolve()
      const result = await run({ id: report.id, signal, progress, refund })
      report.state = 'done'
      if (result !== undefined) report.result = result
    } catch (error) {
      report.state = signal.aborted ? 'cancelled' : 'failed'
      report.problem = documentOf(signal.aborted ? signal.reason : error)
    }
    report.endedAt = new Date(this.#options.now()).toISOString()
    delete report.progress
    if (report.state === 'done') report.phase = 'done'
  }

  #save(): void {
    this.#options.onLedger?.({ jobs: this.list(), begun: [...this.#begun], lastEnd: this.#lastEnd, heavy: this.#counts })
  }

  /** Goes on where a thread that crashed was. Nobody knows how far its heavy job was: it counts. */
  #resume({ jobs, begun, lastEnd, heavy }: Ledger): void {
    const at = this.#options.now()
    this.#begun = [...begun]
    this.#lastEnd = heavy ? at : lastEnd
    for (const known of jobs) {
      const ran = known.state === 'running'
      const report: JobReport = { ...known, ...(ran && { state: 'failed', endedAt: new Date(at).toISOString(), problem: crashed().toJSON() }) }
      delete report.progress
      this.#jobs.set(report.id, { report, controller: new AbortController(), ended: Promise.resolve(report) })
      if (ran) this.#options.onChange?.({ ...report }, 'process')
    }
    this.#save()
  }

  #forget(): void {
    for (const [id, { report }] of this.#jobs) {
      if (this.#jobs.size <= KEPT) return
      if (report.state !== 'running') this.#jobs.delete(id)
    }
  }
}

/** The jobs of one endpoint. */
export function createJobs(options: JobsOptions): Jobs {
  return new JobBook(options)
}
