/** Upper bounds of the histogram's classes, in milliseconds; what is longer falls into one more. */
export const BOUNDS: readonly number[] = [0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192]

/** Pauses of one kind, as they go over the link. */
export interface PauseCounts {
  count: number
  forced: number
  sumMs: number
  maxMs: number
  /** By {@link BOUNDS}, one more than those. */
  classes: number[]
}

/** Counts pauses without keeping them: a busy process has millions. */
export class Pauses {
  #counts = empty()

  get count(): number {
    return this.#counts.count
  }

  add(pauseMs: number, forced: boolean): void {
    const counts = this.#counts
    const index = BOUNDS.findIndex(bound => pauseMs <= bound)
    const place = index === -1 ? BOUNDS.length : index
    counts.classes[place] = (counts.classes[place] ?? 0) + 1
    counts.count++
    if (forced) counts.forced++
    counts.sumMs += pauseMs
    counts.maxMs = Math.max(counts.maxMs, pauseMs)
  }

  merge(more: PauseCounts): void {
    const counts = this.#counts
    counts.classes = counts.classes.map((count, index) => count + (more.classes[index] ?? 0))
    counts.count += more.count
    counts.forced += more.forced
    counts.sumMs += more.sumMs
    counts.maxMs = Math.max(counts.maxMs, more.maxMs)
  }

  /** What was counted; it begins anew. */
  take(): PauseCounts {
    const counts = this.#counts
    this.#counts = empty()
    return counts
  }

  /** A copy, with percentiles. These are the upper bounds of their classes: at most twice, and never less than, the truth. */
  report(): PauseCounts & { p50Ms: number; p90Ms: number; p99Ms: number } {
    return { ...structuredClone(this.#counts), p50Ms: this.#quantile(0.5), p90Ms: this.#quantile(0.9), p99Ms: this.#quantile(0.99) }
  }

  #quantile(q: number): number {
    const { classes, count, maxMs } = this.#counts
    let rank = Math.ceil(q * count)
    for (const [index, bound] of BOUNDS.entries()) {
      rank -= classes[index] ?? 0
      if (rank <= 0) return Math.min(bound, maxMs)
    }
    return maxMs
  }
}

const empty = (): PauseCounts => ({ count: 0, forced: 0, sumMs: 0, maxMs: 0, classes: Array<number>(BOUNDS.length + 1).fill(0) })
