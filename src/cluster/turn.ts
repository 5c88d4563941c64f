/** Lets one thing happen at a time, in the order of asking. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve()
  #waiting = 0

  /** Whether something is going on, or waits. */
  get busy(): boolean {
    return this.#waiting > 0
  }

  take<T>(run: () => Promise<T>): Promise<T> {
    this.#waiting++
    const done = this.#last.then(run)
    this.#last = done.catch(() => {}).finally(() => this.#waiting--)
    return done
  }
}
