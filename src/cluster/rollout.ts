import { Latch } from '../core/latch.ts'
import type { Crew } from './crew.ts'
import { ClusterError, clusterError, type ClusterErrorCode } from './errors.ts'
import type { Member } from './member.ts'
import type { Settings } from './options.ts'
import type { Release } from './release.ts'
import type { Slot } from './slot.ts'
import type { System } from './system.ts'
import type { Waiting } from './turn.ts'

/** How a reload ended. */
export interface ReloadResult {
  /**
   * reloaded: all workers are of the new generation; rolled-back: all are of the old one, as before; mixed: the new one failed
   * half way and the old one did not start again, so both serve.
   */
  outcome: 'reloaded' | 'rolled-back' | 'mixed'
  /** The generation that was tried. */
  generation: number
  /** Why it was not reloaded. */
  code?: ClusterErrorCode
  reason?: string
  durationMs: number
  /** Old workers that did not leave in time, or whose drain was cut. */
  cut: number
  /** Workers that were ready when it began, and the fewest that were at any moment of it. */
  readyBefore: number
  readyLeast: number
}

/** Less is no evidence. */
const CANARY_RESPONSES = 20

/** Responses, and those with a status of 500 or more. */
interface Tally {
  requests: number
  errors: number
}

const beingReplaced = ({ index }: Slot) => `worker ${index} is being replaced already`

const share = ({ requests, errors }: Tally) => (requests === 0 ? 0 : errors / requests)

/**
 * One reload. Its invariants:
 *
 * - There are never fewer ready workers than when it began, but for those that die by themselves.
 * - At most one new worker is not ready at a time.
 * - A worker of the old generation is retired only after the one that takes its place has proved itself.
 * - When a new one fails, the old generation stays, or comes back the same way, and the result says why. One that dies by itself
 *   before all the old ones have gone has failed, too.
 */
export class Rollout {
  #crew: Crew
  #settings: Settings
  #system: System
  /** Old releases by slot, for the way back. */
  #done = new Map<Slot, Release>()
  #retired = new Set<Member>()
  /** What it brings. */
  #release: Release | undefined
  /** One of those that have taken over has failed. */
  #casualty: ClusterError | undefined
  #cut = 0
  /** Hears of each change of a worker's state. */
  #changed = () => {}
  /** There is a casualty. */
  #fallen = new Latch()
  #farewells: Promise<unknown>[] = []
  #waiting: Waiting

  /** @param waiting Hears of what is not its own work. */
  constructor(crew: Crew, settings: Settings, system: System, waiting: Waiting) {
    this.#crew = crew
    this.#settings = settings
    this.#system = system
    this.#waiting = waiting
  }

  /**
   * @param next Makes the new release; what it throws is a reason to stay with the old one.
   * @throws {ClusterError} `ERR_LAMEDUCK_CLUSTER_STOPPED` when all were told to go meanwhile: nothing has failed, and nothing is rolled back.
   */
  async run(generation: number, next: () => Release): Promise<ReloadResult> {
    const began = this.#system.now()
    const readyBefore = this.#crew.ready
    let readyLeast = readyBefore
    this.#crew.onChange = () => {
      readyLeast = Math.min(readyLeast, this.#crew.ready)
      const stuck = this.#fresh.find(({ state }) => state === 'stuck')
      if (stuck) this.#fell(stuck, `gave no sign of life for ${this.#settings.stuckMs} ms`)
      this.#changed()
    }
    this.#crew.onCrash = (member, { code }, why) => {
      // One that drained and left by its own wish has not failed.
      const left = code === 0 && member.crash === undefined && member.ducks !== 'none' && member.ducks !== 'running'
      if (!left && this.#isFresh(member)) this.#fell(member, `ended ${((this.#system.now() - member.provedAt) / 1_000).toFixed(1)} s later with ${why}`)
    }
    let failure: ClusterError | undefined
    let back = true
    try {
      this.#release = next()
      await this.#forward(this.#release)
    } catch (error) {
      failure = this.#casualty ?? clusterError(error, 'ERR_LAMEDUCK_CLUSTER_DIED')
      if (failure.code === 'ERR_LAMEDUCK_CLUSTER_STOPPED') throw failure
      back = await this.#back()
    } finally {
      this.#crew.onChange = () => {}
      this.#crew.onCrash = () => {}
    }
    return {
      outcome: failure ? (back ? 'rolled-back' : 'mixed') : 'reloaded',
      generation,
      ...(failure && { code: failure.code, reason: failure.message }),
      durationMs: Math.round(this.#system.now() - began),
      cut: this.#cut,
      readyBefore,
      readyLeast,
    }
  }

  /** Those of the new release that have taken over, and who has taken over from such a one. */
  get #fresh(): Member[] {
    return this.#crew.slots.flatMap(({ current }) => current && this.#isFresh(current) ? current : [])
  }

  #isFresh(member: Member): member is Member & { provedAt: number } {
    return member.release === this.#release && member.provedAt !== undefined
  }

  #fell(member: Member, how: string): void {
    this.#casualty ??= new ClusterError('ERR_LAMEDUCK_CLUSTER_DIED', `${member.title}: it was ready, and ${how}`)
    this.#fallen.open()
    // Nobody waits for what is not wanted any more.
    for (const { next } of this.#crew.slots) if (next && next.release === this.#release && next.provedAt === undefined) void next.retire('rolled back')
  }

  async #forward(release: Release): Promise<void> {
    // A copy: slots may be taken away by a stop.
    for (const slot of [...this.#crew.slots]) {
      // One that leaves, or is stuck, is replaced whoever else is at work.
      do {
        await Promise.race([this.#settled(slot), this.#fallen.opened])
        await this.#room()
        if (this.#casualty) throw this.#casualty
      } while (slot.next)
      this.#waiting(undefined)
      const canary = this.#done.size === 0 && this.#settings.canaryMs > 0
      await this.#replace(slot, release, canary ? member => this.#canary(slot, member) : undefined)
    }
    // Whoever waits for the end of a deploy wants the old release to be gone.
    await Promise.race([Promise.all(this.#farewells), this.#fallen.opened])
    if (this.#casualty) throw this.#casualty
  }

  /** Nothing old is taken away while what took over before is not in order. */
  async #hold(member: Member, canary?: (member: Member) => Promise<void>): Promise<void> {
    await canary?.(member)
    // The new one itself as well: what they all need may be away for a moment.
    for (;;) {
      const one = [...this.#fresh, member].find(({ state }) => state === 'unready')
      if (this.#casualty) throw this.#casualty
      if (!one) return
      await this.#steady(one)
    }
  }

  /** Waits until it is ready again, or something else becomes of it. @throws {ClusterError} `ERR_LAMEDUCK_CLUSTER_UNREADY` after `readyTimeoutMs`. */
  async #steady(member: Member): Promise<void> {
    const { readyTimeoutMs } = this.#settings
    this.#waiting(`worker ${member.slot} (pid ${member.pid}) is not ready any more: ${member.why}`)
    let cancel = () => {}
    const late = new Promise<never>((_, reject) => {
      cancel = this.#system.after(readyTimeoutMs, () => {
        reject(new ClusterError('ERR_LAMEDUCK_CLUSTER_UNREADY', `${member.title}: it was ready, and then not for ${readyTimeoutMs} ms: ${member.why}`))
      })
    })
    try {
      const changed = new Promise<void>(resolve => {
        this.#changed = () => {
          if (member.state !== 'unready') resolve()
        }
      })
      await Promise.race([changed, late, this.#fallen.opened])
    } finally {
      this.#changed = () => {}
      cancel()
      this.#waiting(undefined)
    }
  }

  async #replace(slot: Slot, release: Release, hold?: (member: Member) => Promise<void>): Promise<void> {
    const before = slot.release
    const old = await this.#crew.succeed(slot, release, member => this.#hold(member, hold))
    // What kept the last one's slot empty was in its release.
    slot.backoff.reset()
    this.#done.set(slot, before)
    if (!old) return
    this.#retired.add(old)
    this.#farewells.push(old.retire('reload').then(({ clean }) => {
      if (!clean) this.#cut++
    }))
  }

  async #settled(slot: Slot): Promise<void> {
    if (slot.next) this.#waiting(beingReplaced(slot))
    await slot.settled
  }

  /** Those that drain count, too: memory is what `surge` is about. */
  async #room(): Promise<void> {
    const most = this.#crew.slots.length + this.#settings.surge
    while (this.#crew.members.size >= most && !this.#casualty) {
      const members = [...this.#crew.members]
      const slots = this.#crew.slots.filter(({ next }) => next)
      // Those that it has told to go itself are steps of its own.
      const going = members.filter(member => (member.state === 'retiring' || member.state === 'leaving') && !this.#retired.has(member) && !slots.some(({ current }) => current === member))
      const why = slots.map(beingReplaced)
      if (going.length > 0) why.unshift(`${going.map(({ slot, pid }) => `worker ${slot} (pid ${pid})`).join(' and ')} ${going.length > 1 ? 'have' : 'has'} yet to end`)
      this.#waiting(why.length > 0 ? why.join(', ') : undefined)
      await Promise.race([...members.map(member => member.exited), ...slots.map(({ settled }) => settled), this.#fallen.opened])
    }
  }

  /** @returns Whether every slot is of the old generation again. */
  async #back(): Promise<boolean> {
    let back = true
    for (const [slot, release] of [...this.#done].toReversed()) {
      this.#crew.step(slot, 'rolling back')
      await this.#settled(slot)
      this.#waiting(undefined)
      try {
        const failed = await this.#crew.succeed(slot, release)
        void failed?.retire('rolled back')
      } catch (error) {
        if ((error as ClusterError).code === 'ERR_LAMEDUCK_CLUSTER_STOPPED') throw error
        back = false
        this.#crew.step(slot, 'failed', { why: `the old release did not start again: ${(error as Error).message}` })
      }
    }
    return back
  }

  async #canary(slot: Slot, canary: Member): Promise<void> {
    const { canaryMs, canaryErrors } = this.#settings
    this.#crew.step(slot, 'canary', { afterMs: canaryMs })
    const others = [...this.#crew.members].filter(member => member !== canary)
    const before = new Map(others.map(member => [member, tallyOf(member)]))
    let elapsed = () => {}
    const over = new Promise<void>(resolve => {
      elapsed = this.#system.after(canaryMs, resolve)
    })
    const died = canary.exited.then(() => {
      throw new ClusterError('ERR_LAMEDUCK_CLUSTER_CANARY', `the first worker of generation ${canary.release.generation} died while it served alone${
        canary.crash === undefined ? '' : `: ${canary.crash}`}`)
    })
    try {
      await Promise.race([over, died])
    } finally {
      elapsed()
    }
    died.catch(() => {})
    const own = tallyOf(canary)
    const rest = sum(others.map(member => difference(tallyOf(member), before.get(member))))
    if (own.requests < CANARY_RESPONSES || share(own) <= share(rest) + canaryErrors) return
    const percent = (tally: Tally) => `${(100 * share(tally)).toFixed(1)} %`
    throw new ClusterError('ERR_LAMEDUCK_CLUSTER_CANARY', `the first worker of generation ${canary.release.generation} answered ${percent(own)} of ${
      own.requests} requests with 5xx; the others ${percent(rest)} of ${rest.requests}`)
  }
}

function tallyOf({ vitals }: Member): Tally {
  return { requests: vitals?.requests ?? 0, errors: vitals?.errors ?? 0 }
}

function difference(now: Tally, before: Tally = { requests: 0, errors: 0 }): Tally {
  return { requests: now.requests - before.requests, errors: now.errors - before.errors }
}

function sum(tallies: Tally[]): Tally {
  return tallies.reduce((all, one) => ({ requests: all.requests + one.requests, errors: all.errors + one.errors }), { requests: 0, errors: 0 })
}
