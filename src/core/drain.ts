import type { Progress } from './events.ts'
import type { Hooks } from './hooks.ts'
import { Latch } from './latch.ts'
import type { DrainOptions } from './options.ts'
import type { Counters, Destroyed, DrainReport, HookReport, Stats } from './report.ts'
import type { Tracker } from './tracker.ts'
import { turn } from './turn.ts'

/** How often a drain says what is holding it. */
const PROGRESS_MS = 1_000

/**
 * A lame duck ends early only when no client has connected for so long: to one that opens a connection for each request,
 * no open connection does not mean that it has gone elsewhere. More than the 250 ms that a balancer leaves between two checks.
 */
const CALM_MS = 300

/** The part of the deadline that is kept for the hooks, at most, when connections would use it all. */
const HOOKS_SHARE = 0.2

/** What a drain acts on, and whom it tells. */
export interface Stage {
  readonly trackers: readonly Tracker[]
  readonly hooks: Hooks
  enter(state: Stats['state']): void
  progress(progress: Progress): void
  hook(report: HookReport): void
  stats(): Stats
  fault(where: string, error: unknown): void
}

interface Totals extends Counters {
  gone: number
}

function sum(trackers: readonly Tracker[]): Totals {
  const total: Totals = { accepted: 0, served: 0, rejected: 0, refused: 0, gone: 0 }
  for (const tracker of trackers) {
    const counted = tracker.count()
    for (const key of ['accepted', 'served', 'rejected', 'refused'] as const) total[key] += counted[key]
    total.gone += counted.accepted - tracker.connections.size
  }
  return total
}

/** Servers that drain together, those of the lowest order first. */
function groups(trackers: readonly Tracker[]): Tracker[][] {
  const byOrder = new Map<number, Tracker[]>()
  for (const tracker of [...trackers].sort((a, b) => a.order - b.order)) {
    byOrder.set(tracker.order, [...(byOrder.get(tracker.order) ?? []), tracker])
  }
  return [...byOrder.values()]
}

/** One drain, from the first phase to the report. It always settles by its deadline. */
export class Drain {
  readonly plan: Required<DrainOptions>
  readonly #report = new Latch<DrainReport>()
  #stage: Stage
  #began = performance.now()
  #before = sum([])
  #destroyed: Destroyed[] = []
  /** How many connections are among them. */
  #lost = 0
  #hooks: HookReport[] = []
  /** Not counted yet. */
  #unknown = -1
  /** No connection is left, and no client comes any more. */
  #empty = new Latch()
  #calm: NodeJS.Timeout | undefined
  #lame = false
  /** Nothing is waited for any longer, and why. */
  #cut = new Latch<'deadline' | 'abort'>()
  #forcedBy: 'deadline' | 'abort' | undefined
  /** Not even hooks are waited for. */
  #aborted = new Latch()
  #resumed = new Latch()

  constructor(plan: Required<DrainOptions>, stage: Stage) {
    this.plan = plan
    this.#stage = stage
  }

  get report(): Promise<DrainReport> {
    return this.#report.opened
  }

  start(): void {
    const report = this.#drain().catch((error: unknown) => this.#fail(error))
    void report.then(report => this.#report.open(report))
  }

  /** The last connection of a server has ended. Those that nobody has seen may be in use. */
  emptied(): void {
    const { trackers } = this.#stage
    if (!this.#lame || this.#unknown !== 0 || trackers.some(({ connections }) => connections.size > 0)) return
    const lastAccept = Math.max(...trackers.filter(({ server }) => server.listening).map(({ acceptedAt }) => acceptedAt))
    const leftMs = lastAccept + CALM_MS - performance.now()
    clearTimeout(this.#calm)
    if (leftMs > 0) this.#calm = setTimeout(() => this.emptied(), leftMs)
    else this.#empty.open()
  }

  destroyed(entry: Destroyed, isConnection = true): void {
    this.#destroyed.push(entry)
    if (isConnection) this.#lost++
  }

  resume(): void {
    this.#resumed.open()
  }

  abort(why: 'deadline' | 'abort'): void {
    this.#forcedBy ??= why
    this.#cut.open(why)
    if (why === 'abort') this.#aborted.open()
  }

  async #drain(): Promise<DrainReport> {
    const kept = Math.min(this.#stage.hooks.longestMs('end'), this.plan.deadlineMs * HOOKS_SHARE)
    const deadline = setTimeout(() => this.abort('deadline'), this.plan.deadlineMs - kept)
    const progress = setInterval(() => this.#progress(), PROGRESS_MS)
    try {
      await this.#lameduck()
      if (this.#resumed.isOpen) return this.#finish('resumed')
      await this.#connections()
      clearTimeout(deadline)
      await this.#runHooks('end')
      this.#stage.enter(this.#forcedBy ? 'aborted' : 'drained')
      return this.#finish()
    } finally {
      clearTimeout(deadline)
      clearInterval(progress)
    }
  }

  /** Out of rotation, serving on: until the time is over and the first hooks are done, or no connection is left. */
  async #lameduck(): Promise<void> {
    for (const tracker of this.#stage.trackers) {
      tracker.lameduck()
      if (tracker.listener.shared) tracker.listener.giveUp()
    }
    this.#before = sum(this.#stage.trackers)
    this.#stage.enter('lameduck')
    const unknown = this.#countUnknown()
    // Straight on, in the same turn: whoever calls drain() without a lame duck sees it draining.
    if (this.plan.lameduckMs === 0 && !this.#stage.hooks.has('begin')) return
    // Node may be waiting for a process of its own that hangs.
    await Promise.race([unknown, this.#cut.opened, this.#resumed.opened])
    this.#lame = true
    this.emptied()
    let over: NodeJS.Timeout | undefined
    const elapsed = new Promise<void>(resolve => {
      over = setTimeout(resolve, this.plan.lameduckMs)
    })
    const served = Promise.race([elapsed, this.#empty.opened])
    const hooks = this.#runHooks('begin')
    await Promise.race([Promise.all([served, hooks]), this.#cut.opened, this.#resumed.opened])
    await hooks
    clearTimeout(over)
    clearTimeout(this.#calm)
    this.#lame = false
  }

  async #countUnknown(): Promise<void> {
    const counts = await Promise.all(this.#stage.trackers.map(tracker => tracker.unknown()))
    this.#unknown = counts.reduce((total, count) => total + count, 0)
  }

  /** Closes listeners and connections, server by server in their order; what is left at the end of the time is destroyed. */
  async #connections(): Promise<void> {
    this.#stage.enter('draining')
    // Without what is kept for hooks, at most.
    const leftMs = () => this.#began + this.plan.deadlineMs * (1 - HOOKS_SHARE) - performance.now()
    for (const group of groups(this.#stage.trackers)) {
      if (this.#cut.isOpen) break
      await Promise.race([Promise.all(group.map(tracker => tracker.drain(leftMs()))), this.#cut.opened])
    }
    if (!this.#cut.isOpen) return
    for (const tracker of this.#stage.trackers) tracker.abort(this.#forcedBy ?? 'abort')
    // So that the sockets' own `close` events come before the report.
    await turn()
    await turn()
  }

  async #runHooks(at: 'begin' | 'end'): Promise<void> {
    // At the deadline their part of the time is left to those at the end; after abort() nobody wants to wait for anything.
    const over = () => this.#aborted.isOpen || (at === 'begin' && (this.#cut.isOpen || this.#resumed.isOpen))
    const leftMs = () => (over() ? 0 : this.#began + this.plan.deadlineMs - performance.now())
    const aborted = this.#aborted.opened.then(() => 'aborted' as const)
    const stopped = at === 'end' ? aborted : Promise.race([
      this.#resumed.opened.then(() => 'aborted' as const),
      this.#cut.opened.then(why => (why === 'deadline' ? 'timeout' as const : 'aborted' as const)),
    ])
    await this.#stage.hooks.run(at, leftMs, stopped, report => {
      this.#hooks.push(report)
      this.#stage.hook(report)
    })
  }

  /** Somebody's patch of a server or a socket threw: what is left is destroyed, and the drain ends all the same. */
  #fail(error: unknown): DrainReport {
    this.#stage.fault('the drain', error)
    this.abort('abort')
    for (const tracker of this.#stage.trackers) {
      try {
        tracker.abort('abort')
      } catch (again) {
        this.#stage.fault('the drain', again)
      }
    }
    this.#stage.enter('aborted')
    return this.#finish()
  }

  #progress(): void {
    const { hooks, stats } = this.#stage
    const { running: hook } = hooks
    this.#stage.progress({ elapsedMs: Math.round(performance.now() - this.#began), stats: stats(), ...(hook !== undefined && { hook }) })
  }

  #finish(resumed?: 'resumed'): DrainReport {
    const now = sum(this.#stage.trackers)
    const before = this.#before
    // An unknown one may have had a request in flight.
    const cut = this.#destroyed.some(({ why, unsentBytes }) => unsentBytes > 0 || ['unknown', 'timeout', 'protocol'].includes(why))
    const forcedBy = this.#forcedBy ?? (cut ? 'data' as const : undefined)
    return {
      outcome: resumed ?? (forcedBy ? 'forced' : 'clean'),
      reason: this.plan.reason,
      ...(forcedBy && !resumed && { forcedBy }),
      durationMs: Math.round(performance.now() - this.#began),
      served: now.served - before.served,
      rejected: now.rejected - before.rejected,
      refused: now.refused - before.refused,
      closed: Math.max(0, now.gone - before.gone - this.#lost),
      destroyed: this.#destroyed,
      hooks: this.#hooks,
      unknown: Math.max(0, this.#unknown),
    }
  }
}
