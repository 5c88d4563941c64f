import assert from 'node:assert/strict'

/** How often it is looked whether this process runs. */
const TICK_MS = 10

/** A timer may be so late on any machine. */
const LATE_MS = 20

let keptMs = 0
let tickedAt = performance.now()
let worked = process.cpuUsage()

/** What this process was late by and did not work in, it was kept from running: stopped, or waiting for a core. */
function tick(): void {
  const now = performance.now()
  const lateMs = now - tickedAt - TICK_MS
  if (lateMs > LATE_MS) {
    const { user, system } = process.cpuUsage(worked)
    keptMs += Math.max(0, lateMs - (user + system) / 1_000)
  }
  tickedAt = now
  worked = process.cpuUsage()
}

setInterval(tick, TICK_MS).unref()

/** So long a process may be kept from running in any test, and nothing comes too late for it. */
const MOST_MS = 50

/**
 * Runs a test in which a client must come, or something be done, within a fraction of a second. When this process was kept from
 * running meanwhile, and it fails, nothing was shown: it runs again, and what was seen is in the output.
 *
 * @param tries So often, before it is believed that it is not the machine.
 */
export async function unstalled(run: () => Promise<void>, tries = 10): Promise<void> {
  for (let left = tries - 1;; left--) {
    tick()
    const before = keptMs
    try {
      return await run()
    } catch (error) {
      tick()
      const ms = Math.round(keptMs - before)
      if (ms <= MOST_MS || left === 0) throw error
      console.log(`this process was kept from running for ${ms} ms, so it runs again; it had failed with ${String(error)}`)
    }
  }
}

/**
 * A time of a server in this very process. A busy machine may stop the process for a second: no fault of the server, which stood
 * as still as the test did. So what must not take too long is measured without that, and what must not be too short with it.
 */
export class Stopwatch {
  #began = performance.now()
  #kept = (tick(), keptMs)

  /** All of it. */
  get ms(): number {
    return performance.now() - this.#began
  }

  /** Without the times in which this process was kept from running. */
  get ranMs(): number {
    tick()
    return this.ms - (keptMs - this.#kept)
  }

  /** At most so long. */
  assertUnder(ms: number): void {
    const { ranMs } = this
    assert.ok(ranMs < ms, `settled after ${ranMs} ms`)
  }

  /** At least so long. */
  assertOver(ms: number): void {
    assert.ok(this.ms > ms, `settled after ${this.ms} ms`)
  }
}
