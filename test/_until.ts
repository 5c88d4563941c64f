import { setTimeout as sleep } from 'node:timers/promises'

/** Waits for something to be so. */
export async function until(is: () => boolean | Promise<boolean>, what: string, ms = 15_000): Promise<void> {
  for (const limit = performance.now() + ms; performance.now() < limit; await sleep(10)) if (await is()) return
  throw new Error(`not within ${ms} ms: ${what}`)
}

/** Whether there is such a process. */
export function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
