import { Problem } from '../http/problem.ts'
import { plan, type Plan } from './compile.ts'
import { BOUNDS, DESCRIBE } from './describe.ts'
import type { Connect, InspectorSession } from './inspector.ts'
import { rescue } from './rescue.ts'

/** How long main has to show that it is there at all, before anything is evaluated. */
const PRESENT_MS = 2_000

/** What V8's own limit may be late by, and the way there and back. */
const GRACE_MS = 500

/** How long the telling may take: an object with a million keys has to list them. */
const TELL_MS = 2_000

/** The group of objects whose last value V8 keeps for us. */
const GROUP = 'console'

/** What is to be evaluated. */
export interface Order {
  expression: string
  /** Of all of it, promises included. Milliseconds. */
  timeoutMs: number
  /** False: V8 throws at the first step that might change something. */
  sideEffects: boolean
  /** Whether a promise as the value is waited for. */
  awaitPromise: boolean
  /** Levels of objects that are told. */
  depth: number
}

/** What came of it. */
export type Outcome =
  | { ok: true; /** As of `typeof`. */ kind: string; /** As `util.inspect` would show it, bounded. */ text: string }
  | { ok: false; exception: Exception }

/** What was thrown, as data. */
export interface Exception {
  /** With the stack, if it has one. At most 4,000 characters. */
  text: string
  /** Where in the expression, from 1; of a syntax error above all. */
  line: number
  column: number
  /** It did nothing: it would have had side effects, or V8 could not rule that out. */
  sideEffect: boolean
}

interface Remote {
  type: string
  objectId?: string
  className?: string
  description?: string
  value?: unknown
}

interface Evaluated {
  result: Remote
  exceptionDetails?: { text: string; lineNumber: number; columnNumber: number; exception?: Remote }
}

interface Told {
  kind: string
  promise: boolean
  text: string
}

let last = 0

/** An expression on the main thread, through one session, which remembers the last value. */
export class Evaluator {
  readonly #session: InspectorSession
  readonly #connect: Connect
  #held = 'undefined'

  constructor(connect: Connect) {
    this.#connect = connect
    this.#session = connect()
  }

  get session(): InspectorSession {
    return this.#session
  }

  /**
   * Evaluates in the global scope. While main is in a busy loop, that happens in the middle of it; a promise then never settles.
   *
   * @param name Told to V8 as the source's name: by it a stack or a console message is known as ours.
   * @throws {Problem} 503 `ERR_LAMEDUCK_OPS_BLOCKED`: main is not there, nothing was evaluated; 504 `ERR_LAMEDUCK_OPS_TIMEOUT`.
   */
  async evaluate(order: Order, name = sourceName()): Promise<Outcome> {
    // What is posted to a blocked main thread is evaluated whenever it comes back, long after the answer: so ask first.
    await this.#session.post('Runtime.evaluate', { expression: '0' }, { timeoutMs: PRESENT_MS })
    const until = performance.now() + order.timeoutMs
    const how = plan(order.expression, order.sideEffects)
    const found = await this.#run(`${how.code}\n//# sourceURL=${name}`, order, until, name, how)
    if (found.exceptionDetails) return { ok: false, exception: thrown(found.exceptionDetails, how) }
    this.#held = how.held ? '$_.v' : '$_'
    const told = await this.#tell(order, found.result)
    if (!told.promise || !order.awaitPromise) return { ok: true, kind: told.kind, text: told.text }

    const settled = await this.#run(this.#held, order, until, name, { repl: false, awaits: true })
    if (settled.exceptionDetails) return { ok: false, exception: thrown(settled.exceptionDetails, how) }
    this.#held = '$_'
    const { kind, text } = await this.#tell(order, settled.result)
    return { ok: true, kind, text }
  }

  /** The last value, as an expression that only this session understands. */
  get held(): string {
    return this.#held
  }

  /** Lets go of objects that V8 keeps for us. */
  release(...objects: ({ objectId?: string } | undefined)[]): void {
    for (const { objectId } of objects.filter(object => object !== undefined)) {
      if (objectId) this.#session.post('Runtime.releaseObject', { objectId }).catch(() => {})
    }
  }

  disconnect(): void {
    this.#session.disconnect()
  }

  async #run(expression: string, order: Order, until: number, name: string, how: Pick<Plan, 'repl' | 'awaits'>): Promise<Evaluated> {
    const left = Math.max(1, Math.ceil(until - performance.now()))
    const begun = performance.now()
    try {
      const found = await this.#session.post<Evaluated>('Runtime.evaluate', {
        expression,
        objectGroup: GROUP,
        includeCommandLineAPI: true,
        silent: true,
        disableBreaks: true,
        throwOnSideEffect: !order.sideEffects,
        replMode: how.repl,
        awaitPromise: how.awaits,
        timeout: left,
      }, { timeoutMs: how.awaits ? left : left + GRACE_MS })
      // Else main would hold whatever was ever looked at; the last value is kept apart from these.
      this.release(found.result, found.exceptionDetails?.exception)
      return found
    } catch (error) {
      if (!(error instanceof Problem)) throw error
      // It may have come to an end, and only what it waits for not; or go round in a loop after an `await`, where V8's limit is none any more.
      if (error.code === 'ERR_LAMEDUCK_OPS_BLOCKED') await rescue(this.#connect, name).catch(() => false)
      // V8 has no code for it; on Node 26 it is a mere "Internal error".
      else if (!/terminated/.test(error.message) && performance.now() - begun < left) throw error
      throw new Problem(504, 'ERR_LAMEDUCK_OPS_TIMEOUT', `it did not end within ${order.timeoutMs} ms`, { timeoutMs: order.timeoutMs })
    }
  }

  async #tell(order: Order, remote: Remote): Promise<Told> {
    const bounds = { ...BOUNDS, depth: order.depth }
    const expression = `(v => ({ kind: typeof v, promise: process.getBuiltinModule('node:util').types.isPromise(v),
      text: ${DESCRIBE}(v, ${JSON.stringify(bounds)}) }))(${this.#held})`
    const { result, exceptionDetails } = await this.#session.post<Evaluated>('Runtime.evaluate', {
      expression,
      includeCommandLineAPI: true,
      returnByValue: true,
      silent: true,
      disableBreaks: true,
      throwOnSideEffect: !order.sideEffects,
      timeout: TELL_MS,
    }, { timeoutMs: TELL_MS + GRACE_MS })
    if (!exceptionDetails) return result.value as Told
    // Such as `process.env`, whose names only native code knows: no telling without it, so only what it is.
    const text = this.#held === '$_' ? remote.description ?? String(remote.value) : '[cannot be told without side effects]'
    return { kind: remote.type, promise: false, text: text.slice(0, bounds.total) }
  }
}

export const sourceName = () => `lameduck:eval/${++last}`

/** @param how.held Then the first line has our wrapping before it; its columns are not told. */
function thrown({ text, lineNumber, columnNumber, exception }: NonNullable<Evaluated['exceptionDetails']>, how: Plan): Exception {
  const told = exception?.description ?? (exception && 'value' in exception ? `${text} ${JSON.stringify(exception.value)}` : text)
  return {
    text: told.slice(0, 4_000),
    line: lineNumber + 1,
    column: how.held && lineNumber === 0 ? 1 : columnNumber + 1,
    sideEffect: exception?.className === 'EvalError' && told.startsWith('EvalError: Possible side-effect'),
  }
}
