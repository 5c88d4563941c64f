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

/** STUB: the heap part's owner writes it. Runs on the thread whose heap it is. */
export declare function headroom(): Headroom

/**
 * Writes a snapshot of this thread's heap, raw, to a file of ours: 0600, never through a symlink. Blocks the thread.
 *
 * @throws {Problem} 507 `ERR_LAMEDUCK_OPS_HEADROOM` with the figures, unless `force`; 507 `ERR_LAMEDUCK_OPS_DISK`.
 */
export declare function takeSnapshot(path: string, options?: { force?: boolean }): Promise<Taken>
