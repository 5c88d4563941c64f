/** How long the end of a request may go unnoticed, in milliseconds, while nobody drains. */
const TICK_MS = 20

/** What is looked at again after a request. */
export interface Settling {
  settle(): void
}

/**
 * What carried a request a moment ago. To listen for the end of each response, and to read the clock and the byte counter
 * then, was two thirds of what tracking cost; while nobody drains it is enough to look once, a few milliseconds later. One
 * timer for all of them, which is set only while requests come.
 */
export class Recent {
  /** On the clock of `performance.now()`, in whole milliseconds; as of the last look, while requests come. */
  now = 0
  #waiting: Settling[] = []
  #timer: NodeJS.Timeout | undefined

  add(one: Settling): void {
    if (this.#waiting.push(one) > 1) return
    this.now = Math.ceil(performance.now())
    if (this.#timer) this.#timer.refresh()
    else this.#timer = setTimeout(() => this.settle(), TICK_MS).unref()
  }

  /** Looks at all of them now. @returns Those. */
  settle(): readonly Settling[] {
    this.now = Math.ceil(performance.now())
    const waiting = this.#waiting
    this.#waiting = []
    for (const one of waiting) one.settle()
    return waiting
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#waiting = []
  }
}
