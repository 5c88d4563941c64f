import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import v8 from 'node:v8'
import type { Duck } from '../../core/index.ts'
import type { LoopDelay, Memory, Snapshot } from './report.ts'

const NS_PER_MS = 1e6

/** Watches the main thread: what its duck does, its memory, its event loop. */
export class Observer {
  #duck: Duck | undefined
  // A timer of libuv without JavaScript: 50 wakes a second were not to be seen in any measurement.
  #delay = monitorEventLoopDelay({ resolution: 20 })
  #utilization = performance.eventLoopUtilization()
  #drains = 0
  #servedLate = 0
  #stop: () => void

  constructor(duck: Duck | undefined) {
    this.#duck = duck
    this.#delay.enable()
    let before = 0
    const onState = (state: string, previous: string) => {
      if (previous === 'running') {
        this.#drains++
        before = duck?.stats().counters.served ?? 0
      }
      if (state === 'running' || state === 'drained' || state === 'aborted') this.#servedLate += (duck?.stats().counters.served ?? before) - before
    }
    duck?.on('state', onState)
    this.#stop = () => duck?.off('state', onState)
  }

  snapshot(): Snapshot {
    return {
      at: Date.now(),
      uptimeMs: Math.round(process.uptime() * 1_000),
      stats: this.#duck?.stats(),
      servedLate: this.#servedLate,
      drains: this.#drains,
      lastReport: this.#duck?.report,
      memory: memory(),
      loop: this.#loop(),
    }
  }

  /** The event loop's delay is counted anew. */
  reset(): void {
    this.#delay.reset()
  }

  close(): void {
    this.#delay.disable()
    this.#stop()
  }

  #loop(): LoopDelay {
    const since = this.#utilization
    this.#utilization = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(this.#utilization, since)
    // The histogram holds the intervals between two wakes; the resolution is no delay.
    const ms = (ns: number) => Math.max(0, Math.round((ns / NS_PER_MS - 20) * 100) / 100)
    const { count, max, mean } = this.#delay
    if (count === 0) return { p50: 0, p90: 0, p99: 0, max: 0, mean: 0, utilization }
    const percentile = (p: number) => ms(this.#delay.percentile(p))
    return { p50: percentile(50), p90: percentile(90), p99: percentile(99), max: ms(max), mean: ms(mean), utilization }
  }
}

function memory(): Memory {
  const { rss, heapUsed, heapTotal, external, arrayBuffers } = process.memoryUsage()
  return { rss, heapUsed, heapTotal, heapLimit: v8.getHeapStatistics().heap_size_limit, external, arrayBuffers }
}
