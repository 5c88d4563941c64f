import { setTimeout as sleep } from 'node:timers/promises'
import { startSnapshot, type SnapshotParams } from './heap/snapshot.ts'
import type { Principal, Scope } from './http/route.ts'
import { checkNobodySamples, heapProfile, type HeapProfile } from './inspect/profile.ts'
import type { InspectorSession } from './inspect/inspector.ts'
import type { Bench } from './part.ts'
import type { WatchOptions } from './watch/routes.ts'

/** How long the leak watch samples before its first profile. */
const SAMPLE_MS = 30_000

/** A second profile that is not asked for by then is not coming. */
const HOLD_MS = 600_000

/** Whose job it is that a rule starts. Whoever armed it had the scope for what it takes. */
const principal = (name: string, raw: boolean): Principal => ({ name: `rule:${name}`, from: 'process', scopes: new Set<Scope>(raw ? ['diag', 'secrets'] : ['diag']) })

/** The heap's sampling profiler over two profiles: what the first one saw and still lives is in the second. */
class Sampling {
  #bench: Bench
  #session: InspectorSession | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(bench: Bench) {
    this.#bench = bench
  }

  async profile(): Promise<HeapProfile> {
    const last = this.#session
    const session = last ?? this.#bench.connect()
    try {
      if (!last) {
        this.#session = session
        this.#timer = setTimeout(() => this.end(), HOLD_MS).unref()
        await checkNobodySamples(session)
        await session.post('HeapProfiler.startSampling', { samplingInterval: 524_288 })
        await sleep(SAMPLE_MS, undefined, { ref: false })
      }
      const { profile } = await session.post<{ profile: HeapProfile }>('HeapProfiler.getSamplingProfile')
      if (last) this.end()
      return profile
    } catch (error) {
      this.end()
      throw error
    }
  }

  /** What is on goes off with the session. */
  end(): void {
    clearTimeout(this.#timer)
    this.#session?.disconnect()
    this.#session = undefined
  }
}

/** What rules and the leak watch may do by themselves. */
export function actor(bench: Bench): Required<Pick<WatchOptions, 'act' | 'profile'>> & { end(): void } {
  const sampling = new Sampling(bench)
  return {
    profile: () => sampling.profile(),
    end: () => sampling.end(),
    async act({ name, action, params }) {
      const who = principal(name, params['redact'] === false)
      if (action === 'snapshot') {
        const defaults: SnapshotParams = { when: 'now', isolate: false, redact: true, compress: true, force: false, recycle: false }
        const { id } = await startSnapshot(bench, { ...defaults, ...params }, who)
        return { job: id }
      }
      const { seconds = 30, intervalBytes = 524_288 } = params as { seconds?: number; intervalBytes?: number }
      const { id } = bench.jobs.start('heap-profile', who, true, work => (
        heapProfile(bench.connect, bench.artifacts, { seconds, intervalBytes, format: 'heapprofile', by: who.name }, work)
      ))
      return { job: id }
    },
  }
}
