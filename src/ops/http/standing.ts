import { Problem } from './problem.ts'

/** A token may expire, or its file be emptied, with no event: a call that lasts is looked at so often. */
const LOOK_MS = 5_000

const isLost = (error: unknown): error is Problem => error instanceof Problem && (error.status === 401 || error.status === 403)

/** Of a call that outlives the check at its beginning, as an event stream or a WebSocket: whether its caller may still. */
export class Standing {
  #admit: () => Promise<void>
  #lost: (why: Problem) => void
  #timer: NodeJS.Timeout

  /**
   * @param admit The check that it passed at its beginning.
   * @param lost Hears that the caller may no longer, 401 or 403. That it cannot be found out, as on a blocked main thread, ends no call.
   */
  constructor(admit: () => Promise<void>, lost: (why: Problem) => void, everyMs = LOOK_MS) {
    this.#admit = admit
    this.#lost = lost
    this.#timer = setInterval(() => this.look(), everyMs).unref()
  }

  /** For what is only done while the caller may. @throws {Problem} 401, 403; 429 and 503 when it cannot be found out now. */
  async check(): Promise<void> {
    try {
      await this.#admit()
    } catch (error) {
      if (isLost(error)) this.#lost(error)
      throw error
    }
  }

  /** As `check()`, for whoever does not wait for it. */
  look(): void {
    this.check().catch(() => {})
  }

  end(): void {
    clearInterval(this.#timer)
  }
}
