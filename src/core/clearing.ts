import { Latch } from './latch.ts'
import { Sweep, type Limits } from './sweep.ts'
import type { Tracked } from './tracked.ts'

/** The connections of one server as those see them who close what is idle: in a drain, or before a pause. */
export class Clearing {
  /** When it began, on the clock of `performance.now()`; Infinity while nothing is closed. */
  since = Infinity
  /** When Node's parser was asked which connections are idle, in whole milliseconds on the same clock; 0 if it was not. */
  asked = 0
  #connections: ReadonlySet<Tracked>
  #begin: () => Sweep
  #sweep: Sweep | undefined
  /** A connection has ended, or has left HTTP/1; while somebody waits for that. */
  #change: Latch | undefined

  /**
   * @param ask Asks Node's parser, if it can be asked. Returns when that was.
   * @param fault See {@link Sweep}.
   */
  constructor(connections: ReadonlySet<Tracked>, limits: Limits, ask: () => number, fault: (where: string, error: unknown) => void) {
    this.#connections = connections
    // A new one each time: what an old one is still about must not go on.
    this.#begin = () => new Sweep(connections, limits, () => {
      this.asked = ask()
    }, fault)
  }

  /** Later calls do nothing, until it is stopped. */
  start(): void {
    if (this.#sweep) return
    this.since = performance.now()
    this.#sweep = this.#begin()
    this.#sweep.start()
  }

  /** A connection has become one that will have to be closed. */
  wake(): void {
    this.#sweep?.wake()
  }

  stop(): void {
    this.#sweep?.stop()
    this.#sweep = undefined
    this.since = Infinity
    this.asked = 0
    this.changed()
  }

  changed(): void {
    this.#change?.open()
    this.#change = undefined
  }

  /** Starts it, and waits for the end of those that are open now, but for upgraded ones; or for its own. */
  async clear(): Promise<void> {
    this.start()
    const sweep = this.#sweep
    for (const connection of [...this.#connections]) {
      while (this.#sweep === sweep && this.#connections.has(connection) && connection.state !== 'upgraded') {
        await (this.#change ??= new Latch()).opened
      }
    }
  }
}
