/**
 * Records what the major GCs of a small program leave: for `test/fixtures/leaky-*.ts`, whose series are kept in
 * `test/fixtures/heap-series/`. To record one again: `node --max-old-space-size=160 --import tsx test/fixtures/leaky-cache.ts FILE`;
 * with so small a heap major GCs come often enough for a recording of a minute.
 */
import { writeFileSync } from 'node:fs'
import { constants, PerformanceObserver, type PerformanceEntry } from 'node:perf_hooks'
import { setImmediate as turn } from 'node:timers/promises'
import type { Sample } from '../src/ops/watch/leak-watch.ts'

/** A recording as it is kept: a row per major GC. */
export interface Recording {
  program: string
  leaks: boolean
  node: string
  columns: ['atMs', 'usedHeap', 'external', 'arrayBuffers', 'rss']
  rows: number[][]
}

const MAJOR = constants.NODE_PERFORMANCE_GC_MAJOR

/**
 * Runs one turn of the program after the other until so many major GCs were seen, and writes them to the file named on the command line.
 *
 * @param work One turn: what a few requests would do.
 */
export async function record(program: string, leaks: boolean, gcs: number, work: (turn: number) => void | Promise<void>): Promise<void> {
  const rows: number[][] = []
  const began = performance.now()
  const observer = new PerformanceObserver(list => {
    const major = list.getEntries().filter(entry => (entry as PerformanceEntry & { detail: { kind: number } }).detail.kind === MAJOR)
    if (major.length === 0) return
    // A list may hold two: the sizes are those after the second.
    const { heapUsed, external, arrayBuffers, rss } = process.memoryUsage()
    rows.push([Math.round(performance.now() - began), heapUsed, external, arrayBuffers, rss])
  })
  observer.observe({ entryTypes: ['gc'] })
  for (let n = 0; rows.length < gcs; n++) {
    await work(n)
    await turn()
  }
  observer.disconnect()
  const recording: Recording = { program, leaks, node: process.version, columns: ['atMs', 'usedHeap', 'external', 'arrayBuffers', 'rss'], rows: rows.slice(0, gcs) }
  const text = JSON.stringify(recording).replace('"rows":[[', '"rows":[\n[').replaceAll('],[', '],\n[')
  const file = process.argv[2]
  if (file) writeFileSync(file, `${text}\n`)
  else console.log(text)
}

/** A recording as the watch would have got it. */
export function recorded({ rows }: Recording): Sample[] {
  return rows.map(([at = 0, usedHeap = 0, external = 0, arrayBuffers = 0, rss = 0]) => ({ at, usedHeap, external, arrayBuffers, rss, forced: false }))
}

// 160 KB: too large for the young generation's copying, which would take most of a recording's time.
const TEMPLATE = Array.from({ length: 20_000 }, (_, n) => n + 0.5)

/** What requests do to a heap: some objects that survive the young generation and die in the old one. */
export class Traffic {
  #inFlight: unknown[] = []
  #next = 0
  #depth: number

  /** @param depth How many of the last requests are still held. */
  constructor(depth: number) {
    this.#depth = depth
  }

  set depth(depth: number) {
    this.#depth = depth
    this.#inFlight.length = Math.min(this.#inFlight.length, depth)
    this.#next = 0
  }

  request(): void {
    this.#inFlight[this.#next++ % this.#depth] = { body: TEMPLATE.slice(), at: this.#next }
  }
}
