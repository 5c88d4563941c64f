import { contain } from '../core/contain.ts'
import { warn } from '../core/thrown.ts'

/** Hears what something has to wait for; undefined: for nothing any more. */
export type Waiting = (why: string | undefined) => void

/** What somebody waits for, for all who asked for it: those that come later hear at once what it is. */
export class Wait {
  #why: string | undefined
  #listeners: Waiting[] = []
  #isOver: () => boolean

  /** @param isOver Whether nothing goes on any more: then nobody is told that it does. */
  constructor(isOver: () => boolean) {
    this.#isOver = isOver
  }

  hear(listener: Waiting | undefined): void {
    if (!listener) return
    // One that throws is nobody's reason to stop.
    const careful: Waiting = why => contain(() => listener(why), warn)
    this.#listeners.push(careful)
    if (this.#why !== undefined) careful(this.#why)
  }

  /** What is told already is not told again. */
  readonly tell: Waiting = why => {
    if (why === this.#why || this.#isOver()) return
    this.#why = why
    for (const listener of this.#listeners) listener(why)
  }
}

/** One thing that goes on, or has yet to. */
interface Turn {
  what: string
  waiting: Waiting
}

/** Lets one thing happen at a time, in the order of asking. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve()
  /** The first one goes on. */
  #turns: Turn[] = []

  /** Whether something is going on, or waits. */
  get busy(): boolean {
    return this.#turns.length > 0
  }

  /**
   * @param what As those that have to wait for it are told.
   * @param waiting Hears what this one waits for, each thing in its turn.
   */
  take<T>(what: string, run: () => Promise<T>, waiting: Waiting = () => {}): Promise<T> {
    const turn = { what, waiting }
    this.#turns.push(turn)
    const [first] = this.#turns
    if (first !== turn) waiting(first?.what)
    const done = this.#last.then(() => {
      waiting(undefined)
      return run()
    })
    this.#last = done.catch(() => {}).finally(() => {
      this.#turns.shift()
      const [next, ...others] = this.#turns
      for (const other of others) other.waiting(next?.what)
    })
    return done
  }
}
