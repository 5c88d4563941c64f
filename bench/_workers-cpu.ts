/** CPU time of a process and of all that came of it, the dead included, as Linux counts it. */
import { readFileSync } from 'node:fs'

/** USER_HZ, which is 100 wherever Linux runs. */
const TICK_MS = 10

/** Milliseconds; undefined where there is no /proc. What has just died and is not waited for yet counts as well. */
export function cpuMsOf(pid: number): number | undefined {
  try {
    return total(pid)
  } catch {
    return undefined
  }
}

function total(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // utime, stime, and those of children that were waited for. The name before them may contain anything.
  const ticks = stat.slice(stat.lastIndexOf(')') + 2).split(' ').slice(11, 15).map(Number)
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean)
  let ms = ticks.reduce((sum, value) => sum + value, 0) * TICK_MS
  for (const child of children) ms += cpuMsOf(Number(child)) ?? 0
  return ms
}
