import { check, checkDuration, checkKeys } from './options.ts'
import type { HookReport } from './report.ts'

/** How long a hook may take when it does not say: 5 s. */
const TIMEOUT_MS = 5_000

/** Options of `onDrain`. */
export interface HookOptions {
  /**
   * begin: as the drain begins, beside the lame duck, which lasts until these are done (leave a service registry);
   * end: when the last connection has ended (close a database). Default end.
   */
  at?: 'begin' | 'end'
  /** How long it may take, in milliseconds. Default 5 000; never beyond the drain's deadline. */
  timeoutMs?: number
}

/** Work of the application that belongs to a drain. The signal is aborted when its time is over. */
export type Hook = (signal: AbortSignal) => unknown

interface Entry {
  name: string
  run: Hook
  at: 'begin' | 'end'
  timeoutMs: number
}

/** The application's hooks: run one after the other, in the order in which they were registered. */
export class Hooks {
  /** The name of the one that runs. */
  running: string | undefined
  #entries = new Set<Entry>()

  /** @throws {LameduckError} `ERR_LAMEDUCK_OPTION` */
  add(name: string, run: Hook, options: HookOptions = {}): () => void {
    check('name', name, typeof name === 'string' && name !== '', 'a name for the report')
    check(`hook ${name}`, run, typeof run === 'function', 'a function')
    checkKeys('options', options, { at: '', timeoutMs: 0 })
    const { at = 'end', timeoutMs = TIMEOUT_MS } = options
    check('options.at', at, at === 'begin' || at === 'end', '"begin" or "end"')
    checkDuration('options.timeoutMs', timeoutMs)
    check('options.timeoutMs', timeoutMs, timeoutMs > 0, 'more than 0 milliseconds')
    const entry = { name, run, at, timeoutMs }
    this.#entries.add(entry)
    return () => void this.#entries.delete(entry)
  }

  has(at: 'begin' | 'end'): boolean {
    return [...this.#entries].some(entry => entry.at === at)
  }

  /** How long the hooks of this moment may take together. */
  longestMs(at: 'begin' | 'end'): number {
    return [...this.#entries].reduce((sum, entry) => sum + (entry.at === at ? entry.timeoutMs : 0), 0)
  }

  /**
   * Runs the hooks of one moment, those that are added meanwhile included. One that throws or hangs does not stop the rest.
   *
   * @param leftMs How long the drain itself still has: nothing runs beyond that.
   * @param stopped Settles when nobody waits any longer, with what to say of a hook that runs just then.
   */
  async run(at: 'begin' | 'end', leftMs: () => number, stopped: Promise<'timeout' | 'aborted'>, done: (report: HookReport) => void): Promise<void> {
    // A Set is iterated live: late registrations are run, removed ones are not.
    for (const entry of this.#entries) {
      if (entry.at !== at) continue
      const limitMs = Math.min(entry.timeoutMs, leftMs())
      if (limitMs <= 0) {
        done({ name: entry.name, at, outcome: 'skipped', durationMs: 0 })
        continue
      }
      this.running = entry.name
      const report = await runHook(entry, limitMs, stopped)
      if (this.running === entry.name) this.running = undefined
      done(report)
    }
  }
}

async function runHook({ name, run, at }: Entry, limitMs: number, stopped: Promise<'timeout' | 'aborted'>): Promise<HookReport> {
  const began = performance.now()
  const controller = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<{ outcome: 'timeout' | 'aborted' }>(resolve => {
    timer = setTimeout(() => resolve({ outcome: 'timeout' }), limitMs)
    void stopped.then(outcome => resolve({ outcome }))
  })
  const work = (async () => {
    await run(controller.signal)
    return { outcome: 'ok' as const }
  })().catch((error: unknown) => ({ outcome: 'failed' as const, error }))
  const result = await Promise.race([late, work])
  clearTimeout(timer)
  if (result.outcome === 'timeout' || result.outcome === 'aborted') controller.abort()
  return { name, at, durationMs: Math.round(performance.now() - began), ...result }
}
