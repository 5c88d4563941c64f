/** How many finished windows are remembered: an event comes some milliseconds after its GC, not minutes. */
const KEPT = 16

const windows: { from: number; to: number }[] = []

/**
 * Runs something that makes V8 collect, such as a heap snapshot: the GCs in it are told as `forced`. V8 itself does not mark
 * those that it runs for a snapshot, so that their time is the only sign.
 */
export async function forcing<T>(run: () => Promise<T>): Promise<T> {
  const end = beginForcing()
  try {
    return await run()
  } finally {
    end()
  }
}

/** The same for what has its own way to end. */
export function beginForcing(): () => void {
  const window = { from: performance.now(), to: Infinity }
  windows.push(window)
  return () => {
    window.to = performance.now()
    while (windows.length > KEPT && (windows[0]?.to ?? Infinity) < Infinity) windows.shift()
  }
}

/** Whether a GC fell into such a time. @param startedAt, endedAt On the clock of `performance.now()`. */
export function wasForced(startedAt: number, endedAt: number): boolean {
  // Its middle: gc-stats has another clock, and the two agree to some microseconds only.
  const middle = (startedAt + endedAt) / 2
  return windows.some(({ from, to }) => middle >= from && middle <= to)
}
