import { open } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { Problem } from '../http/problem.ts'
import type { Principal } from '../http/route.ts'
import { needScope } from '../http/scope.ts'
import type { Bench } from '../part.ts'
import type { Artifact, Draft } from './artifacts.ts'
import type { JobReport, Work } from './jobs.ts'
import type { Estimate, FinishedNews, SnapshotOrder } from './outpost.ts'
import { copy, redact, type Redacted } from './redact.ts'
import type { Taken } from './take.ts'

/** What to take, and how. */
export interface SnapshotParams {
  /** Default `now`. */
  when?: 'now' | 'after-gc'
  /** Out of rotation first. Default false: then whoever has a request in flight, or sends one, pays for the pause. */
  isolate?: boolean
  /** Default true. */
  redact?: boolean
  /** Default true. */
  compress?: boolean
  /** Despite too little memory, as the last ready instance, with requests that do not end. Default false. */
  force?: boolean
  /** Out of rotation for good: drain and exit when the file is finished. Implies `isolate`. Default false. */
  recycle?: boolean
  /** For the audit. */
  reason?: string
}

/** The result of a snapshot's job. */
export interface SnapshotResult {
  artifact: Artifact
  /** Of the raw file, and of the process. Without the path. */
  taken: Omit<Taken, 'path'>
  redacted?: Redacted
  reason?: string
}

/** Files are about twice the used heap; compressed, a sixth of that. */
const FILE_PER_HEAP = 2
const COMPRESSED = 1 / 6

/** A write that is over when the bytes have been taken: then the buffer may be used again. */
function sinkOf(stream: Writable): (bytes: Buffer) => Promise<void> {
  return bytes => new Promise((resolve, reject) => {
    stream.write(bytes, error => (error ? reject(error) : resolve()))
  })
}

/** Raw material becomes an artifact: redacted and compressed while streaming. */
async function refine(
  raw: string, draft: Draft, params: SnapshotParams, signal: AbortSignal, progress: (part: number) => void,
): Promise<Redacted | undefined> {
  const { redact: blank = true, compress = true } = params
  const file = await open(raw)
  const gzip = compress ? createGzip({ level: 1 }) : undefined
  const written = gzip && finished(gzip.pipe(draft.stream), { signal })
  // The stream's own failure, as of a full disk, must not wait for a write that nobody takes any more.
  draft.stream.once('error', error => gzip?.destroy(error))
  written?.catch(() => {})
  try {
    const sink = sinkOf(gzip ?? draft.stream)
    const result = blank ? await redact(file, sink, { signal, progress }) : await copy(file, 0, (await file.stat()).size, sink, signal)
    gzip?.end()
    await written
    return result ?? undefined
  } catch (error) {
    gzip?.destroy()
    throw draft.stream.errored ?? error
  } finally {
    await file.close()
  }
}

/** On the endpoint's thread: from the order to the artifact. */
class Snapshot {
  #bench: Bench
  #params: SnapshotParams
  #who: Principal
  /** Resolves when all that can be checked before is in order. */
  readonly checked: Promise<void>
  #pass!: () => void

  constructor(bench: Bench, params: SnapshotParams, who: Principal) {
    this.#bench = bench
    this.#params = params
    this.#who = who
    this.checked = new Promise(resolve => {
      this.#pass = resolve
    })
  }

  async run(work: Work): Promise<SnapshotResult> {
    const { artifacts, main } = this.#bench
    const { when = 'now', isolate = false, recycle = false, force = false, compress = true } = this.#params
    let order: SnapshotOrder
    try {
      work.progress('checking')
      const { usedHeap } = await main.call<Estimate>('heap.estimate')
      await artifacts.room(Math.ceil(usedHeap * FILE_PER_HEAP * (1 + (compress ? COMPRESSED : 1))))
      order = { id: work.id, path: await artifacts.scratch('heapsnapshot'), when, isolate, recycle, force }
      await main.call('heap.check', order)
      work.signal.throwIfAborted()
    } catch (error) {
      work.refund()
      throw error
    }
    this.#pass()
    const news: FinishedNews = { id: work.id }
    try {
      const result = await this.#take(order, work)
      news.artifact = result.artifact.name
      return result
    } finally {
      // Main, which removes the raw file if this thread cannot, is told afterwards.
      await artifacts.sweep(order.path)
      main.tell('heap.finished', news)
    }
  }

  async #take(order: SnapshotOrder, work: Work): Promise<SnapshotResult> {
    const { main } = this.#bench
    const { reason } = this.#params
    const cancel = () => main.tell('heap.cancel', { id: order.id })
    work.signal.addEventListener('abort', cancel, { once: true })
    // The first that costs anything is the pause: a wait that came to nothing is no reason to let the next caller wait.
    let begun = false
    const offs = [main.on<{ id: string; phase: string; heavy: boolean }>('heap.phase', ({ id, phase, heavy }) => {
      if (id !== order.id) return
      begun ||= heavy
      work.progress(phase)
    })]
    try {
      // Not with the job's own signal: main may be in the pause, and the job is not over before that is.
      const early = new Promise<Taken>(resolve => {
        offs.push(main.on<{ id: string; taken: Taken }>('heap.taken', ({ id, taken }) => id === order.id && resolve(taken)))
      })
      const call = main.call<Taken>('heap.snapshot', order, { timeoutMs: 0 })
      // With `recycle` it ends later, and nobody waits for it.
      call.catch(() => {})
      const { path, ...taken } = await Promise.race([call, early])
      work.signal.throwIfAborted()
      const made = await this.#refine(path, work)
      return { ...made, taken, ...(reason !== undefined && { reason }) }
    } catch (error) {
      if (!begun) work.refund()
      throw error
    } finally {
      for (const off of offs) off()
      work.signal.removeEventListener('abort', cancel)
    }
  }

  async #refine(raw: string, work: Work): Promise<Pick<SnapshotResult, 'artifact' | 'redacted'>> {
    const { redact: blank = true, compress = true } = this.#params
    const phase = blank ? 'redacting' : compress ? 'compressing' : 'copying'
    work.progress(phase, 0)
    const draft = await this.#bench.artifacts.create({
      kind: 'heap-snapshot',
      by: this.#who.name,
      secret: !blank,
      type: 'application/json',
      encoding: compress ? 'gzip' : 'identity',
      extension: 'heapsnapshot',
    })
    this.#bench.main.tell('heap.draft', { id: work.id, path: draft.path })
    try {
      const redacted = await refine(raw, draft, this.#params, work.signal, part => work.progress(phase, part))
      const artifact = await draft.finish()
      return { artifact, ...(redacted && { redacted }) }
    } catch (error) {
      await draft.discard()
      throw error
    }
  }
}

/**
 * Starts the job that takes a heap snapshot of the main thread, and makes a file of it. For the route and for rules.
 *
 * @param who A raw file (`redact: false`) needs its scope `secrets`.
 * @param signal Of a caller that may leave: before the job has passed its checks, that cancels it; later it goes on.
 * @returns The job, when the checks are passed. Its result is a {@link SnapshotResult}.
 * @throws {Problem} 403 `ERR_LAMEDUCK_OPS_SCOPE`; 409 `…_BUSY`, `…_LAST`, `…_STATE`; 429 `…_COOLDOWN`, `…_BUDGET`; 501 `…_NO_DUCK`,
 *   `…_NO_GC_HOOK`; 503 `…_BLOCKED`, `…_AUDIT`; 507 `…_HEADROOM`, `…_HEAP_LIMIT`, `…_DISK`, `…_FULL`, `…_FOLDER`.
 */
export async function startSnapshot(bench: Bench, params: SnapshotParams, who: Principal, signal?: AbortSignal): Promise<JobReport> {
  if (params.redact === false) needScope(who, 'secrets', 'a raw snapshot holds live strings: scope secrets is needed')
  const { jobs } = bench
  const snapshot = new Snapshot(bench, params, who)
  const { id } = jobs.start('heap-snapshot', who, true, work => snapshot.run(work))
  const leave = () => jobs.cancel(id)
  signal?.addEventListener('abort', leave, { once: true })
  if (signal?.aborted) leave()
  const refused = await Promise.race([snapshot.checked, jobs.ended(id)])
  signal?.removeEventListener('abort', leave)
  if (refused?.problem) throw problemOf(refused.problem)
  return jobs.get(id) as JobReport
}

function problemOf({ status, code, detail, type: _type, title: _title, ...more }: Record<string, unknown>): Problem {
  return new Problem(status as number, code as string, detail as string, more)
}
