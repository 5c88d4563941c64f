import { check, checkKeys } from '../../core/options.ts'
import { LameduckError } from '../../core/errors.ts'
import { warn } from '../../core/thrown.ts'
import type { Deliver, GC, GCSource, MajorGC, Watch } from './event.ts'
import { loadGcStats } from './gc-stats.ts'
import { watchPerfHooks } from './perf-hooks.ts'

/** Options of {@link onGC}. */
export interface GCOptions {
  /** Default `'auto'`: gc-stats when it is installed and loads, else `perf_hooks`. */
  source?: GCSource | 'auto'
  /**
   * With `perf_hooks`: exact sizes of major GCs, by `v8.GCProfiler`. It costs some 0.2 ms of CPU and 8 KB of memory for each minor
   * GC until the next major one: for a test, not for production. With gc-stats all sizes are exact. Default false.
   */
  exact?: boolean
}

type Listener = (gc: GC) => unknown

interface Registration {
  listener: Listener
  /** On the clock of `performance.now()`: what ended before is not told, though its event may come after. */
  since: number
  /** One that throws at each of hundreds of GCs a second is reported once. */
  failed: boolean
}

const DEFAULTS = { source: 'auto', exact: false } as const
const SOURCES = ['auto', 'gc-stats', 'perf_hooks']

/** One source with those who listen to it: it runs from the first to the last of them. */
class Feed {
  #watch: Watch
  #registrations = new Set<Registration>()
  #end: (() => void) | undefined

  constructor(watch: Watch) {
    this.#watch = watch
  }

  add(listener: Listener): () => void {
    const registration = { listener, since: performance.now(), failed: false }
    this.#registrations.add(registration)
    this.#end ??= this.#watch(this.#deliver)
    return () => {
      this.#registrations.delete(registration)
      if (this.#registrations.size > 0) return
      this.#end?.()
      this.#end = undefined
    }
  }

  #deliver: Deliver = (gc, endedAt) => {
    for (const registration of [...this.#registrations]) if (endedAt >= registration.since) call(registration, gc)
  }
}

/** A listener that throws or rejects keeps no other from hearing. */
function call(registration: Registration, gc: GC): void {
  const fault = (error: unknown) => {
    if (registration.failed) return
    registration.failed = true
    warn(error)
  }
  try {
    const result = registration.listener(gc)
    if (result instanceof Promise) result.catch(fault)
  } catch (error) {
    fault(error)
  }
}

const feeds = new Map<string, Feed>()
let told: { source: GCSource | undefined; why: string } = { source: undefined, why: 'nothing has listened yet' }

function feedOf({ source, exact }: Required<GCOptions>): Feed {
  const stats = source === 'perf_hooks' ? undefined : loadGcStats()
  if (source === 'gc-stats' && !stats?.watch) throw new LameduckError('ERR_LAMEDUCK_OPTION', `options.source: ${stats?.why}`)
  const chosen = stats?.watch ? 'gc-stats' : 'perf_hooks'
  told = { source: chosen, why: stats?.why ?? 'perf_hooks was asked for' }
  const key = chosen === 'gc-stats' ? chosen : `${chosen} ${exact}`
  const feed = feeds.get(key) ?? new Feed(stats?.watch ?? (deliver => watchPerfHooks(exact, deliver)))
  feeds.set(key, feed)
  return feed
}

/**
 * Calls a listener after each garbage collection on this thread, with its kind, pause and sizes. While nobody listens nothing
 * runs; it does not keep the process alive. What a listener throws becomes a process warning, once, and stops no other.
 *
 * @returns What stops it. gc-stats itself cannot be taken out of the process again: its hook stays, at some microseconds for each GC.
 * @throws {LameduckError} `ERR_LAMEDUCK_OPTION` for an option out of range, or for `source: 'gc-stats'` when it does not load.
 */
export function onGC(listener: Listener, options: GCOptions = {}): () => void {
  check('listener', listener, typeof listener === 'function', 'a function')
  checkKeys('options', options, DEFAULTS)
  const all = { source: options.source ?? DEFAULTS.source, exact: options.exact ?? DEFAULTS.exact }
  check('options.source', all.source, SOURCES.includes(all.source), SOURCES.join(', '))
  check('options.exact', all.exact, typeof all.exact === 'boolean', 'true or false')
  return feedOf(all).add(listener)
}

/** Which source the last call of {@link onGC} got, and why that one; `undefined` before the first. */
export function gcSource(): { source: GCSource | undefined; why: string } {
  return { ...told }
}

/**
 * The next major GC that V8 decides on by itself. Waiting does not keep the process alive.
 *
 * @param options.signal Ends the wait: the promise rejects with its reason.
 */
export function afterMajorGC({ signal, ...options }: GCOptions & { signal?: AbortSignal } = {}): Promise<MajorGC> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted()
    const cancel = () => {
      stop()
      reject(signal?.reason as Error)
    }
    const stop = onGC(gc => {
      if (gc.kind !== 'major' || gc.forced) return
      stop()
      signal?.removeEventListener('abort', cancel)
      resolve(gc)
    }, options)
    signal?.addEventListener('abort', cancel, { once: true })
  })
}
