/** What V8 collected: the young generation; all of it; a step that begins the marking for that; or what waits for dead objects. */
export type GCKind = 'minor' | 'major' | 'incremental' | 'weakcb'

/** Who told: the addon gc-stats, or Node's own `perf_hooks`. */
export type GCSource = 'gc-stats' | 'perf_hooks'

/** A heap in bytes. */
export interface HeapSizes {
  /** Taken by objects. */
  used: number
  /** Taken from the system. */
  total: number
  /** What V8 lets it grow to. */
  limit: number
  /** Held outside of the heap by objects in it, array buffers included. */
  external?: number
  /** Array buffers and Buffers alone. Only after a major GC. */
  arrayBuffers?: number
  /** Of the process. Only after a major GC, and read when it was told, like `arrayBuffers`. */
  rss?: number
}

interface Told {
  /** How long the main thread stood still, in milliseconds. */
  pauseMs: number
  /** When it ended: milliseconds since 1970. */
  at: number
  /**
   * Not V8's own decision: `collect()`, a snapshot of ours, and, with `perf_hooks`, `gc()` by anybody. A snapshot that somebody
   * else takes looks natural to both sources.
   */
  forced: boolean
  source: GCSource
  /**
   * Whether the sizes were read inside the GC: always with gc-stats; with `perf_hooks` only on request, and of major GCs. Else
   * `after` is the old generation as read when the event was delivered, and `before` what was read last before the GC.
   */
  exact: boolean
}

/** A full garbage collection: what is left after it is what the process really holds. */
export interface MajorGC extends Told {
  kind: 'major'
  before?: HeapSizes
  after: HeapSizes
}

/** Any other. With `perf_hooks` these have no sizes. */
export interface OtherGC extends Told {
  kind: Exclude<GCKind, 'major'>
  before?: HeapSizes
  after?: HeapSizes
}

/** One garbage collection. */
export type GC = MajorGC | OtherGC

/** V8's numbers of the kinds (`v8::GCType`): the same in gc-stats and in `perf_hooks.constants`. */
export function kindOf(type: number): GCKind {
  if (type === 4) return 'major'
  if (type === 8) return 'incremental'
  return type === 16 ? 'weakcb' : 'minor'
}

/** Hears of a GC, and when it ended on the clock of `performance.now()`. */
export type Deliver = (gc: GC, endedAt: number) => void

/** Starts to watch. @returns What ends it. */
export type Watch = (deliver: Deliver) => () => void
