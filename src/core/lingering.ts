import { contain } from './contain.ts'

/** How many are given up without a poll in between: ten thousand at once would block the event loop. */
const BATCH = 64

/** What waits: for its peer's FIN, above all. */
export interface Lingerer {
  /** The time is over; whether or not it has ended by itself. */
  giveUp(): void
}

/** Those that wait each for the same time: so one queue and one timer serve all of them. */
export class Lingering {
  #lingerMs: number
  #fault: (where: string, error: unknown) => void
  #queue: { one: Lingerer, until: number }[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(lingerMs: number, fault: (where: string, error: unknown) => void) {
    this.#lingerMs = lingerMs
    this.#fault = fault
  }

  add(one: Lingerer): void {
    this.#queue.push({ one, until: performance.now() + this.#lingerMs })
    if (!this.#timer) this.#lookIn(this.#lingerMs)
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#queue = []
  }

  /** Not from the timer itself: when the loop was blocked, what ended them meanwhile has yet to be read. */
  #lookIn(ms: number): void {
    // Never below zero, of which Node warns.
    this.#timer = setTimeout(() => setImmediate(() => this.#look()), Math.max(ms, 1))
  }

  #look(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const now = performance.now()
    const waiting = this.#queue.slice(0, BATCH).findIndex(({ until }) => until > now)
    const over = this.#queue.splice(0, waiting === -1 ? BATCH : waiting)
    const [next] = this.#queue
    if (next) this.#lookIn(next.until - now)
    for (const { one } of over) {
      // Somebody's patch of the socket, or listener: the others are to end all the same.
      contain(() => one.giveUp(), error => this.#fault('ending a connection', error))
    }
  }
}
