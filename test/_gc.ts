import { setImmediate } from 'node:timers/promises'

/**
 * Keeps objects and what lies outside of the heap until they are old, then drops them, until `done`: V8 collects all of it, each
 * few hundred MB, by its own decision.
 */
export async function churn(done: () => boolean, ms = 60_000): Promise<void> {
  const kept: unknown[] = []
  for (const until = Date.now() + ms; !done();) {
    if (Date.now() > until) throw new Error(`no end of the churn within ${ms} ms`)
    kept.push(Array.from({ length: 20_000 }, (_, i) => ({ i, more: [i] })), Buffer.allocUnsafeSlow(16 * 2 ** 20))
    if (kept.length > 40) kept.length = 0
    await setImmediate()
  }
}

/** Allocates what dies at once: minor GCs only. */
export async function litter(done: () => boolean, ms = 60_000): Promise<void> {
  let last: unknown
  for (const until = Date.now() + ms; !done();) {
    if (Date.now() > until) throw new Error(`no end of the litter within ${ms} ms`)
    for (let i = 0; i < 50_000; i++) last = { i, more: [i] }
    await setImmediate()
  }
  if (last === undefined) throw new Error('nothing was allocated')
}

/** Until the event of a GC must have been delivered: two turns of the loop for `perf_hooks`, and what a busy machine adds. */
export async function until(done: () => boolean, what = () => '', ms = 20_000): Promise<void> {
  for (const end = Date.now() + ms; !done(); await setImmediate()) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms ${what()}`)
  }
}
