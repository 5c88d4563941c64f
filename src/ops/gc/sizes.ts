import v8 from 'node:v8'
import type { HeapSizes } from './event.ts'

const YOUNG = new Set(['new_space', 'new_large_object_space'])

/** The heap at this moment. 2 µs. */
export function heapNow(): HeapSizes {
  const { used_heap_size: used, total_heap_size: total, heap_size_limit: limit, external_memory: external } = v8.getHeapStatistics()
  return { used, total, limit, external }
}

/**
 * What a major GC has left, read some milliseconds after it. A major GC empties the young generation into the old one, so that
 * what is young by now was allocated since: without it the reading is 0.2 to 2 % above the truth, with it 2 to 13 %.
 */
export function heapLeft(): HeapSizes {
  let used = 0
  for (const { space_name: name, space_used_size: size } of v8.getHeapSpaceStatistics()) if (!YOUNG.has(name)) used += size
  return { ...heapNow(), used, ...beyondHeap() }
}

/** What the heap's own figures do not have. 10 to 20 µs. */
export function beyondHeap(): Required<Pick<HeapSizes, 'external' | 'arrayBuffers' | 'rss'>> {
  const { external, arrayBuffers, rss } = process.memoryUsage()
  return { external, arrayBuffers, rss }
}
