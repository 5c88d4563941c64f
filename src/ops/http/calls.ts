import type { IncomingMessage, ServerResponse } from 'node:http'
import { messageOf } from '../../core/thrown.ts'
import type { Audit } from './audit.ts'
import { Problem } from './problem.ts'
import { sendProblem, sendReply } from './respond.ts'
import type { Call, Principal, Route, Scope } from './route.ts'
import { Standing } from './standing.ts'

/** What a call is made of, once it has passed every check. */
export interface Passed {
  route: Route
  /** As it came. */
  path: string
  params: Record<string, unknown>
  who: Principal
  req: IncomingMessage
  res: ServerResponse
  /** Of a call that lasts: the check that it has passed, again. @throws {Problem} */
  admit?: (() => Promise<void>) | undefined
}

/** A call whose line before it was written, if it has one. */
interface Begun {
  /** What its line after it has on top. */
  notes: Record<string, unknown>
  /** Whether the audit trail can be written. */
  trail: boolean
  tell(fields: Record<string, unknown>): Promise<void>
}

/** Anything but reading figures leaves a trace before and after. */
const leavesTrace = ({ method, scope }: Route) => method !== 'GET' || (scope !== 'read' && scope !== null)

/** How long the last lines may take when the endpoint closes. */
const LAST_LINES_MS = 300

const needTrail: ReadonlySet<Scope | null> = new Set(['secrets', 'eval'] as const)

/** What is to be done, for the audit: defaults included, secrets not. */
function saidBy({ params: declared = {}, audit }: Route, params: Record<string, unknown>): Record<string, unknown> {
  const shown = Object.entries(params).filter(([name]) => declared[name]?.secret !== true)
  return { ...(shown.length > 0 && { params: Object.fromEntries(shown) }), ...audit?.(params) }
}

/** Runs handlers: each with its lines in the audit, its signal, and an answer whatever happens. */
export class Calls {
  #audit: Audit
  #log: (message: string) => void
  #last = 0
  #running = new Set<AbortController>()
  #open = new Set<Promise<void>>()
  /** Of those that last. */
  #standings = new Set<Standing>()

  constructor(audit: Audit, log: (message: string) => void) {
    this.#audit = audit
    this.#log = log
  }

  /** Tells every call that its time is over. */
  abort(): void {
    for (const controller of this.#running) controller.abort(new Problem(503, 'ERR_LAMEDUCK_OPS_CLOSED', 'the endpoint is closing'))
  }

  /** Looks whether the callers of those that last still may: tokens have changed. */
  look(): void {
    for (const standing of this.#standings) standing.look()
  }

  /** Waits until all calls have their last line in the audit, but not for ever: a handler may ignore its signal. */
  async ended(): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>(resolve => {
      timer = setTimeout(resolve, LAST_LINES_MS)
    })
    await Promise.race([Promise.allSettled(this.#open), late])
    clearTimeout(timer)
  }

  /** Runs a route's handler and answers. @throws {Problem} 503 `ERR_LAMEDUCK_OPS_AUDIT`, before anything is done. */
  run(passed: Passed): Promise<void> {
    return this.#note(this.#run(passed))
  }

  #note(call: Promise<void>): Promise<void> {
    const settled = call.catch(() => {}).finally(() => this.#open.delete(settled))
    this.#open.add(settled)
    return call
  }

  async #run(passed: Passed): Promise<void> {
    const { route, req, res } = passed
    const ended = await this.#begin(passed)
    const controller = new AbortController()
    let bytes = 0
    let code: string | undefined
    const closed = new Promise<void>(resolve => {
      res.once('close', () => {
        if (!res.writableFinished) controller.abort(new Problem(499, 'ERR_LAMEDUCK_OPS_GONE', 'the client has gone'))
        resolve()
      })
    })
    const standing = this.#begun(passed, controller)
    const before = req.socket.bytesWritten
    try {
      const reply = await route.handler(this.#call(passed, controller.signal, standing, ended))
      if (reply && !res.destroyed) await sendReply(req, res, reply, more => (bytes += more))
    } catch (error) {
      code = this.#fail(passed, error, controller.signal, more => (bytes += more))
    }
    await closed
    this.#over(controller, standing)
    const gone = !res.writableFinished
    // A client that left before the head of its answer has been told no status at all.
    const status = gone && !res.headersSent ? 499 : res.statusCode
    await ended.tell({ status, code: code ?? (gone ? 'ERR_LAMEDUCK_OPS_GONE' : undefined), bytes: bytes || Math.max(0, req.socket.bytesWritten - before) })
  }

  /**
   * Runs a route's upgrade.
   *
   * @throws What it threw before it took the socket: the answer is the caller's.
   */
  async upgrade(passed: Passed, head: Buffer): Promise<void> {
    const { route, req } = passed
    const { socket } = req
    const ended = await this.#begin(passed)
    const controller = new AbortController()
    const before = socket.bytesWritten
    let told = () => {}
    void this.#note(new Promise(resolve => (told = resolve)))
    const end = (fields: Record<string, unknown>) => {
      if (!this.#over(controller, standing)) return
      controller.abort(new Problem(499, 'ERR_LAMEDUCK_OPS_GONE', 'the client has gone'))
      void ended.tell({ bytes: socket.bytesWritten - before, ...fields }).then(told)
    }
    const standing = this.#begun(passed, controller)
    socket.once('close', () => end({ status: 101, ...(controller.signal.aborted && { code: (controller.signal.reason as Problem).code }) }))
    // It may be gone since the checks, with no event to come.
    if (socket.destroyed) return end({ code: 'ERR_LAMEDUCK_OPS_GONE' })
    try {
      await route.upgrade?.({ ...this.#call(passed, controller.signal, standing, ended), head })
    } catch (error) {
      const problem = this.#problemOf(error, route)
      end({ status: problem.status, code: problem.code })
      if (socket.bytesWritten === before) throw problem
      socket.destroy()
    }
    return undefined
  }

  #begun({ admit }: Passed, controller: AbortController): Standing | undefined {
    this.#running.add(controller)
    const standing = admit && new Standing(admit, why => controller.abort(why))
    if (standing) this.#standings.add(standing)
    return standing
  }

  /** @returns Whether it was under way. */
  #over(controller: AbortController, standing: Standing | undefined): boolean {
    standing?.end()
    if (standing) this.#standings.delete(standing)
    return this.#running.delete(controller)
  }

  #call({ params, who, req, res }: Passed, signal: AbortSignal, standing: Standing | undefined, { notes, trail }: Begun): Call {
    // Without a trail nobody holds these: a handler that asks for them itself, for one artifact and not for another, refuses too.
    const all = [...who.scopes]
    const able = trail ? who
      : { ...who, scopes: new Set(all.filter(scope => !needTrail.has(scope))), withheld: new Set(all.filter(scope => needTrail.has(scope))) }
    return { params, who: able, signal, req, res, ...(standing && { recheck: () => standing.check() }), note: fields => void Object.assign(notes, fields) }
  }

  /** @throws {Problem} 503 `ERR_LAMEDUCK_OPS_AUDIT` when the trail cannot be written and the call needs it. */
  async #begin({ route, path, params, who, req }: Passed): Promise<Begun> {
    const notes: Record<string, unknown> = {}
    if (!leavesTrace(route)) return { notes, trail: true, tell: () => Promise.resolve() }
    const startedAt = performance.now()
    const about = { call: ++this.#last, who: who.name, from: who.from, method: req.method ?? '', path, ...saidBy(route, params) }
    let trail = true
    try {
      await this.#audit.write({ event: 'begin', ...about })
    } catch {
      if (needTrail.has(route.scope)) throw new Problem(503, 'ERR_LAMEDUCK_OPS_AUDIT', 'the audit trail cannot be written, and this is not done without it')
      trail = false
    }
    const tell = async (fields: Record<string, unknown>) => {
      const durationMs = Math.round(performance.now() - startedAt)
      // Done is done; that it could not be written has been said by the trail itself.
      await this.#audit.write({ ...notes, event: 'end', ...about, ...fields, durationMs }).catch(() => {})
    }
    return { notes, trail, tell }
  }

  #problemOf(error: unknown, { method, path }: Route): Problem {
    if (error instanceof Problem) return error
    this.#log(`${method} ${path} failed: ${error instanceof Error && error.stack ? error.stack : messageOf(error)}`)
    return new Problem(500, 'ERR_LAMEDUCK_OPS_FAILED', 'this failed; the log says why')
  }

  /** Answers for a handler that threw. @returns The code, for the audit. */
  #fail({ route, req, res }: Passed, error: unknown, signal: AbortSignal, count: (bytes: number) => void): string {
    // Whatever a handler says of a client that left, or of our own end, is no failure of its own.
    const cancelled = !(error instanceof Problem) || error.code === 'ERR_LAMEDUCK_OPS_CANCELLED'
    const problem = signal.aborted && cancelled ? signal.reason as Problem : this.#problemOf(error, route)
    if (res.headersSent) res.destroy()
    else if (!res.destroyed) {
      // What the reply had set before its stream failed.
      for (const name of ['Content-Encoding', 'Content-Disposition', 'ETag']) res.removeHeader(name)
      count(sendProblem(req, res, problem))
    }
    return problem.code
  }
}
