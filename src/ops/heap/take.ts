import { closeSync, openSync, statSync } from 'node:fs'
import v8 from 'node:v8'

/** What a heap snapshot needs, and what is there. Bytes. */
export interface Headroom {
  usedHeap: number
  /** need = factor x usedHeap. */
  factor: number
  need: number
  /** The smaller of `process.availableMemory()` and what the cgroup leaves. */
  available: number
  fits: boolean
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

// TEMPORARY, of the gc branch, so that its tests can run: thrown away in the merge, for the heap part's own.

export function headroom(): Headroom {
  const { used_heap_size: usedHeap } = v8.getHeapStatistics()
  return { usedHeap, factor: 10, need: 10 * usedHeap, available: Infinity, fits: true }
}

/**
 * Writes a snapshot of this thread's heap, raw, to a file of ours: 0600, never through a symlink. Blocks the thread.
 *
 * @throws {Problem} 507 `ERR_LAMEDUCK_OPS_HEADROOM` with the figures, unless `force`; 507 `ERR_LAMEDUCK_OPS_DISK`.
 */
export async function takeSnapshot(path: string, _options: { force?: boolean } = {}): Promise<Taken> {
  const rssBefore = process.memoryUsage.rss()
  const startedAt = performance.now()
  closeSync(openSync(path, 'wx', 0o600))
  v8.writeHeapSnapshot(path)
  const { usedHeap } = headroom()
  return { path, bytes: statSync(path).size, pauseMs: performance.now() - startedAt, usedHeap, rssBefore, rssAfter: process.memoryUsage.rss() }
}
