import type { Crew } from './crew.ts'
import type { Member } from './member.ts'
import type { Settings } from './options.ts'
import type { System } from './system.ts'
import type { Turns } from './turn.ts'

/** A peak that is over with the next collection is no reason. */
const BEATS = 3
/** After a replacement that failed. */
const PAUSE_MS = 60_000

/** Replaces workers that are over their budget of memory, age or requests: new first, one at a time. */
export class Recycler {
  #crew: Crew
  #settings: Settings
  #system: System
  #turns: Turns
  /** For how many looks in a row a member has been over its memory. */
  #over = new WeakMap<Member, number>()
  #notBefore = -Infinity

  constructor(crew: Crew, settings: Settings, system: System, turns: Turns) {
    this.#crew = crew
    this.#settings = settings
    this.#system = system
    this.#turns = turns
  }

  /** To be called every `heartbeatMs`. */
  look(): void {
    for (const slot of this.#crew.slots) {
      const member = slot.current
      if (!member?.ready || slot.next) continue
      const why = this.#reason(member)
      if (why === undefined || this.#turns.busy || this.#system.now() < this.#notBefore) continue
      void this.#turns.take(`worker ${member.slot} (pid ${member.pid}) is being recycled`, async () => {
        if (slot.current !== member || !member.ready || slot.next) return
        this.#crew.step(slot, 'recycling', { why })
        if (!(await this.#crew.renew(slot, why))) this.#notBefore = this.#system.now() + PAUSE_MS
      })
    }
  }

  #reason(member: Member): string | undefined {
    const { maxAgeMs, maxHeapBytes, maxRequests, maxRssBytes, jitter } = this.#settings
    const early = 1 - jitter * member.lot
    const ageMs = this.#system.now() - member.bornAt
    if (ageMs > maxAgeMs * early) return `it is ${Math.round(ageMs / 1_000)} s old`
    const { vitals } = member
    if (!vitals) return undefined
    if (vitals.requests > maxRequests * early) return `it has answered ${vitals.requests} requests`
    const large = vitals.rss > maxRssBytes * early || vitals.heapUsed > maxHeapBytes * early
    const looks = large ? (this.#over.get(member) ?? 0) + 1 : 0
    this.#over.set(member, looks)
    return looks < BEATS ? undefined : `it uses ${mib(vitals.rss)} of memory, ${mib(vitals.heapUsed)} of heap`
  }
}

const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`
