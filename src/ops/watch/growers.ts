import { messageOf } from '../../core/thrown.ts'
import { diffProfiles, type Growth, type HeapProfile } from './profile-diff.ts'

/** Which stacks grew between two profiles, or why that is not known. */
export interface Grown {
  /** ms since 1970: when each profile was taken. */
  from: number
  to?: number
  stacks?: Growth[]
  problem?: string
}

export interface GrowersOptions {
  /** Takes a sampling heap profile: what is alive of the samples so far. */
  profile: () => Promise<HeapProfile>
  /** Between the two. Default 300,000 ms. */
  apartMs?: number
  /** From one pair to the next. Default 6 hours. */
  restMs?: number
  /** After a pair that came to nothing. Default 10 minutes. */
  retryMs?: number
  now?: () => number
}

/** From `watch` on, takes two sampling heap profiles some time apart, and names the stacks that grew. */
export class Growers {
  #options: Required<GrowersOptions>
  #latest: Grown | undefined
  #timer: NodeJS.Timeout | undefined
  #busy = false
  #stopped = false

  constructor({ profile, apartMs = 300_000, restMs = 21_600_000, retryMs = 600_000, now = Date.now }: GrowersOptions) {
    this.#options = { profile, apartMs, restMs, retryMs, now }
  }

  get latest(): Grown | undefined {
    return this.#latest
  }

  /** Begins, unless a pair is being taken or was taken a short time ago. Never throws: what fails stands in `latest`. */
  async look(): Promise<void> {
    const { profile, apartMs, now } = this.#options
    const from = now()
    if (this.#busy || this.#stopped || this.#rests(from)) return
    this.#busy = true
    this.#latest = { from }
    try {
      const first = await profile()
      await this.#wait(apartMs)
      if (this.#stopped) return
      const second = await profile()
      this.#latest = { from, to: now(), stacks: diffProfiles(first, second) }
    } catch (error) {
      this.#latest = { from, problem: messageOf(error) }
    } finally {
      this.#busy = false
    }
  }

  /** Whether the last pair came to nothing: then the next one waits for no other verdict. */
  get failed(): boolean {
    return this.#latest?.problem !== undefined
  }

  stop(): void {
    this.#stopped = true
    this.#wake()
  }

  #rests(at: number): boolean {
    const { restMs, retryMs } = this.#options
    return this.#latest !== undefined && at - this.#latest.from < (this.failed ? retryMs : restMs)
  }

  #wake: () => void = () => {}

  #wait(ms: number): Promise<void> {
    if (this.#stopped) return Promise.resolve()
    return new Promise(resolve => {
      this.#timer = setTimeout(resolve, ms).unref()
      this.#wake = () => {
        clearTimeout(this.#timer)
        resolve()
      }
    })
  }
}
