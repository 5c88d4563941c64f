import { contain } from './contain.ts'

/** At least so much a second: a few clients need no long interval to be no herd. */
const PACE_MS = 10

/** How many at once at most, without a poll in between. */
const BATCH = 16

/** Acts on each of many, evenly over a time, and at a random moment of its share of it: clients that are told to go come back in a row. */
export class Spread<T> {
  #ones: readonly T[]
  #act: (one: T) => void
  #fault: (error: unknown) => void
  #began = performance.now()
  #shareMs: number
  #next = 0
  /** When the next one's moment is. */
  #at = 0
  #timer: NodeJS.Timeout | undefined

  /** @param fault Hears of what an act threw; the others' moments come all the same. */
  constructor(ones: readonly T[], overMs: number, act: (one: T) => void, fault: (error: unknown) => void) {
    this.#ones = ones
    this.#act = act
    this.#fault = fault
    this.#shareMs = Math.min(PACE_MS, overMs / ones.length)
    this.#step()
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#next = this.#ones.length
  }

  #step(): void {
    for (let n = 0; n < BATCH && this.#next < this.#ones.length && this.#at <= performance.now(); n++) {
      contain(() => this.#act(this.#ones[this.#next++] as T), this.#fault)
      this.#at = this.#began + (this.#next + Math.random()) * this.#shareMs
    }
    if (this.#next < this.#ones.length) this.#timer = setTimeout(() => this.#step(), Math.max(0, this.#at - performance.now()))
  }
}
