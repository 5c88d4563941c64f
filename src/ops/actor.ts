import { setTimeout as sleep } from 'node:timers/promises'
import { startSnapshot, type SnapshotParams } from './heap/snapshot.ts'
import type { Principal, Scope } from './http/route.ts'
import { heapProfile, type HeapProfile } from './inspect/profile.ts'
import type { HeapSampler, Sampling } from './inspect/sampler.ts'
import type { Bench } from './part.ts'
import type { WatchOptions } from './watch/routes.ts'

/** How long the leak watch samples before its first profile. */
const SAMPLE_MS = 30_000

/** Bytes between two samples, unless a rule says otherwise. */
const INTERVAL_BYTES = 524_288

/** A second profile that is not asked for by then is not coming. */
const HOLD_MS = 600_000

/** Whose job it is that a rule starts. Whoever armed it had the scope for what it takes. */
const principal = (name: string, raw: boolean): Principal => ({ name: `rule:${name}`, from: 'process', scopes: new Set<Scope>(raw ? ['diag', 'secrets'] : ['diag']) })

/** The sampling heap profiler over two profiles: what the first one saw and still lives is in the second. */
class Pair {
  #sampler: HeapSampler
  #sampling: Sampling | undefined
  #sampleMs: number
  #timer: NodeJS.Timeout | undefined

  constructor(sampler: HeapSampler, sampleMs: number) {
    this.#sampler = sampler
    this.#sampleMs = sampleMs
  }

  async profile(): Promise<HeapProfile> {
    const last = this.#sampling
    try {
      const sampling = last ?? await this.#begin()
      const profile = await sampling.profile()
      if (last) this.end()
      return profile
    } catch (error) {
      this.end()
      throw error
    }
  }

  /** Idempotent. */
  end(): void {
    clearTimeout(this.#timer)
    this.#sampling?.leave()
    this.#sampling = undefined
  }

  async #begin(): Promise<Sampling> {
    // Of a profile that somebody takes: that is over soon.
    const sampling = await this.#sampler.sample(INTERVAL_BYTES, 'waits')
    this.#sampling = sampling
    this.#timer = setTimeout(() => this.end(), HOLD_MS).unref()
    await sleep(this.#sampleMs, undefined, { ref: false })
    return sampling
  }
}

/** What rules and the leak watch may do by themselves. */
export function actor(bench: Bench, { sampleMs = SAMPLE_MS } = {}): Required<Pick<WatchOptions, 'act' | 'profile'>> & { end(): void } {
  const pair = new Pair(bench.sampler, sampleMs)
  return {
    profile: () => pair.profile(),
    end() {
      pair.end()
      bench.sampler.close()
    },
    async act({ name, action, params }) {
      const who = principal(name, params['redact'] === false)
      if (action === 'snapshot') {
        const defaults: SnapshotParams = { when: 'now', isolate: false, redact: true, compress: true, force: false, recycle: false }
        const { id } = await startSnapshot(bench, { ...defaults, ...params }, who)
        return { job: id, ended: bench.jobs.ended(id) }
      }
      const { seconds = Math.min(30, bench.settings.heavy.profileSeconds), intervalBytes = INTERVAL_BYTES } = params as { seconds?: number; intervalBytes?: number }
      const { id } = bench.jobs.start('heap-profile', who, true, work => (
        // On `watch` the leak watch samples, for minutes: what it has is what the rule is for.
        heapProfile(bench.sampler, bench.artifacts, { seconds, intervalBytes, format: 'heapprofile', by: who.name, second: 'joins' }, work)
      ))
      return { job: id, ended: bench.jobs.ended(id) }
    },
  }
}
