import type { Settings } from './options.ts'

/** A worker that was ready for this long has not crashed early. */
const STABLE_MS = 5_000
const FIRST_MS = 100
const LONGEST_MS = 10_000
/** So many starts in a row that never got ready are a loop, however far apart they are. */
const FAILED_STARTS = 5

/** When a slot whose worker crashed gets its next one, and when it gets none any more. */
export class Backoff {
  #settings: Pick<Settings, 'crashLimit' | 'crashWindowMs'>
  /** Crashes in a row of workers that were not ready for long. */
  #early = 0
  #failedStarts = 0
  #crashes: number[] = []

  constructor(settings: Pick<Settings, 'crashLimit' | 'crashWindowMs'>) {
    this.#settings = settings
  }

  /**
   * @param readyMs For how long it was ready; undefined if it never was.
   * @param now On a monotonic clock.
   * @returns Milliseconds to wait, or undefined: it is a loop.
   */
  crashed(readyMs: number | undefined, now: number): number | undefined {
    const { crashLimit, crashWindowMs } = this.#settings
    this.#early = readyMs !== undefined && readyMs >= STABLE_MS ? 0 : this.#early + 1
    this.#failedStarts = readyMs === undefined ? this.#failedStarts + 1 : 0
    this.#crashes = [...this.#crashes.filter(at => now - at < crashWindowMs), now]
    if (this.#crashes.length >= crashLimit || this.#failedStarts >= FAILED_STARTS) return undefined
    // The first one at once: most crashes come alone, and users wait.
    if (this.#early <= 1) return 0
    // What is limited is how often there is a start: a worker that served for a while has spent that time already.
    return Math.max(0, Math.min(LONGEST_MS, FIRST_MS * 2 ** (this.#early - 2)) - (readyMs ?? 0))
  }

  /** A new release is a new beginning. */
  reset(): void {
    this.#early = 0
    this.#failedStarts = 0
    this.#crashes = []
  }
}
