import { SeriesWatch, type SeriesReport, type Verdict } from './series-watch.ts'

/** What a major GC left, in bytes as `process.memoryUsage()` gives them. */
export interface Sample {
  /** ms since 1970. */
  at: number
  usedHeap: number
  external: number
  arrayBuffers: number
  rss: number
  /** A GC that we caused ourselves: for a snapshot, or by `POST /gc`. */
  forced: boolean
}

/** What is watched: a Buffer leak is invisible in the used heap, and a native one in all but the RSS. */
export type SeriesName = 'usedHeap' | 'arrayBuffers' | 'external' | 'rss'

/** From the most telling to the least: what grows in an earlier one mostly grows in a later one, too. */
export const SERIES: readonly SeriesName[] = ['usedHeap', 'arrayBuffers', 'external', 'rss']

/** What `GET /leaks` answers. */
export interface LeakReport {
  /** The worst of its series. */
  verdict: Verdict
  /** The series with that verdict, the most telling first; none unless it is `watch` or `suspected`. */
  growing: SeriesName[]
  /** Major GCs seen, and those of them that we caused: they do not count. */
  gcs: number
  forced: number
  series: Record<SeriesName, SeriesReport>
}

const ORDER: readonly Verdict[] = ['warming', 'steady', 'watch', 'suspected']

/**
 * Tells leaks from warm-ups, waves, steps and noise by what major GCs leave: see docs/leak-watch.md. Bounded memory (about 400 numbers a
 * series, whatever its age); work at every fifth GC only, well under a millisecond for each series.
 *
 * GCs that we cause are left out: they find less garbage than V8's own, and a level that falls because somebody looked is no news.
 */
export class LeakWatch {
  #watches: Record<SeriesName, SeriesWatch>
  #gcs = 0
  #forced = 0

  /** @param options.limit V8's heap limit, bytes (`heap_size_limit`). Half of the room up to it is growth enough. Default none. */
  constructor({ limit = Infinity }: { limit?: number } = {}) {
    this.#watches = { usedHeap: new SeriesWatch(limit), arrayBuffers: new SeriesWatch(), external: new SeriesWatch(), rss: new SeriesWatch() }
  }

  get verdict(): Verdict {
    return ORDER[Math.max(...SERIES.map(name => ORDER.indexOf(this.#watches[name].verdict)))] as Verdict
  }

  /** @returns Whether the verdict on any of the series has changed. */
  add(sample: Sample): boolean {
    this.#gcs++
    if (sample.forced) {
      this.#forced++
      return false
    }
    return SERIES.map(name => this.#watches[name].add(sample[name], sample.at)).includes(true)
  }

  report(): LeakReport {
    const { verdict } = this
    const series = Object.fromEntries(SERIES.map(name => [name, this.#watches[name].report()])) as Record<SeriesName, SeriesReport>
    const growing = ORDER.indexOf(verdict) >= ORDER.indexOf('watch') ? SERIES.filter(name => series[name].verdict === verdict) : []
    return { verdict, growing, gcs: this.#gcs, forced: this.#forced, series }
  }
}
