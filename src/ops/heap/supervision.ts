import { Problem } from '../http/problem.ts'

/** Set in a worker of `lameduck/cluster`, by its worker's side. */
const SUPERVISED = Symbol.for('lameduck.supervised')

/** A replacement takes up to the supervisor's `readyTimeoutMs` (60 s by default), and a reload that goes on is waited for. */
const REPLACEMENT_MS = 300_000

interface Answer {
  lameduck?: unknown
  ok?: boolean
  reason?: string
}

const say = (message: object) => {
  // With a callback an error is not emitted: a supervisor that has gone is nobody to tell.
  if (process.connected) process.send?.(message, undefined, undefined, () => {})
}

/** Whether a supervisor of ours runs this process. */
export function isSupervised(): boolean {
  return (globalThis as { [SUPERVISED]?: boolean })[SUPERVISED] === true && process.send !== undefined
}

/** Tells the supervisor that the event loop stands still until then (`Date.now()`), 0 when it is over: no heartbeat is missed meanwhile. */
export function announcePause(untilMs: number): void {
  if (isSupervised()) say({ lameduck: 'pause', untilMs })
}

/**
 * Has the supervisor start a replacement first; settles when that serves.
 *
 * @returns What gives this worker back, or, with `retire`, has it replaced for good.
 * @throws {Problem} 409 `ERR_LAMEDUCK_OPS_REPLACEMENT` when there is none, and why; what `signal` was aborted with.
 */
export async function replaced(signal: AbortSignal): Promise<(retire: boolean) => void> {
  const giveBack = (retire: boolean) => say({ lameduck: 'return', retire })
  await new Promise<void>((resolve, reject) => {
    const over = (error?: Error) => {
      clearTimeout(timer)
      process.off('message', hear)
      signal.removeEventListener('abort', left)
      if (error) reject(error)
      else resolve()
    }
    const refused = (why: string) => over(new Problem(409, 'ERR_LAMEDUCK_OPS_REPLACEMENT', `there is no replacement: ${why}`))
    const hear = (message: Answer | null) => {
      if (message?.lameduck !== 'isolated') return
      if (message.ok === true) over()
      else refused(message.reason ?? 'the supervisor did not say why')
    }
    const left = () => {
      giveBack(false)
      over(signal.reason as Error)
    }
    const timer = setTimeout(() => {
      giveBack(false)
      refused(`none was ready within ${REPLACEMENT_MS / 1_000} s`)
    }, REPLACEMENT_MS)
    process.on('message', hear)
    signal.addEventListener('abort', left, { once: true })
    if (signal.aborted) left()
    else say({ lameduck: 'isolate' })
  })
  return giveBack
}
