import { contain } from './contain.ts'
import type { Tracked } from './tracked.ts'
import { turn } from './turn.ts'

/** How many connections are closed between two polls for what has arrived on the others. */
const BATCH = 16

/** How many are looked at without a poll in between. */
const GLANCE = 1_000

/** A turn that took longer may have left bytes in the kernel: poll again before closing anything. */
const SLOW_MS = 10

/** So many slow turns in a row are waited out. A loop that is always slow has no better moment to offer. */
const PATIENCE = 5

/** The limits of a connection that waits for a request, in milliseconds. */
export interface Limits {
  quietMs: number
  headMs: number
}

/** Closes idle connections, each as soon as it has been quiet long enough, and half received heads at their limit. */
export class Sweep {
  #connections: Iterable<Tracked>
  #limits: Limits
  #findHalves: () => unknown
  #fault: (where: string, error: unknown) => void
  #began = 0
  #timer: NodeJS.Timeout | undefined
  /** When the timer fires. */
  #next = Infinity
  #passing = false
  #stopped = true

  /** @param findHalves Called once, before the first connection is closed: from then on `partial` is true of those on which half a head has come. */
  constructor(connections: Iterable<Tracked>, limits: Limits, findHalves: () => unknown, fault: (where: string, error: unknown) => void) {
    this.#connections = connections
    this.#limits = limits
    this.#findHalves = findHalves
    this.#fault = fault
  }

  start(): void {
    this.#began = performance.now()
    this.#stopped = false
    this.#passing = true
    void turn().then(() => {
      if (this.#stopped) return
      contain(this.#findHalves, error => this.#fault('looking for half heads', error))
      void this.#pass()
    })
  }

  /** A connection has become one that will have to be closed, maybe before the one that is waited for. */
  wake(): void {
    if (!this.#passing) this.#arm(performance.now() + this.#limits.quietMs)
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  /** When this connection has been quiet long enough, on the clock of `performance.now()`. */
  #quiet(connection: Tracked): number {
    return connection.quietSince + this.#limits.quietMs
  }

  /** When its time is over. */
  #due(connection: Tracked): number {
    const quiet = this.#quiet(connection)
    if (quiet === Infinity || !connection.partial) return quiet
    // It may have become a secure one, in use: nobody can tell. The deadline is left for it.
    if (connection.nameless) return Infinity
    // Whatever it has begun to send, it began before it was due as a quiet one: hence an absolute limit, bytes trickle or not.
    return Math.max(quiet, this.#began) + this.#limits.headMs
  }

  #end(connection: Tracked): void {
    if (connection.partial) connection.expire()
    else connection.finish()
  }

  async #pass(): Promise<void> {
    this.#next = Infinity
    this.#passing = true
    // Two turns: the first may have begun before the bytes that matter arrived.
    await turn()
    await turn()
    await this.#closeAll(await this.#longestFirst())
    // From here on what becomes idle says so: this look may have passed it already.
    this.#passing = false
    let next = Infinity
    await this.#each(connection => {
      next = Math.min(next, this.#due(connection))
    })
    this.#arm(next)
  }

  /**
   * Those that may be due, longest idle first: they are the least likely to be sending this very moment. In steps of two to
   * the power of n, and without a look at their bytes: a sort, or a system's answer for each, would stall ten thousand.
   */
  async #longestFirst(): Promise<Tracked[]> {
    const now = performance.now()
    const byAge: Tracked[][] = Array.from({ length: 33 }, () => [])
    await this.#each(connection => {
      if (this.#quiet(connection) <= now) byAge[Math.clz32(now - connection.since)]?.push(connection)
    })
    return byAge.flat()
  }

  /** Looks at all, without holding up the event loop. */
  async #each(look: (connection: Tracked) => void): Promise<void> {
    let count = 0
    for (const connection of this.#connections) {
      look(connection)
      if (++count % GLANCE === 0) await turn()
    }
  }

  /**
   * All our FINs first, then the peers': to read those in between would double the time until the last client knows.
   * Each connection is looked at once more right before its end, after a poll.
   */
  async #closeAll(due: readonly Tracked[]): Promise<void> {
    const ended: Tracked[] = []
    await this.#inBatches(due, () => this.#stopped, connection => {
      if (this.#due(connection) > performance.now()) return
      ended.push(connection)
      this.#end(connection)
    })
    // Stopped or not: nobody else would read what comes on them, and so see their end.
    await this.#inBatches(ended, () => false, connection => connection.linger())
  }

  async #inBatches(connections: readonly Tracked[], stopped: () => boolean, act: (connection: Tracked) => void): Promise<void> {
    let patience = PATIENCE
    for (let i = 0; i < connections.length && !stopped();) {
      const before = performance.now()
      await turn()
      // A lame duck may be back in rotation by now.
      if (stopped()) return
      const slow = performance.now() - before > SLOW_MS
      if (slow && patience > 0) {
        patience--
        continue
      }
      if (!slow) patience = PATIENCE
      for (const connection of connections.slice(i, (i += BATCH))) {
        try {
          act(connection)
        } catch (error) {
          // Somebody's patch of the socket: the others are to be closed all the same.
          this.#fault('closing a connection', error)
        }
      }
    }
  }

  #arm(at: number): void {
    if (this.#stopped || at >= this.#next) return
    clearTimeout(this.#timer)
    this.#next = at
    this.#timer = setTimeout(() => void this.#pass(), Math.max(at - performance.now(), 1))
  }
}
