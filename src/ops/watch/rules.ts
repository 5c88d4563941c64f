import { messageOf } from '../../core/thrown.ts'
import type { JobReport } from '../heap/jobs.ts'
import { Problem } from '../http/problem.ts'
import type { Sample } from './leak-watch.ts'
import type { Rule } from './rule.ts'
import type { Verdict } from './series-watch.ts'

/** Why a rule acts: in words, and what the GC left. */
export interface Why {
  reason: string
  sample: Sample
  verdict: Verdict
}

/** A rule as `/rules` shows it. */
export interface RuleReport extends Rule {
  /** cooling: it has acted, or could not, a short time ago. spent: it has acted as often as it may. */
  state: 'armed' | 'cooling' | 'spent'
  by: string
  /** ISO 8601. */
  armedAt: string
  expiresAt: string
  acted: number
  lastActedAt?: string
  lastJob?: string
  /** Why it could not act the last time, or its job came to nothing. */
  lastProblem?: string
}

/** What is to be kept of the rules when the thread that looks after them crashes: none is to act once more for that. */
export interface RulesLedger {
  /** Snapshots and profiles that they took. */
  acts: number
  armed: KeptRule[]
}

interface KeptRule {
  rule: Rule
  by: string
  /** ms since 1970. */
  at: number
  acted: number
  /** When it last acted. */
  last?: number
  /** Not before that. */
  next?: number
  lastJob?: string
  lastProblem?: string
  /** How many of its jobs failed. */
  failures?: number
}

/** The job that a rule has started, and how it ends. */
export interface Started {
  job: string
  ended?: Promise<Pick<JobReport, 'state' | 'problem'>>
}

export interface RulesOptions {
  /** Does what the rule says. Not called for `log`. */
  act: (rule: Rule, why: Why) => Promise<Started>
  /** Hears of each act, before it, and of what came of it. */
  log?: (rule: Rule, why: Why, outcome: 'acts' | 'acted' | 'failed', detail?: string) => void
  /** From before a crash. */
  ledger?: RulesLedger | undefined
  /** Hears of what is to be kept beyond a crash, at every change. */
  onLedger?: (ledger: RulesLedger) => void
  /** V8's heap limit, bytes. */
  limit: number
  /** Snapshots and profiles of all rules together, in the life of the process. Default 10. */
  perProcess?: number
  /** ms since 1970. */
  now?: () => number
}

/** So often a job that failed is no act, in the life of a rule: each may have cost what a snapshot costs. */
const FORGIVEN = 3

/** After a refusal that does not say for how long. */
const RETRY_MS = 60_000

/** Rules that can be armed at once. */
const MOST = 32

interface Armed extends KeptRule {
  /** When the condition held. */
  hits: number[]
  busy: boolean
}

const iso = (ms: number) => new Date(ms).toISOString()
const MB = 2 ** 20

/** Nothing came of it, and it counts all the same. */
class Spent extends Error {}

function retryAfter(error: unknown): number {
  const wait = error instanceof Problem ? error.more['retryAfterMs'] : undefined
  return typeof wait === 'number' ? wait : RETRY_MS
}

/** Acts when what a major GC left fulfils a rule. */
export class Rules {
  #options: Required<Omit<RulesOptions, 'ledger'>>
  #armed = new Map<string, Armed>()
  #acts = 0

  constructor({ act, log = () => {}, limit, perProcess = 10, now = Date.now, onLedger = () => {}, ledger }: RulesOptions) {
    this.#options = { act, log, limit, perProcess, now, onLedger }
    this.#acts = ledger?.acts ?? 0
    for (const kept of ledger?.armed ?? []) this.#armed.set(kept.rule.name, { ...kept, hits: [], busy: false })
  }

  /**
   * Arms a rule; one of the same name is replaced, and begins anew.
   *
   * @throws {Problem} 409 `ERR_LAMEDUCK_OPS_RULES_FULL` when 32 others are armed.
   */
  arm(rule: Rule, by: string): RuleReport {
    this.#expire()
    if (!this.#armed.has(rule.name) && this.#armed.size >= MOST) {
      throw new Problem(409, 'ERR_LAMEDUCK_OPS_RULES_FULL', `${MOST} rules are armed; disarm one first`)
    }
    const armed: Armed = { rule, by, at: this.#options.now(), hits: [], busy: false, acted: 0 }
    this.#armed.set(rule.name, armed)
    this.#save()
    return this.#report(armed)
  }

  /** @returns False when there was none. */
  disarm(name: string): boolean {
    this.#expire()
    const known = this.#armed.delete(name)
    if (known) this.#save()
    return known
  }

  list(): RuleReport[] {
    this.#expire()
    return [...this.#armed.values()].map(armed => this.#report(armed))
  }

  /** What is left of the maximum per process. */
  get left(): number {
    return Math.max(0, this.#options.perProcess - this.#acts)
  }

  /** Looks at each rule after a major GC. A GC of our own (a snapshot begins with two) fulfils no rule. */
  look(sample: Sample, verdict: Verdict): void {
    if (sample.forced) return
    this.#expire()
    for (const armed of this.#armed.values()) {
      const reason = this.#reason(armed.rule, sample, verdict)
      if (reason === undefined) continue
      const { times, withinMs } = armed.rule
      armed.hits = [...armed.hits, sample.at].filter(at => sample.at - at <= withinMs).slice(-times)
      if (armed.hits.length < times || armed.busy || this.#state(armed) !== 'armed') continue
      const often = times > 1 ? `, ${times} times in ${Math.ceil((sample.at - (armed.hits[0] as number)) / 1_000)} s` : ''
      void this.#act(armed, { reason: reason + often, sample, verdict })
    }
  }

  async #act(armed: Armed, why: Why): Promise<void> {
    const { log, perProcess, now } = this.#options
    const { rule } = armed
    const heavy = rule.action !== 'log'
    const before = armed.last
    armed.next = now() + rule.cooldownMs
    armed.hits = []
    delete armed.lastProblem
    if (heavy && this.#acts >= perProcess) {
      armed.lastProblem = `the rules of this process have acted ${perProcess} times, their maximum`
      this.#save()
      log(rule, why, 'failed', armed.lastProblem)
      return
    }
    armed.busy = true
    armed.last = now()
    // Counted before: two rules may be fulfilled by one GC.
    if (heavy) this.#acts++
    armed.acted++
    this.#save()
    try {
      log(rule, why, 'acts')
      if (heavy) await this.#start(armed, why)
    } catch (error) {
      if (!(error instanceof Spent)) {
        // Nothing was taken.
        armed.acted--
        if (heavy) this.#acts--
        if (before === undefined) delete armed.last
        else armed.last = before
      }
      armed.lastProblem = messageOf(error)
      log(rule, why, 'failed', armed.lastProblem)
    } finally {
      armed.busy = false
      this.#save()
    }
  }

  /** @throws What refused the job, or ended it without a result. */
  async #start(armed: Armed, why: Why): Promise<void> {
    const { act, log, now } = this.#options
    const { rule } = armed
    const { job, ended } = await act(rule, why).catch((error: unknown) => {
      // Nothing has begun, so there is nothing to rest from.
      armed.next = now() + retryAfter(error)
      throw error
    })
    armed.lastJob = job
    log(rule, why, 'acted', job)
    this.#save()
    const { state = 'done', problem = {} } = await ended ?? {}
    if (state === 'done') return
    // It may have cost something: not at once again.
    armed.next = now() + rule.cooldownMs
    const { detail } = problem
    const text = `job ${job} ${state === 'cancelled' ? 'was cancelled' : 'failed'}: ${typeof detail === 'string' ? detail : 'without a reason'}`
    armed.failures = (armed.failures ?? 0) + 1
    // Whoever called it off does not want it again.
    throw state === 'cancelled' || armed.failures > FORGIVEN ? new Spent(text) : new Error(text)
  }

  #save(): void {
    const armed = [...this.#armed.values()].map(({ hits: _hits, busy: _busy, ...kept }) => kept)
    this.#options.onLedger({ acts: this.#acts, armed })
  }

  #reason({ when }: Rule, sample: Sample, verdict: Verdict): string | undefined {
    if ('leak' in when) {
      const holds = verdict === 'suspected' || (when.leak === 'watch' && verdict === 'watch')
      return holds ? `leak watch says ${verdict}` : undefined
    }
    const level = sample[when.series]
    const over = 'overBytes' in when ? when.overBytes : (when.overPercent / 100) * this.#options.limit
    const named = 'overBytes' in when ? `${Math.round(over / MB)} MB` : `${when.overPercent} % of the limit (${Math.round(over / MB)} MB)`
    return level > over ? `${when.series} ${Math.round(level / MB)} MB over ${named}` : undefined
  }

  #state({ rule, acted, next = 0 }: Armed): RuleReport['state'] {
    if (acted >= rule.count) return 'spent'
    return this.#options.now() < next ? 'cooling' : 'armed'
  }

  #expire(): void {
    const now = this.#options.now()
    for (const [name, { rule, at }] of [...this.#armed]) if (now - at >= rule.ttlMs) this.#armed.delete(name)
  }

  #report(armed: Armed): RuleReport {
    const { rule, by, at, acted, last, lastJob, lastProblem } = armed
    return {
      ...rule, state: this.#state(armed), by, armedAt: iso(at), expiresAt: iso(at + rule.ttlMs), acted,
      ...(last !== undefined && { lastActedAt: iso(last) }), ...(lastJob !== undefined && { lastJob }),
      ...(lastProblem !== undefined && { lastProblem }),
    }
  }
}
