import { Problem } from '../http/problem.ts'
import type { Connect, InspectorSession } from './inspector.ts'
import type { HeapProfile } from './profile.ts'

/** How long main has to begin, and to say what it has: it collects garbage for that. */
const BEGIN_MS = 5_000
const PROFILE_MS = 30_000

/** What whoever comes second does: is refused, waits until it is free, or reads what the first one has sampled from its beginning on. */
export type Second = 'refused' | 'waits' | 'joins'

/** The heap is being sampled for whoever has this. */
export interface Sampling {
  /** Bytes between two samples: those of whoever began. */
  intervalBytes: number
  profile(): Promise<HeapProfile>
  /** Idempotent. The sampling ends with the last one who leaves. */
  leave(): void
}

interface Run {
  session: InspectorSession
  intervalBytes: number
  users: number
  begun: Promise<void>
  over: Promise<void>
  end: () => void
}

const taken = () => new Problem(409, 'ERR_LAMEDUCK_OPS_SAMPLING', 'something in this process is sampling the heap already: a profile, an agent, or the leak watch on `watch`')

/**
 * V8 has one sampling heap profiler: stopping ours would stop another's (a vendor's agent), whose samples ours would be.
 *
 * @throws {Problem} 409 `ERR_LAMEDUCK_OPS_SAMPLING`
 */
async function checkNobodySamples(session: InspectorSession): Promise<void> {
  const other = await session.post('HeapProfiler.getSamplingProfile', {}, { timeoutMs: BEGIN_MS }).then(() => true, (error: Problem) => {
    if (error.code !== 'ERR_LAMEDUCK_OPS_INSPECTOR') throw error
    return false
  })
  if (other) throw taken()
}

async function start(session: InspectorSession, intervalBytes: number): Promise<void> {
  await checkNobodySamples(session)
  await session.post('HeapProfiler.startSampling', { samplingInterval: intervalBytes }, { timeoutMs: BEGIN_MS })
}

/** V8's sampling heap profiler, of which there is one: profiles, rules and the leak watch have it from here, so that none ends another's. */
export class HeapSampler {
  #connect: Connect
  #run: Run | undefined
  #closed = false

  constructor(connect: Connect) {
    this.#connect = connect
  }

  /** @throws {Problem} 409 `ERR_LAMEDUCK_OPS_SAMPLING`, also when somebody else in the process samples; what the session throws. */
  async sample(intervalBytes: number, second: Second): Promise<Sampling> {
    while (this.#run && second === 'waits') await this.#run.over
    if (this.#run && second === 'refused') throw taken()
    if (this.#closed) throw new Problem(503, 'ERR_LAMEDUCK_OPS_CLOSED', 'the endpoint is closing')
    // Nothing is awaited from the look to here: two cannot both be the first.
    const run = (this.#run ??= this.#begin(intervalBytes))
    run.users++
    let left = false
    const leave = () => {
      if (!left && --run.users === 0) this.#end(run)
      left = true
    }
    try {
      await run.begun
    } catch (error) {
      leave()
      throw error
    }
    const profile = async () => (await run.session.post<{ profile: HeapProfile }>('HeapProfiler.getSamplingProfile', {}, { timeoutMs: PROFILE_MS })).profile
    return { intervalBytes: run.intervalBytes, profile, leave }
  }

  /** Ends what goes on, whoever has it. */
  close(): void {
    this.#closed = true
    if (this.#run) this.#end(this.#run)
  }

  #begin(intervalBytes: number): Run {
    const session = this.#connect()
    let end = () => {}
    const over = new Promise<void>(resolve => {
      end = resolve
    })
    return { session, intervalBytes, users: 0, begun: start(session, intervalBytes), over, end }
  }

  /** What is on goes off with the session: also when main is too busy to answer now. */
  #end(run: Run): void {
    if (this.#run === run) this.#run = undefined
    run.session.disconnect()
    run.end()
  }
}
