import { call, type Called } from './_call.ts'

/** New clients, one every few milliseconds: what they see of the service, and for how long they see nothing of it. */
export class Newcomers {
  readonly ends: Record<Called, number> = { ok: 0, cut: 0, refused: 0, hung: 0 }
  /** The longest time between two answers since `mark()`, and until now. */
  #gapMs = 0
  #answeredAt = performance.now()
  /** How long this process did not run at a time, since `mark()`: what was measured cannot be more exact. */
  stallMs = 0
  #tickedAt = performance.now()
  #timer: NodeJS.Timeout
  #open = new Set<Promise<void>>()
  #waiting = new Set<() => void>()

  constructor(port: number, { everyMs, hangMs }: { everyMs: number; hangMs: number }) {
    this.#timer = setInterval(() => {
      const now = performance.now()
      this.stallMs = Math.max(this.stallMs, now - this.#tickedAt - everyMs)
      this.#tickedAt = now
      const one = call(port, hangMs).then(how => this.#ended(how))
      this.#open.add(one)
      void one.then(() => this.#open.delete(one))
    }, everyMs)
  }

  /** Measures anew from here. */
  mark(): void {
    this.#gapMs = this.stallMs = 0
    this.#answeredAt = performance.now()
  }

  get gapMs(): number {
    return Math.max(this.#gapMs, performance.now() - this.#answeredAt)
  }

  /** When the next of them is answered, by `performance.now()`. */
  async answered(): Promise<number> {
    await new Promise<void>(resolve => this.#waiting.add(resolve))
    return this.#answeredAt
  }

  /** No more of them; those under way are waited for. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await Promise.all(this.#open)
  }

  #ended(how: Called): void {
    this.ends[how]++
    if (how !== 'ok') return
    const now = performance.now()
    this.#gapMs = Math.max(this.#gapMs, now - this.#answeredAt)
    this.#answeredAt = now
    for (const resolve of this.#waiting) resolve()
    this.#waiting.clear()
  }
}
