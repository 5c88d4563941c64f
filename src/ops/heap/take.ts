import { closeSync, constants, fstatSync, lstatSync, openSync, readdirSync, rmSync, truncateSync } from 'node:fs'
import v8 from 'node:v8'
import { beginForcing } from '../gc/forced.ts'
import { Problem } from '../http/problem.ts'
import { diskProblem } from './folder.ts'
import { availableMemory } from './memory.ts'

/** What a heap snapshot needs, and what is there. Bytes. */
export interface Headroom {
  usedHeap: number
  /** need = factor x usedHeap. */
  factor: number
  need: number
  /** The smaller of `process.availableMemory()` and what the cgroup leaves. */
  available: number
  fits: boolean
  /** V8's own limit: `--max-old-space-size`. */
  heapLimit: number
  /** Over 90 % of it is used: the snapshot's own collections and tables may bring the process down. */
  atLimit: boolean
}

/** A heap snapshot that was written. */
export interface Taken {
  path: string
  bytes: number
  pauseMs: number
  usedHeap: number
  rssBefore: number
  rssAfter: number
}

/** RSS that a snapshot of small objects takes on top, in used heaps: x 8.7 to 9.5 on Node 20, x 7.1 to 8.2 on 24. */
const FACTOR = Number(process.versions.node.split('.')[0]) < 22 ? 10 : 9
const LIMIT_SHARE = 0.9
/** Milliseconds for each MB of used heap: 104 was measured on Node 20, 70 on 24, on two slow cores. */
const PAUSE_MS_PER_MB = 105
/** What the last run is multiplied with: the heap may hold other things by now. */
const MARGIN = 1.2

/** Of the runs in this process: what is learnt is never less than what was once needed. */
const learnt = { factor: 0, pauseMsPerMB: 0 }

/** Whether a heap snapshot of this thread fits into memory. */
export function headroom(): Headroom {
  const { used_heap_size: usedHeap, heap_size_limit: heapLimit } = v8.getHeapStatistics()
  const factor = learnt.factor || FACTOR
  const need = Math.ceil(factor * usedHeap)
  const available = availableMemory()
  return { usedHeap, factor, need, available, fits: need <= available, heapLimit, atLimit: usedHeap > LIMIT_SHARE * heapLimit }
}

/** How long the pause is going to be, in milliseconds: a guess, or what the last one took with a margin. */
export function pauseFor(usedHeap: number): number {
  return Math.ceil((learnt.pauseMsPerMB || PAUSE_MS_PER_MB) * usedHeap / 2 ** 20)
}

/** @throws {Problem} 507 when it does not fit, with the figures and what to do instead. */
export function checkHeadroom(): Headroom {
  const room = headroom()
  const instead = { instead: 'POST /heap/profile' }
  if (room.atLimit) {
    const detail = `the heap is at its limit (${room.usedHeap} of ${room.heapLimit} bytes): a snapshot may end the process; a sampling profile does not`
    throw new Problem(507, 'ERR_LAMEDUCK_OPS_HEAP_LIMIT', detail, { ...room, ...instead })
  }
  if (!room.fits) {
    const detail = `a snapshot needs about ${room.need} bytes of memory, and ${room.available} are available; a sampling profile needs next to none`
    throw new Problem(507, 'ERR_LAMEDUCK_OPS_HEADROOM', detail, { ...room, ...instead })
  }
  return room
}

/**
 * A debugger makes V8 keep the lines of each script: without, V8 11 counts them anew for every function, which took 896 s for an
 * application in one large file. @returns What ends it.
 */
async function debuggerOn(): Promise<() => void> {
  if (Number(process.versions.node.split('.')[0]) >= 22) return () => {}
  try {
    const { Session } = await import('node:inspector')
    const session = new Session()
    session.connect()
    session.post('Debugger.enable')
    return () => session.disconnect()
  } catch {
    // A Node without an inspector.
    return () => {}
  }
}

/** Makes the file, so that V8 writes to one that is ours: 0600, no symbolic link, nobody else's. */
function reserve(path: string): { ino: number; dev: number } {
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants
  closeSync(openSync(path, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0o600))
  return lstatSync(path)
}

/**
 * Removes what a failed snapshot left. Node does not close the file then (seen on Node 20 with a full disk), so that the disk would stay
 * full for as long as the process lives: its space is given back first, and where the system lists what is open, it is closed.
 */
function removeHalf(path: string, { ino, dev }: { ino: number; dev: number }): void {
  try {
    const there = lstatSync(path)
    if (there.ino === ino && there.dev === dev) truncateSync(path)
    for (const fd of readdirSync('/proc/self/fd').map(Number)) if (isSame(fd, ino, dev)) closeSync(fd)
  } catch {
    // No such list, or no such file.
  }
  rmSync(path, { force: true })
}

function isSame(fd: number, ino: number, dev: number): boolean {
  try {
    const stats = fstatSync(fd)
    return stats.ino === ino && stats.dev === dev
  } catch {
    return false
  }
}

/** Keeps in mind what it took. RSS at its highest only shows when it has never been higher. */
function learn(usedHeap: number, rssBefore: number, rssAfter: number, peakBefore: number, pauseMs: number): void {
  const peak = process.resourceUsage().maxRSS * 1_024
  const growth = Math.max(rssAfter, peak > peakBefore ? peak : 0) - rssBefore
  learnt.factor = Math.max(learnt.factor, MARGIN, MARGIN * growth / usedHeap)
  learnt.pauseMsPerMB = Math.max(learnt.pauseMsPerMB, MARGIN * pauseMs / (usedHeap / 2 ** 20))
}

/**
 * Writes a snapshot of this thread's heap, raw, to a file of ours: 0600, never through a symbolic link. Blocks the thread.
 *
 * @param path Must not exist. In a folder that nobody else may write to.
 * @throws {Problem} 507 `ERR_LAMEDUCK_OPS_HEADROOM` or `ERR_LAMEDUCK_OPS_HEAP_LIMIT` with the figures, unless `force`; 507
 *   `ERR_LAMEDUCK_OPS_DISK`, `ERR_LAMEDUCK_OPS_FOLDER`. No file is left then.
 */
export async function takeSnapshot(path: string, { force = false }: { force?: boolean } = {}): Promise<Taken> {
  const { usedHeap } = force ? headroom() : checkHeadroom()
  let file: { ino: number; dev: number }
  try {
    file = reserve(path)
  } catch (error) {
    throw diskProblem(error)
  }
  const debuggerOff = await debuggerOn()
  try {
    const rssBefore = process.memoryUsage.rss()
    const peakBefore = process.resourceUsage().maxRSS * 1_024
    const began = performance.now()
    const natural = beginForcing()
    try {
      v8.writeHeapSnapshot(path)
    } finally {
      natural()
    }
    const pauseMs = Math.round(performance.now() - began)
    const rssAfter = process.memoryUsage.rss()
    learn(usedHeap, rssBefore, rssAfter, peakBefore, pauseMs)
    const written = lstatSync(path)
    if (written.ino !== file.ino || written.dev !== file.dev) {
      throw new Problem(507, 'ERR_LAMEDUCK_OPS_FOLDER', 'the file was exchanged while it was being written')
    }
    return { path, bytes: written.size, pauseMs, usedHeap, rssBefore, rssAfter }
  } catch (error) {
    removeHalf(path, file)
    throw diskProblem(error)
  } finally {
    debuggerOff()
  }
}
