import v8 from 'node:v8'
import type { HeapSizes } from './event.ts'

interface Statistics {
  gcType: string
  beforeGC: { heapStatistics: ProfiledHeap }
  afterGC: { heapStatistics: ProfiledHeap }
}

interface ProfiledHeap {
  usedHeapSize: number
  totalHeapSize: number
  heapSizeLimit: number
  externalMemory: number
}

/** A heap before and after a major GC, as read inside it. */
export interface Exact {
  before: HeapSizes
  after: HeapSizes
}

/**
 * The exact sizes of major GCs, by `v8.GCProfiler`, which writes 3 to 4 KB of JSON for each GC, minor ones too. A stopped profiler
 * goes on writing until it is collected itself, and the major GC that it saw has moved it to where only the next major GC collects:
 * with one running and one stopped, each minor GC costs some 0.2 ms of CPU and 8 KB until then. So: on request only.
 */
export class MajorProfile {
  #profiler = start()
  #queue: Exact[] = []

  /** @returns The next so many major GCs in the order of their events; fewer when it did not see them. */
  take(count: number): Exact[] {
    // The new one first: a GC between a stop and a start would be lost; now it may be in both.
    const next = start()
    const majors = this.#profiler.stop().statistics.filter(({ gcType }) => gcType === 'MarkSweepCompact').map(exact)
    this.#profiler = next
    const [first] = majors
    const last = this.#queue.at(-1)
    if (first && last && first.before.used === last.before.used && first.after.used === last.after.used) majors.shift()
    this.#queue.push(...majors)
    return this.#queue.splice(0, count)
  }

  stop(): void {
    this.#profiler.stop()
  }
}

function start() {
  const profiler = new v8.GCProfiler()
  profiler.start()
  return profiler as unknown as { stop(): { statistics: Statistics[] } }
}

const exact = ({ beforeGC, afterGC }: Statistics): Exact => ({
  before: sizes(beforeGC.heapStatistics),
  after: sizes(afterGC.heapStatistics),
})

const sizes = (heap: ProfiledHeap): HeapSizes =>
  ({ used: heap.usedHeapSize, total: heap.totalHeapSize, limit: heap.heapSizeLimit, external: heap.externalMemory })
