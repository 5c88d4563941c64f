import { hrtime } from 'node:process'

/** How often the main thread says that it lives. */
const BEAT_MS = 100

const NS_PER_MS = 1_000_000n

/**
 * The main thread's sign of life, in memory that both threads see: how long ago it last came to its timers can be told without
 * asking it. The clock is the same in all threads, and monotonic.
 */
export class Heartbeat {
  readonly buffer: SharedArrayBuffer
  #last: BigInt64Array
  #timer: NodeJS.Timeout | undefined

  /** @param buffer Of the other side; a new one if there is none yet. */
  constructor(buffer = new SharedArrayBuffer(8)) {
    this.buffer = buffer
    this.#last = new BigInt64Array(buffer)
  }

  /** On the main thread. Keeps no process alive. */
  start(): this {
    this.#beat()
    this.#timer ??= setInterval(() => this.#beat(), BEAT_MS).unref()
    return this
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Milliseconds since the last beat. Up to about 100 is nothing. */
  get ageMs(): number {
    return Number((hrtime.bigint() - Atomics.load(this.#last, 0)) / NS_PER_MS)
  }

  /** For how long the main thread has not come to its timers; 0 when that is no longer than usual. */
  get blockedMs(): number {
    const late = this.ageMs - BEAT_MS
    return late > BEAT_MS / 2 ? late : 0
  }

  #beat(): void {
    Atomics.store(this.#last, 0, hrtime.bigint())
  }
}
