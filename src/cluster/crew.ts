import { ClusterError, clusterError } from './errors.ts'
import { describeExit, Member, type Farewell, type Watcher } from './member.ts'
import type { Settings } from './options.ts'
import type { Release } from './release.ts'
import { Slot } from './slot.ts'
import type { Step } from './step.ts'
import type { Exit, System } from './system.ts'

const stopped = () => new ClusterError('ERR_LAMEDUCK_CLUSTER_STOPPED', 'the supervisor is stopping')

/** Whom a crew tells. */
export interface CrewHost {
  step(step: Step): void
  /** A worker has been started. */
  forked(member: Member): void
  /** Every slot has been given up. */
  gaveUp(error: ClusterError): void
  asks: Watcher['asks']
  exited(member: Member): void
}

/**
 * The workers and their places: starts one, replaces one that ended unasked, and lets a new one take over from an old one.
 *
 * - A worker is retired only after the one that takes over has proved itself.
 * - A slot never has more than one worker that is not ready.
 * - What dies again and again is given up; the others go on.
 */
export class Crew implements Watcher {
  readonly slots: Slot[] = []
  /** Every process that has not ended. */
  readonly members = new Set<Member>()
  /** Told of every change of a state. */
  onChange = () => {}
  /** Told of a worker that served, and ended unasked. */
  onCrash: (member: Member, exit: Exit, why: string) => void = () => {}
  #settings: Settings
  #system: System
  #host: CrewHost
  #stopping = false
  #checkedAt: number

  constructor(settings: Settings, system: System, host: CrewHost) {
    this.#settings = settings
    this.#system = system
    this.#host = host
    this.#checkedAt = system.now()
  }

  /** How many serve. */
  get ready(): number {
    let count = 0
    for (const member of this.members) if (member.ready) count++
    return count
  }

  add(release: Release): Slot {
    const slot = new Slot(this.slots.length, release, this.#settings)
    this.slots.push(slot)
    return slot
  }

  /** Takes the last slot away; what is in it goes. */
  remove(reason: string): Promise<Farewell>[] {
    const slot = this.slots.pop()
    slot?.cancel()
    const lost = this.slots.find(({ error }) => error)?.error
    if (lost) this.#lookIfLost(lost)
    return slot ? [slot.current, slot.next].filter(member => member !== undefined).map(member => member.retire(reason)) : []
  }

  /** Starts the first worker of a slot, and waits until it is proved; one that fails is not replaced. */
  open(slot: Slot): Promise<void> {
    const opening = this.#open(slot)
    slot.settled = opening.catch(() => {})
    return opening
  }

  async #open(slot: Slot): Promise<void> {
    const member = this.#launch(slot, slot.release)
    slot.next = member
    try {
      await member.proved
    } catch (error) {
      slot.next = undefined
      void member.retire('it did not get ready')
      throw error
    }
    slot.next = undefined
    slot.current = member
  }

  /**
   * Starts a new worker and lets it take over once it is proved.
   *
   * @param hold More that the new one must stand before it takes over.
   * @returns The one that was there; it has not been told.
   * @throws {ClusterError} When the new one fails: it is told to go then, and everything else is as it was.
   */
  succeed(slot: Slot, release: Release, hold?: (member: Member) => Promise<void>): Promise<Member | undefined> {
    if (slot.next) return Promise.reject(new ClusterError('ERR_LAMEDUCK_CLUSTER_BUSY', `worker ${slot.index} is being replaced already`))
    const succession = this.#succeed(slot, release, hold)
    slot.settled = succession.catch(() => {})
    return succession
  }

  async #succeed(slot: Slot, release: Release, hold?: (member: Member) => Promise<void>): Promise<Member | undefined> {
    slot.cancel()
    let next: Member | undefined
    try {
      next = this.#launch(slot, release)
      slot.next = next
      await next.proved
      await hold?.(next)
      if (next.state === 'gone') throw new ClusterError('ERR_LAMEDUCK_CLUSTER_DIED', `worker ${slot.index} died just after it was ready`)
      if (!next.ready) throw new ClusterError('ERR_LAMEDUCK_CLUSTER_UNREADY', `worker ${slot.index} was ready, but then it was ${next.state}`)
    } catch (error) {
      // Whatever it says: it was told to go.
      const failure = this.#stopping ? stopped() : clusterError(error, 'ERR_LAMEDUCK_CLUSTER_DIED')
      slot.next = undefined
      void next?.retire('it failed')
      // The old one may have ended meanwhile.
      if (!slot.current && slot.error) this.#lookIfLost(slot.error)
      else if (!slot.current) this.#restart(slot, undefined)
      throw failure
    }
    const old = slot.current
    slot.current = next
    slot.next = undefined
    slot.release = release
    slot.error = undefined
    return old
  }

  /** Replaces a worker by one of the same release. @returns Whether that worked. */
  async renew(slot: Slot, reason: string): Promise<boolean> {
    try {
      const old = await this.succeed(slot, slot.release)
      void old?.retire(reason)
      return true
    } catch (error) {
      this.#failed(slot, error)
      return false
    }
  }

  /** The slot's worker did not get ready: the next one after a while. */
  retry(slot: Slot, error: unknown): void {
    this.#failed(slot, error)
    if (!slot.current && !slot.next) this.#restart(slot, undefined)
  }

  /** No worker is started any more. */
  stop(): void {
    this.#stopping = true
    for (const slot of this.slots) slot.cancel()
  }

  /** Looks for workers whose event loop is stuck. To be called every `heartbeatMs`. */
  checkBeats(): void {
    const now = this.#system.now()
    // It was us who did not run (a busy primary, a laptop that slept): their signs of life may be waiting to be read.
    const late = now - this.#checkedAt > 2 * this.#settings.heartbeatMs
    this.#checkedAt = now
    for (const member of this.members) {
      if (late || this.#system.epoch() < member.pausedUntil) member.heardAt = now
      const watched = member.provedAt !== undefined && member.state !== 'retiring' && member.state !== 'stuck'
      if (watched && now - member.heardAt > this.#settings.stuckMs) member.enter('stuck')
    }
    // Not as they get stuck: a successor may be on its way just then, and fail.
    for (const slot of this.slots) if (!this.#stopping && !slot.next && slot.current?.state === 'stuck') void this.#unstick(slot, slot.current)
  }

  step(slot: Slot, what: Step['what'], more: { why?: string; afterMs?: number } = {}): void {
    const member = slot.next ?? slot.current
    const generation = (member?.release ?? slot.release).generation
    this.#host.step({ slot: slot.index, ...(member && { pid: member.pid }), generation, what, ...more })
  }

  // What its members tell it.

  changed(member: Member): void {
    this.onChange()
    const { slot, pid, release: { generation }, state } = member
    if (state !== 'gone') this.#host.step({ slot, pid, generation, what: state, ...(state === 'unready' && { why: member.why }) })
    const place = this.#placeOf(member)
    if (this.#stopping || place?.current !== member || place.next) return
    if (state === 'leaving') void this.renew(place, 'it is leaving')
  }

  waits({ slot, pid, release: { generation } }: Member, what: 'not ready yet' | 'not gone yet', why: string): void {
    this.#host.step({ slot, pid, generation, what, why })
  }

  exited(member: Member, exit: Exit): void {
    this.members.delete(member)
    this.#host.exited(member)
    const place = this.#placeOf(member)
    const { slot, pid, release: { generation } } = member
    const unasked = place?.current === member
    const why = `${describeExit(exit)}${member.remark === undefined ? '' : `: ${member.remark}`}`
    this.#host.step({ slot, pid, generation, what: unasked && !this.#stopping ? 'crashed' : 'exited', why })
    if (!unasked) return
    place.current = undefined
    if (!this.#stopping) this.onCrash(member, exit, why)
    // Whoever is about to take over does so; if it fails, succeed() sees that nobody is here.
    if (!place.next) this.#restart(place, member)
  }

  asks(...question: Parameters<Watcher['asks']>): void {
    this.#host.asks(...question)
  }

  #placeOf(member: Member): Slot | undefined {
    return this.slots.find(({ current, next }) => current === member || next === member)
  }

  #launch(slot: Slot, release: Release): Member {
    if (this.#stopping) throw stopped()
    const member = new Member(slot.index, release, this.#settings, this.#system, this)
    this.members.add(member)
    this.#host.forked(member)
    this.#host.step({ slot: slot.index, pid: member.pid, generation: release.generation, what: 'starting' })
    return member
  }

  async #unstick(slot: Slot, member: Member): Promise<void> {
    const replaced = await this.renew(slot, 'it is stuck')
    // It serves nobody, so it goes in any case; its end brings the next attempt.
    if (!replaced && member.state === 'stuck') member.kill('SIGKILL', 'it was stuck')
  }

  #restart(slot: Slot, member: Member | undefined): void {
    if (this.#stopping || !this.slots.includes(slot)) return
    const now = this.#system.now()
    const readyMs = member?.provedAt === undefined ? undefined : now - member.provedAt
    const afterMs = slot.backoff.crashed(readyMs, now)
    if (afterMs === undefined) {
      const last = member?.crash === undefined ? '' : `; the last one said: ${member.crash}`
      slot.error = new ClusterError('ERR_LAMEDUCK_CLUSTER_CRASH_LOOP', `worker ${slot.index} died too often and is not started again${last}`)
      this.step(slot, 'gave up', { why: slot.error.message })
      this.#lookIfLost(slot.error)
      return
    }
    this.step(slot, 'restarting', { afterMs })
    slot.cancel = this.#system.after(afterMs, () => this.#respawn(slot))
  }

  /** Nobody is left, and nobody will come. */
  #lookIfLost(error: ClusterError): void {
    if (this.slots.every(slot => slot.error && !slot.current && !slot.next)) this.#host.gaveUp(error)
  }

  /** Those that a stop tells to go have not failed. */
  #failed(slot: Slot, error: unknown): void {
    if (!this.#stopping) this.step(slot, 'failed', { why: (error as Error).message })
  }

  #respawn(slot: Slot): void {
    if (this.#stopping || slot.current || slot.next) return
    slot.restarts++
    try {
      const member = this.#launch(slot, slot.release)
      slot.current = member
      // One that never gets ready has to end before the next one is tried.
      member.proved.catch(() => void member.retire('it did not get ready'))
    } catch (error) {
      this.step(slot, 'failed', { why: (error as Error).message })
      this.#restart(slot, undefined)
    }
  }
}
