import { PerformanceObserver, type PerformanceEntry } from 'node:perf_hooks'
import { kindOf, type Deliver, type GC, type HeapSizes } from './event.ts'
import { wasForced } from './forced.ts'
import { MajorProfile } from './profile.ts'
import { beyondHeap, heapLeft, heapNow } from './sizes.ts'

/** `v8::kGCCallbackFlagForced`: by `gc()`. Snapshots have no flag of their own (0 on Node 20 to 24, 16 on 26). */
const FORCED = 4

interface GCEntry extends PerformanceEntry {
  detail: { kind: number; flags: number }
}

/** Watches by a PerformanceObserver: Node tells of a GC 0.3 to 90 ms after it, several at once when the loop was busy. */
export function watchPerfHooks(exact: boolean, deliver: Deliver): () => void {
  const profile = exact ? new MajorProfile() : undefined
  // What was read last: a heap before the next major GC, as near as one gets without the profiler.
  let seen: HeapSizes | undefined
  const observer = new PerformanceObserver(list => {
    const entries = list.getEntries() as GCEntry[]
    const majors = entries.filter(({ detail }) => detail.kind === 4).length
    const left = majors > 0 ? heapLeft() : undefined
    const profiled = majors > 0 ? profile?.take(majors) : undefined
    const before = seen
    seen = heapNow()
    for (const entry of entries) {
      const told = tell(entry)
      const endedAt = entry.startTime + entry.duration
      if (told.kind !== 'major' || !left) deliver(told as GC, endedAt)
      else deliver({ ...told, kind: 'major', ...major(left, before, profiled?.shift()) }, endedAt)
    }
  })
  observer.observe({ type: 'gc' })
  return () => {
    observer.disconnect()
    profile?.stop()
  }
}

function tell({ startTime, duration, detail }: GCEntry) {
  const endedAt = startTime + duration
  return {
    kind: kindOf(detail.kind),
    pauseMs: duration,
    at: performance.timeOrigin + endedAt,
    forced: (detail.flags & FORCED) !== 0 || wasForced(startTime, endedAt),
    source: 'perf_hooks' as const,
    exact: false,
  }
}

function major(left: HeapSizes, before: HeapSizes | undefined, profiled: { before: HeapSizes; after: HeapSizes } | undefined) {
  if (!profiled) return { ...(before ? { before } : {}), after: left }
  return { exact: true, before: profiled.before, after: { ...beyondHeap(), ...profiled.after } }
}
