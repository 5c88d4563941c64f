import { chmodSync, lstatSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import { check, checkDuration, checkKeys } from '../../core/options.ts'
import { warn } from '../../core/thrown.ts'
import { takeSnapshot, type Taken } from '../heap/take.ts'
import type { MajorGC } from './event.ts'
import { onGC } from './hook.ts'

/** Options of {@link snapshotAfterGC}. */
export interface SnapshotOptions {
  /** Where to: a folder of this user's that nobody else may write to; made (0700) when it is not there. */
  dir: string
  /**
   * After which major GC: the next one, or the first for which this is true; `gc.after.used` is what the process really holds.
   * Only natural ones are asked about. Default `'next'`.
   */
  when?: 'next' | ((gc: MajorGC) => boolean)
  /** How many to take, from 1 to 10. Default 1. */
  count?: number
  /** The least time between two, from the end of the one to the start of the next, in milliseconds. Default 60 000. */
  cooldownMs?: number
  /** Take it although memory may not suffice: it may cost the process. Default false. */
  force?: boolean
}

/** A standing order for heap snapshots. */
export interface Standing {
  /** Takes no further one. `done` resolves with what there is, after the one that is being taken. */
  stop(): void
  /** The snapshots, when all are taken or it was stopped. Rejects when one fails or is refused; to ignore it is safe, the process warns. */
  done: Promise<Taken[]>
}

/** In the whole life of a process, over all orders: each one stops it for seconds and fills the disk. */
const MOST_PER_PROCESS = 20

const DEFAULTS = { dir: '', when: 'next', count: 1, cooldownMs: 60_000, force: false } as const
/** `running`: two orders may choose the same GC, and the memory that was counted is enough for one. */
const life = { taken: 0, running: false }

/**
 * Writes a heap snapshot right after a major GC, when what is in the heap is what the process really holds:
 * `snapshotAfterGC({ dir: '/var/tmp/heap', when: gc => gc.after.used > 1e9 })`. It stops the thread for about 20 to 90 ms for each MB
 * in use, and takes memory of up to ten times as much: refused when that does not fit. It does not keep the process alive.
 *
 * @throws {LameduckError} `ERR_LAMEDUCK_OPTION` for an option out of range, or a folder that somebody else may write to.
 */
export function snapshotAfterGC(options: SnapshotOptions): Standing {
  const settled = settle(options)
  const taken: Taken[] = []
  let [notBefore, running, stopped] = [0, false, false]
  const { promise, resolve, reject } = deferred<Taken[]>()
  // Who does not wait for it must not lose the process to an unhandled rejection.
  promise.catch(warn)

  const end = onGC(async gc => {
    if (gc.kind !== 'major' || gc.forced || running || life.running || performance.now() < notBefore) return
    if (settled.when !== 'next' && !asked(settled.when, gc, fail)) return
    running = life.running = true
    try {
      taken.push(await takeSnapshot(fileName(settled.dir), { force: settled.force }))
      notBefore = performance.now() + settled.cooldownMs
      running = life.running = false
      if (stopped || taken.length >= settled.count || life.taken >= MOST_PER_PROCESS) stop()
    } catch (error) {
      running = life.running = false
      fail(error)
    }
  })
  const stop = () => {
    stopped = true
    end()
    if (!running) resolve(taken)
  }
  const fail = (error: unknown) => {
    stopped = true
    end()
    reject(error as Error)
  }
  return { stop, done: promise }
}

function asked(when: (gc: MajorGC) => boolean, gc: MajorGC, fail: (error: unknown) => void): boolean {
  try {
    return when(gc)
  } catch (error) {
    fail(error)
    return false
  }
}

function settle(options: SnapshotOptions): Required<SnapshotOptions> {
  checkKeys('options', options, DEFAULTS)
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
  const all: Required<SnapshotOptions> = { ...DEFAULTS, ...given }
  check('options.dir', all.dir, typeof all.dir === 'string' && all.dir !== '', 'the path of a folder')
  check('options.when', all.when, all.when === 'next' || typeof all.when === 'function', '"next", or a function')
  check('options.count', all.count, Number.isInteger(all.count) && all.count >= 1 && all.count <= 10, 'an integer from 1 to 10')
  checkDuration('options.cooldownMs', all.cooldownMs)
  check('options.force', all.force, typeof all.force === 'boolean', 'true or false')
  const left = MOST_PER_PROCESS - life.taken
  check('options.count', all.count, left > 0, `none any more: this process has taken ${MOST_PER_PROCESS}`)
  return { ...all, dir: ownFolder(path.resolve(all.dir)) }
}

/** A snapshot holds every string of the process: nobody else may plant a file, or a link, where it is going to be. */
function ownFolder(dir: string): string {
  if (mkdirSync(dir, { recursive: true, mode: 0o700 })) chmodSync(dir, 0o700)
  const { mode, uid } = lstatSync(dir)
  const isFolder = (mode & 0o170000) === 0o040000
  const ours = process.getuid === undefined || (uid === process.getuid() && (mode & 0o022) === 0)
  check('options.dir', dir, isFolder && ours, 'a folder (no link) of this user, not writable for others')
  return dir
}

function fileName(dir: string): string {
  const time = new Date().toISOString().replaceAll(/[-:.]/g, '')
  return path.join(dir, `heap-${time}-${process.pid}-${++life.taken}.heapsnapshot`)
}

/** `Promise.withResolvers` came with Node 22. */
function deferred<T>() {
  let [resolve, reject]: [(value: T) => void, (error: Error) => void] = [() => {}, () => {}]
  const promise = new Promise<T>((settle, refuse) => {
    resolve = settle
    reject = refuse
  })
  return { promise, resolve, reject }
}
