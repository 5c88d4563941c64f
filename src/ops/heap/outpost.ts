import { rmSync } from 'node:fs'
import type { Duck } from '../../core/index.ts'
import type { DrainReport } from '../../core/report.ts'
import { Problem } from '../http/problem.ts'
import type { Link } from '../link.ts'
import type { HeapOptions } from '../options.ts'
import type { Outpost } from '../part.ts'
import { Downloads } from './downloads.ts'
import { announcePause, isSupervised, replaced } from './supervision.ts'
import { checkState, leaveRotation } from './isolate.ts'
import { checkHeadroom, headroom, pauseFor, takeSnapshot, type Headroom, type Taken } from './take.ts'

/** What is asked of the main thread. */
export interface SnapshotOrder {
  /** Of the job. */
  id: string
  path: string
  when: 'now' | 'after-gc'
  isolate: boolean
  recycle: boolean
  force: boolean
}

/** News `heap.finished`: the endpoint is done with a raw file. */
export interface FinishedNews {
  /** Of the job. */
  id: string
  /** What has become of it, if anything. */
  artifact?: string
}

/** What `heap.estimate` answers. */
export interface Estimate extends Headroom {
  /** How long main would be paused, as far as can be said before. */
  pauseMs: number
  /** Whether it can be taken out of rotation: there is a duck. */
  canIsolate: boolean
  state: string | undefined
}

/** Of {@link heapOutpost}. */
export interface HeapOutpostOptions {
  /** From the GC hook: resolves right after the next natural major GC. Without it `when=after-gc` is refused with 501. */
  afterMajorGC?: (options?: { signal?: AbortSignal }) => Promise<unknown>
  /** Whether this is the last ready instance of its group; undefined when nobody knows, which does not stop anything. */
  lastReady?: () => boolean | undefined | Promise<boolean | undefined>
  /**
   * Ends the process after the drain of `recycle`. Default: SIGTERM to itself, on which the lifecycle of the duck, drained by
   * then, exits with its own code.
   */
  exit?: (report: DrainReport) => void
  /** What takes the snapshot: for tests. */
  take?: typeof takeSnapshot
}

/** Liveness is told that the pause takes so much longer than expected. */
const PAUSE_MARGIN = 2
const PAUSE_EXTRA_MS = 10_000

const terminate = () => void process.kill(process.pid, 'SIGTERM')

/** Rejects with the signal's reason, or a problem when the time is over. */
async function within<T>(ms: number, signal: AbortSignal, late: () => Problem, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const timeout = new AbortController()
  const timer = setTimeout(() => timeout.abort(late()), ms)
  const either = AbortSignal.any([signal, timeout.signal])
  let stop = () => {}
  try {
    const stopped = new Promise<never>((_, reject) => {
      stop = () => reject(either.reason as Error)
      either.addEventListener('abort', stop, { once: true })
      if (either.aborted) stop()
    })
    return await Promise.race([run(either), stopped])
  } finally {
    either.removeEventListener('abort', stop)
    clearTimeout(timer)
  }
}

/** The main thread's side of heap snapshots. */
class HeapPost {
  #duck: Duck | undefined
  #link: Link
  #options: HeapOutpostOptions
  #times: Required<HeapOptions>
  #running: AbortController | undefined
  /** Files with what nobody may find later, by the job that they belong to: the raw snapshot, and what is made of it. */
  #raw = new Map<string, Set<string>>()
  #ended = false
  #offs: (() => void)[]

  constructor(duck: Duck | undefined, link: Link, options: HeapOutpostOptions, times: Required<HeapOptions>) {
    this.#duck = duck
    this.#link = link
    this.#options = options
    this.#times = times
    link.offer({
      'heap.estimate': () => this.estimate(),
      'heap.check': (order: SnapshotOrder) => {
        this.#checkFree()
        return this.#check(order)
      },
      'heap.snapshot': (order: SnapshotOrder, signal) => this.#snapshot(order, signal),
    })
    this.#offs = [
      link.on('heap.cancel', () => this.#running?.abort(cancelled())),
      link.on<{ id: string; path: string }>('heap.draft', ({ id, path }) => this.#raw.get(id)?.add(path)),
      // The endpoint has removed them by now.
      link.on<FinishedNews>('heap.finished', ({ id }) => this.#forget(id)),
    ]
    // So that there is an answer, if an old one, should main be blocked when somebody asks.
    link.tell('heap.estimate', this.estimate())
  }

  estimate(): Estimate {
    const room = headroom()
    return { ...room, pauseMs: pauseFor(room.usedHeap), canIsolate: this.#duck !== undefined, state: this.#duck?.state }
  }

  end(): void {
    this.#ended = true
    for (const off of this.#offs) off()
    this.#running?.abort(cancelled())
    this.#erase()
  }

  /** The endpoint may hang, or be ended before it comes to that: what is raw goes at once, and from here. */
  #erase = (): void => {
    for (const [id, paths] of this.#raw) {
      for (const path of paths) {
        try {
          rmSync(path, { force: true })
        } catch {
          // Of a folder that is nobody's any more, and an exit is not the place to complain.
        }
      }
      this.#forget(id)
    }
  }

  #keep({ id, path }: SnapshotOrder): void {
    // Whatever ends the process: the endpoint's thread ends with it, in the middle of its work.
    if (this.#raw.size === 0) process.on('exit', this.#erase)
    this.#raw.set(id, new Set([path]))
  }

  #forget(id: string): void {
    if (this.#raw.delete(id) && this.#raw.size === 0) process.off('exit', this.#erase)
  }

  /** @throws {Problem} 409 `ERR_LAMEDUCK_OPS_BUSY` */
  #checkFree(): void {
    if (this.#running) throw new Problem(409, 'ERR_LAMEDUCK_OPS_BUSY', 'a snapshot is being taken')
  }

  /** All that can be known to be wrong before anything is done. */
  async #check({ when, isolate, recycle, force }: SnapshotOrder): Promise<void> {
    if (!force) checkHeadroom()
    if (when === 'after-gc' && !this.#options.afterMajorGC) {
      throw new Problem(501, 'ERR_LAMEDUCK_OPS_NO_GC_HOOK', 'there is no GC hook to wait for; when=now works')
    }
    if (!isolate && !recycle) return
    if (!this.#duck) throw new Problem(501, 'ERR_LAMEDUCK_OPS_NO_DUCK', 'there is no server to take out of rotation')
    checkState(this.#duck)
    // A supervisor has a replacement ready first.
    if (!force && !isSupervised() && await this.#options.lastReady?.()) {
      throw new Problem(409, 'ERR_LAMEDUCK_OPS_LAST', 'this is the last ready instance: nobody would serve; force=true takes it out all the same')
    }
  }

  async #snapshot(order: SnapshotOrder, gone: AbortSignal): Promise<Taken> {
    this.#checkFree()
    const controller = new AbortController()
    // Before the first wait: a cancel that comes meanwhile is for this one.
    this.#running = controller
    const signal = AbortSignal.any([controller.signal, gone])
    const phase = (text: string, heavy = false) => this.#link.tell('heap.phase', { id: order.id, phase: text, heavy })
    let comeBack = () => {}
    let giveBack = (_retire: boolean) => {}
    let goes = false
    try {
      await this.#check(order)
      signal.throwIfAborted()
      if (order.when === 'after-gc') {
        phase('waiting for a major GC')
        await this.#afterGc(signal)
      }
      if ((order.isolate || order.recycle) && this.#duck) {
        if (isSupervised()) {
          phase('waiting for a replacement')
          giveBack = await replaced(signal)
        }
        phase('leaving the rotation')
        comeBack = await leaveRotation(this.#duck, this.#times, order.force, signal)
      }
      signal.throwIfAborted()
      phase('taking the snapshot', true)
      const taken = await this.#pause(order)
      if (order.recycle && this.#duck) goes = await this.#recycle(this.#duck, order, taken, signal)
      return taken
    } finally {
      comeBack()
      giveBack(goes)
      this.#running = undefined
    }
  }

  #afterGc(signal: AbortSignal): Promise<unknown> {
    const { afterMajorGC = () => Promise.resolve() } = this.#options
    const { afterGcMs } = this.#times
    const late = () => new Problem(504, 'ERR_LAMEDUCK_OPS_NO_GC', `no major GC came within ${afterGcMs} ms`)
    return within(afterGcMs, signal, late, either => afterMajorGC({ signal: either }))
  }

  async #pause(order: SnapshotOrder): Promise<Taken> {
    const { path, force } = order
    this.#keep(order)
    const untilMs = Date.now() + PAUSE_MARGIN * pauseFor(headroom().usedHeap) + PAUSE_EXTRA_MS
    this.#link.tell('pause', { what: 'heap-snapshot', untilMs })
    announcePause(untilMs)
    try {
      return await (this.#options.take ?? takeSnapshot)(path, { force })
    } finally {
      this.#link.tell('pause', null)
      announcePause(0)
      // It ended before this did, and nobody will come for the file.
      if (this.#ended) {
        this.#keep(order)
        this.#erase()
      }
    }
  }

  /**
   * Out of rotation until the file is finished, and fetched if somebody does so soon; then the swollen process goes, or comes back if there
   * is no file.
   *
   * @returns Whether it goes.
   */
  async #recycle(duck: Duck, { id }: SnapshotOrder, taken: Taken, signal: AbortSignal): Promise<boolean> {
    const { exit = terminate } = this.#options
    const { recycleMs, downloadMs } = this.#times
    let off = () => {}
    const downloads = new Downloads(this.#link)
    const late = () => new Problem(504, 'ERR_LAMEDUCK_OPS_TIMEOUT', `the file was not finished within ${recycleMs} ms`)
    const finished = within(recycleMs, signal, late, () => new Promise<FinishedNews>(resolve => {
      off = this.#link.on<FinishedNews>('heap.finished', news => news.id === id && resolve(news))
    }))
    this.#link.tell('heap.taken', { id, taken })
    try {
      const { artifact } = await finished
      if (artifact === undefined) return false
      // A drain has its own deadline, and does not wait; nor is there anybody to fetch it from when the endpoint has gone.
      await downloads.whole(artifact, downloadMs, recycleMs, AbortSignal.any([signal, duck.signal]))
      // One that somebody else began goes its own way, and a process that somebody has put back into rotation stays.
      if (duck.signal.aborted) return true
      if (duck.state !== 'lameduck') return false
      void duck.drain({ reason: 'recycled after a heap snapshot', lameduckMs: 0 }).then(exit)
      return true
    } finally {
      off()
      downloads.end()
    }
  }
}

const cancelled = () => new Problem(409, 'ERR_LAMEDUCK_OPS_CANCELLED', 'the snapshot was cancelled')

/** What the heap part needs on the main thread. */
export function heapOutpost(options: HeapOutpostOptions = {}): Outpost {
  return ({ duck, link, settings }) => {
    const post = new HeapPost(duck, link, options, settings.heap)
    return () => post.end()
  }
}
