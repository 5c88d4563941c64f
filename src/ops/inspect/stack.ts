import { Problem } from '../http/problem.ts'
import type { Bench } from '../part.ts'
import type { Connect } from './inspector.ts'

/** One frame of a stack, the innermost first. */
export interface Frame {
  /** `(anonymous)` when it has no name, `new X` for a constructor. */
  function: string
  /** A path or URL, as V8 knows it; empty for what has none. */
  file: string
  /** From 1. */
  line: number
  column: number
  /** It awaits the frame before it. */
  async?: true
}

/** What the main thread is doing. */
export interface StackReport {
  /**
   * running: JavaScript, see `frames`. idle: it waits for events. native: it does not come round, being in C++ (a synchronous read, a
   * heap snapshot, a GC) or stopped. unknown: it cannot be told, see `reason`.
   */
  state: 'running' | 'idle' | 'native' | 'unknown'
  /** Null: unknown. */
  busy: boolean | null
  frames: Frame[]
  reason?: string
  /** ISO 8601. */
  takenAt: string
  tookMs: number
}

export interface StackOptions {
  /** At most so many. Default 50. */
  frames?: number
  /** How long main has to come round, before it counts as `native`. Default 30. */
  waitMs?: number
}

/**
 * What reads the stack, evaluated on top of what main is doing: V8 serves a session's commands in an interrupt, at the next back edge or
 * call of the JavaScript that runs. Nothing is paused, no breakpoint is left behind, and an idle main thread has nothing
 * beneath this, which says so at once. `Debugger.pause` needs `Debugger.enable`, which took 35 to 500 ms against 1 ms here, and
 * leaves a pause pending when main is idle. Nothing of the application runs: its own `prepareStackTrace` is set aside meanwhile.
 */
const READ = String.raw`(limit => {
  const own = key => Object.getOwnPropertyDescriptor(Error, key)
  const [before, prepare] = [own('stackTraceLimit'), own('prepareStackTrace')]
  const restore = (key, found) => found === undefined ? delete Error[key] : Object.defineProperty(Error, key, found)
  const site = at => ({
    function: (at.isConstructor() ? 'new ' : '') + (at.getFunctionName() || '(anonymous)'),
    file: String(at.getScriptNameOrSourceURL() || ''),
    line: at.getLineNumber() || 0,
    column: at.getColumnNumber() || 0,
    ...(at.isAsync() && { async: true }),
  })
  try {
    Error.stackTraceLimit = limit + 2
    Error.prepareStackTrace = (error, sites) => ({ sites: sites.slice(2).map(site) })
    return new Error().stack.sites
  } finally {
    restore('stackTraceLimit', before)
    restore('prepareStackTrace', prepare)
  }
})`

interface Evaluated {
  result: { value?: Frame[] }
  exceptionDetails?: { text: string; exception?: { description?: string } }
}

/**
 * The main thread's JavaScript stack, now. Runs on the endpoint's thread; never throws for a main thread that is stuck.
 *
 * @throws {Problem} What the inspector refuses.
 */
export async function takeStack(connect: Connect, { frames = 50, waitMs = 30 }: StackOptions = {}): Promise<StackReport> {
  const begun = performance.now()
  const report = (found: Pick<StackReport, 'state' | 'busy' | 'frames' | 'reason'>): StackReport =>
    ({ ...found, takenAt: new Date().toISOString(), tookMs: Math.round((performance.now() - begun) * 100) / 100 })
  const session = connect()
  try {
    const { result, exceptionDetails } = await session.post<Evaluated>('Runtime.evaluate',
      { expression: `${READ}(${frames})`, returnByValue: true, silent: true, disableBreaks: true }, { timeoutMs: waitMs })
    // As at the stack's limit, or where an application has frozen Error.
    if (!Array.isArray(result.value)) {
      const reason = `the stack could not be read: ${exceptionDetails?.exception?.description ?? exceptionDetails?.text ?? 'Error is frozen'}`
      return report({ state: 'unknown', busy: null, frames: [], reason })
    }
    const running = result.value.length > 0
    return report({ state: running ? 'running' : 'idle', busy: running, frames: result.value })
  } catch (error) {
    if (!(error instanceof Problem) || error.code !== 'ERR_LAMEDUCK_OPS_BLOCKED') throw error
    return report({ state: 'native', busy: true, frames: [], reason: `it did not come round within ${waitMs} ms` })
  } finally {
    session.disconnect()
  }
}

/** As `takeStack()`, but never throws: for reports to which a stack is an addition. In-thread, where the stack would be our own, it is unknown. */
export async function threadDump(bench: Pick<Bench, 'connect' | 'worker'>, options?: StackOptions): Promise<StackReport> {
  const unknown = (reason: string): StackReport =>
    ({ state: 'unknown', busy: null, frames: [], reason, takenAt: new Date().toISOString(), tookMs: 0 })
  if (!bench.worker) return unknown('the endpoint runs on the main thread itself')
  return takeStack(bench.connect, options).catch((error: unknown) => unknown((error as Error).message))
}
