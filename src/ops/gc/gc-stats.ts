import { createRequire } from 'node:module'
import { isMainThread } from 'node:worker_threads'
import { messageOf } from '../../core/thrown.ts'
import { kindOf, type Deliver, type GC, type HeapSizes, type Watch } from './event.ts'
import { wasForced } from './forced.ts'
import { beyondHeap } from './sizes.ts'

interface Heap {
  usedHeapSize: number
  totalHeapSize: number
  heapSizeLimit: number
}

/** What gc-stats tells; times in nanoseconds on the clock of `process.hrtime()`. */
interface Stats {
  startTime: number
  endTime: number
  gctype: number
  before: Heap
  after: Heap
}

interface GcStats {
  on(event: 'stats', listener: (stats: Stats) => void): unknown
  off(event: 'stats', listener: (stats: Stats) => void): unknown
}

/** gc-stats, or why it is not to be had. */
export type Loaded = { watch: Watch; why: string } | { watch?: undefined; why: string }

let loaded: Loaded | undefined

/** Loads the addon once. It cannot be unloaded, nor its hook taken out of V8: it stays, at some microseconds for each GC. */
export function loadGcStats(): Loaded {
  loaded ??= load()
  return loaded
}

function load(): Loaded {
  // It reports to the main thread's loop, whoever loaded it: in a worker V8 ends the process ("without proper locking").
  if (!isMainThread) return { why: 'gc-stats works on the main thread only' }
  let why = 'gc-stats is not installed'
  for (const from of places()) {
    let path
    try {
      path = createRequire(from).resolve('gc-stats')
    } catch {
      continue
    }
    try {
      const emitter = (createRequire(from)(path) as () => GcStats)()
      leaveBeforeTeardown()
      return { why: `gc-stats from ${path}`, watch: deliver => listen(emitter, deliver) }
    } catch (error) {
      // Compiled for another Node, or for another machine; or not compiled at all.
      why = `gc-stats does not load: ${messageOf(error).replaceAll(/\s+/g, ' ')}`
    }
  }
  return { why }
}

/**
 * When the loop is empty Node takes its heap apart before it leaves; a GC in there calls the addon's hook, which reads what is gone already: the
 * process ended with SIGSEGV (3 of 8 runs of a program that ended soon after its start). `process.exit()` leaves without that. Said by the last of
 * the listeners, as far as can be known, it changes nothing else: what they set as the exit code stays.
 */
function leaveBeforeTeardown(): void {
  const leave = () => process.exit()
  process.on('beforeExit', () => {
    process.off('exit', leave)
    process.on('exit', leave)
  })
  // Node says what was not caught after the `exit` event, and must get there. Before a natural end `beforeExit` comes again.
  process.on('uncaughtExceptionMonitor', () => process.off('exit', leave))
}

/**
 * Where to look: from here (it is a peer), and from the application's main file (npm link, pnpm, a bundle elsewhere). Not in the working
 * directory: others may be able to write there.
 */
function places(): string[] {
  const main = process.argv[1]
  return [import.meta.url, ...(main ? [main] : [])]
}

function listen(emitter: GcStats, deliver: Deliver): () => void {
  const offset = clockOffset()
  const listener = (stats: Stats) => {
    const startedAt = stats.startTime / 1e6 + offset
    const endedAt = stats.endTime / 1e6 + offset
    deliver(translate(stats, startedAt, endedAt), endedAt)
  }
  emitter.on('stats', listener)
  return () => void emitter.off('stats', listener)
}

/** From the clock of process.hrtime() to that of performance.now(): the best of some, since anything may come between two readings. */
function clockOffset(): number {
  const readings = Array.from({ length: 5 }, () => performance.now() - Number(process.hrtime.bigint()) / 1e6)
  return Math.max(...readings)
}

function translate(stats: Stats, startedAt: number, endedAt: number): GC {
  const kind = kindOf(stats.gctype)
  const told = {
    // Its own `pauseMS` is rounded to whole milliseconds.
    pauseMs: (stats.endTime - stats.startTime) / 1e6,
    at: performance.timeOrigin + endedAt,
    forced: wasForced(startedAt, endedAt),
    source: 'gc-stats',
    exact: true,
    before: sizes(stats.before),
  } as const
  if (kind !== 'major') return { kind, ...told, after: sizes(stats.after) }
  return { kind, ...told, after: { ...sizes(stats.after), ...beyondHeap() } }
}

const sizes = (heap: Heap): HeapSizes => ({ used: heap.usedHeapSize, total: heap.totalHeapSize, limit: heap.heapSizeLimit })
