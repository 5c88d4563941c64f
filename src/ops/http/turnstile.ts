/** Refusals that have to wait leave together, so often. */
export const WINDOW_MS = 250

/** So many between two of these times have not to wait: whoever mistypes a token hears so at once. */
export const AT_ONCE = 8

/**
 * Slows refused strangers down, all of them together. What a refusal costs is less its own work than that a thread wakes up for it, in the middle of what the
 * application is doing: those of a flood are held back, and leave at the same moments, one of each connection. However fast they ask, and by however
 * many connections one after the other, the thread wakes up for their answers a few times a second. Probes, which anybody may ask for, are none.
 */
export class Turnstile<Visitor> {
  #waiting = new Map<Visitor, (() => void)[]>()
  /** Since it last opened. */
  #passed = 0
  #timer: NodeJS.Timeout | undefined

  /** Lets go now, or later. */
  pass(visitor: Visitor, go: () => void): void {
    this.#timer ??= setInterval(() => this.#open(), WINDOW_MS).unref()
    const queue = this.#waiting.get(visitor)
    if (queue) queue.push(go)
    else if (this.#passed >= AT_ONCE) this.#waiting.set(visitor, [go])
    else {
      this.#passed++
      go()
    }
  }

  /** Whether somebody waits. */
  holds(visitor: Visitor): boolean {
    return this.#waiting.has(visitor)
  }

  /** Somebody has gone. */
  forget(visitor: Visitor): void {
    this.#waiting.delete(visitor)
  }

  close(): void {
    clearInterval(this.#timer)
    this.#waiting.clear()
  }

  #open(): void {
    if (this.#passed === 0 && this.#waiting.size === 0) {
      clearInterval(this.#timer)
      this.#timer = undefined
    }
    this.#passed = this.#waiting.size
    for (const [visitor, queue] of [...this.#waiting]) {
      const go = queue.shift()
      if (queue.length === 0) this.#waiting.delete(visitor)
      go?.()
    }
  }
}
