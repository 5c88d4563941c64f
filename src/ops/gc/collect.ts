import v8 from 'node:v8'
import vm from 'node:vm'
import type { HeapSizes } from './event.ts'
import { beginForcing } from './forced.ts'
import { beyondHeap, heapNow } from './sizes.ts'

/** What a collection of ours did. */
export interface Collected {
  /** When it ended: milliseconds since 1970. */
  at: number
  /** How long the thread stood still, in milliseconds. */
  pauseMs: number
  before: HeapSizes
  after: HeapSizes
}

/**
 * Collects all garbage of this thread now: a full GC, which takes about a millisecond for each MB in use. It is for looking, not for
 * cleaning: V8 does that in time. Listeners hear of it as `forced`.
 *
 * `--expose-gc` is on while a new context is made, and then as it was: `gc` does not appear anywhere. The inspector's
 * `HeapProfiler.collectGarbage` takes two full GCs, waits for a turn of the loop, and is not marked as forced.
 */
export function collect(): Collected {
  const exposed = 'gc' in globalThis
  v8.setFlagsFromString('--expose-gc')
  const gc = vm.runInNewContext('gc') as () => void
  if (!exposed) v8.setFlagsFromString('--no-expose-gc')
  const before = { ...heapNow(), ...beyondHeap() }
  const end = beginForcing()
  const startedAt = performance.now()
  gc()
  const endedAt = performance.now()
  end()
  return { at: performance.timeOrigin + endedAt, pauseMs: endedAt - startedAt, before, after: { ...heapNow(), ...beyondHeap() } }
}
