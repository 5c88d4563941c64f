import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { Collapse } from '../http/collapse.ts'
import { Problem } from '../http/problem.ts'
import type { Call } from '../http/route.ts'
import type { Bench } from '../part.ts'
import { isRecoverable } from './compile.ts'
import { complete } from './complete.ts'
import { listen, type ConsoleMessage } from './console.ts'
import { Evaluator, sourceName, type Order, type Outcome } from './evaluate.ts'

/** Without a message from the client for so long, the session ends. */
const IDLE_MS = 600_000

/** Within which completions become one line of the audit: there is one with each key that is pressed. */
const COMPLETIONS_MS = 10_000

/** Messages that may wait for their turn. */
const WAITING = 16

/** What a client sends, as JSON text. `id` is its own, a number or a string; the answer bears it. */
export type Request =
  /** Evaluated as `POST /eval` does. `_` is the last value; `let` and `const` may be declared again; the defaults are those of `/eval`. */
  | { id: number | string; type: 'eval'; code: string; timeoutMs?: number; sideEffects?: boolean; awaitPromise?: boolean; depth?: number }
  /** What could stand at the end of `code`. */
  | { id: number | string; type: 'complete'; code: string }
  /** Whether `code` only needs more lines. */
  | { id: number | string; type: 'isRecoverable'; code: string }

/** What it hears. */
export type Answer =
  | { type: 'hello'; node: string; idleMs: number; maxBytes: number }
  /** Of an `eval`; `recoverable` with a syntax error that more lines could mend. */
  | ({ id: number | string; type: 'result'; durationMs: number; recoverable?: boolean } & Outcome)
  | { id: number | string; type: 'completion'; prefix: string; names: string[] }
  | { id: number | string; type: 'recoverable'; recoverable: boolean }
  /** Printed by the code of the `eval` that has this id, while it ran; it went to the process's own stdout or stderr as well. */
  | ({ id: number | string; type: 'console' } & ConsoleMessage)
  /** A problem document: the message was not understood, or could not be carried out. The session goes on. */
  | ({ id: number | string | null; type: 'error' } & Record<string, unknown>)

/** What a `WebSocket` and the `WebSocketServer` of `ws` (8) have, as far as we use them. */
interface Socket {
  on(event: 'message', listener: (data: Buffer, binary: boolean) => void): void
  on(event: 'error' | 'close', listener: () => void): void
  send(text: string): void
  close(code: number, reason: string): void
  terminate(): void
}

interface Server {
  handleUpgrade(req: IncomingMessage, socket: Duplex, head: Buffer, callback: (client: Socket) => void): void
}

/** Who has the session. */
interface Open {
  by: string
  from: string
  since: string
  session?: Session
}

type Ws = { WebSocketServer: new (options: { noServer: true; maxPayload: number; perMessageDeflate: false; clientTracking: false }) => Server }

/**
 * `/repl`: a read-eval-print loop over one WebSocket, see `Request` and `Answer` for its messages. One at a time. Each line is audited by
 * its digest before it is evaluated; a line that cannot be audited is not evaluated. Completions are audited, too, by their number.
 *
 * Close codes: 1000 after the idle time, 1001 when the endpoint closes, 1008 when the token is no longer in force, 1009 (by `ws`) for a message above `limits.bodyBytes`.
 */
export class Repl {
  readonly #bench: Bench
  readonly #idleMs: number
  readonly #load: () => Promise<unknown>
  #open: Open | undefined

  constructor(bench: Bench, { idleMs = IDLE_MS, load = () => import('ws') }: { idleMs?: number; load?: () => Promise<unknown> } = {}) {
    this.#bench = bench
    this.#idleMs = idleMs
    this.#load = load
  }

  /** @throws {Problem} 501 `ERR_LAMEDUCK_OPS_PEER` without `ws`; 409 `ERR_LAMEDUCK_OPS_BUSY` with `by` and `since`. */
  async upgrade(call: Call & { head: Buffer }): Promise<void> {
    if (this.#open) {
      const { by, from, since } = this.#open
      throw new Problem(409, 'ERR_LAMEDUCK_OPS_BUSY', `${by} has the one session since ${since}`, { by, from, since })
    }
    const open: Open = { by: call.who.name, from: call.who.from, since: new Date().toISOString() }
    this.#open = open
    const free = () => {
      if (this.#open === open) this.#open = undefined
      open.session?.end()
    }
    try {
      const server = await this.#server()
      const { req, head } = call
      if (req.socket.destroyed) return free()
      // Also when the handshake fails, which ws answers on its own.
      req.socket.once('close', free)
      server.handleUpgrade(req, req.socket, head, client => {
        open.session = new Session(this.#bench, client, call, this.#idleMs)
      })
    } catch (error) {
      free()
      throw error
    }
  }

  close(): void {
    this.#open?.session?.leave(1001, 'the endpoint closes')
  }

  async #server(): Promise<Server> {
    const maxPayload = this.#bench.settings.limits.bodyBytes
    try {
      const { WebSocketServer } = await this.#load() as Ws
      return new WebSocketServer({ noServer: true, maxPayload, perMessageDeflate: false, clientTracking: false })
    } catch (error) {
      throw new Problem(501, 'ERR_LAMEDUCK_OPS_PEER', `/repl needs the package ws: ${(error as Error).message.split('\n')[0]}`, { package: 'ws' })
    }
  }
}

class Session {
  readonly #bench: Bench
  readonly #client: Socket
  readonly #call: Call
  readonly #evaluator: Evaluator
  readonly #idle: NodeJS.Timeout
  readonly #completions: Collapse
  #last = Promise.resolve()
  #waiting = 0
  #ended = false

  constructor(bench: Bench, client: Socket, call: Call, idleMs: number) {
    this.#bench = bench
    this.#client = client
    this.#call = call
    this.#evaluator = new Evaluator(bench.connect)
    this.#idle = setTimeout(() => this.leave(1000, `idle for ${idleMs} ms`), idleMs)
    client.on('message', (data, binary) => this.#hear(data, binary))
    client.on('close', () => this.end())
    client.on('error', () => {})
    this.#completions = new Collapse(bench.audit, COMPLETIONS_MS)
    const over = () => {
      const { status } = call.signal.reason as Problem
      if (status === 503) this.leave(1001, 'the endpoint closes')
      else this.leave(1008, 'the token is no longer in force')
    }
    call.signal.addEventListener('abort', over, { once: true })
    this.#send({ type: 'hello', node: process.version, idleMs, maxBytes: bench.settings.limits.bodyBytes })
    // While the WebSocket was being opened.
    if (call.signal.aborted) over()
  }

  leave(code: number, reason: string): void {
    if (this.#ended) return
    this.#client.close(code, reason)
    // A peer that does not answer the close frame holds neither the session nor the endpoint.
    setTimeout(() => this.#client.terminate(), 1_000).unref()
    this.end()
  }

  end(): void {
    if (this.#ended) return
    this.#ended = true
    clearTimeout(this.#idle)
    this.#completions.close()
    this.#evaluator.disconnect()
  }

  #hear(data: Buffer, binary: boolean): void {
    if (this.#ended) return
    this.#idle.refresh()
    let request: Request | undefined
    try {
      request = binary ? undefined : checked(JSON.parse(data.toString('utf8')))
    } catch {
      request = undefined
    }
    if (!request) return this.#problem(null, new Problem(400, 'ERR_LAMEDUCK_OPS_MESSAGE', 'not a message of this protocol: { id, type, code }'))
    if (this.#waiting >= WAITING) return this.#problem(request.id, new Problem(429, 'ERR_LAMEDUCK_OPS_WAITING', `${WAITING} messages wait already`))
    const { id } = request
    this.#waiting++
    this.#last = this.#last.then(async () => {
      this.#waiting--
      if (this.#ended) return
      await this.#answer(request).catch((error: unknown) => this.#problem(id, error))
      this.#idle.refresh()
    })
  }

  async #answer(request: Request): Promise<void> {
    const { id, code } = request
    if (request.type === 'isRecoverable') return this.#send({ id, type: 'recoverable', recoverable: isRecoverable(code) })
    // The session may be older than the token's end.
    await this.#call.recheck?.()
    if (request.type === 'eval') return this.#evaluate(request)
    const { name: who, from } = this.#call.who
    await this.#completions.count('', { event: 'complete', who, from, path: '/repl' }).catch(unaudited('completed'))
    return this.#send({ id, type: 'completion', ...await complete(this.#evaluator.session, code, this.#evaluator.held) })
  }

  async #evaluate(request: Request & { type: 'eval' }): Promise<void> {
    const { id, code, timeoutMs = 1_000, sideEffects = false, awaitPromise = true, depth = 2 } = request
    const { name: who, from } = this.#call.who
    const line = { who, from, path: '/repl', sha256: createHash('sha256').update(code).digest('hex'), length: code.length, sideEffects }
    await this.#bench.audit.write({ event: 'begin', ...line }).catch(unaudited('evaluated'))
    const begun = performance.now()
    const name = sourceName()
    const end = (fields: object) => this.#bench.audit.write({ event: 'end', ...line, durationMs: Math.round(performance.now() - begun), ...fields }).catch(() => {})
    let unhear: (() => Promise<void>) | undefined
    try {
      // From here on: a main thread that does not come round refuses this already, and what has a begin has an end.
      unhear = await listen(this.#evaluator, name, message => this.#send({ id, type: 'console', ...message }))
      const outcome = await this.#withLast(code, { expression: code, timeoutMs, sideEffects, awaitPromise, depth }, name)
      await end({ status: 200, threw: !outcome.ok })
      this.#send({
        id, type: 'result', durationMs: Math.round(performance.now() - begun), ...outcome,
        ...(!outcome.ok && outcome.exception.text.startsWith('SyntaxError') && { recoverable: isRecoverable(code) }),
      })
    } catch (error) {
      await end(error instanceof Problem ? { status: error.status, code: error.code } : { status: 500 })
      throw error
    } finally {
      await unhear?.()
    }
  }

  /** With `_` where the line has it, unless the application has a global of that name: as a property that is there meanwhile only. */
  async #withLast(code: string, order: Order, name: string): Promise<Outcome> {
    if (!/(?<![\w$.])_(?![\w$])/.test(code)) return this.#evaluator.evaluate(order, name)
    const { session } = this.#evaluator
    const define = `'_' in globalThis ? false : (Object.defineProperty(globalThis, '_', { value: ${this.#evaluator.held}, configurable: true, writable: true }), true)`
    const { result } = await session.post<{ result: { value?: boolean } }>('Runtime.evaluate', { expression: define, includeCommandLineAPI: true, silent: true })
    try {
      return await this.#evaluator.evaluate(order, name)
    } finally {
      if (result.value === true) session.post('Runtime.evaluate', { expression: 'delete globalThis._', silent: true }).catch(() => {})
    }
  }

  #problem(id: number | string | null, error: unknown): void {
    const problem = error instanceof Problem ? error : new Problem(500, 'ERR_LAMEDUCK_OPS_FAILED', (error as Error).message)
    this.#send({ ...problem.toJSON(), id, type: 'error' })
  }

  #send(answer: Answer): void {
    if (!this.#ended) this.#client.send(JSON.stringify(answer))
  }
}

const unaudited = (what: string) => (error: unknown): never => {
  throw new Problem(503, 'ERR_LAMEDUCK_OPS_AUDIT', `it cannot be audited, so it was not ${what}: ${(error as Error).message}`)
}

function checked(message: unknown): Request | undefined {
  if (typeof message !== 'object' || message === null) return undefined
  const { id, type, code, timeoutMs = 1, depth = 0, sideEffects = false, awaitPromise = true } = message as Record<string, unknown>
  const within = (value: unknown, min: number, max: number) => Number.isInteger(value) && (value as number) >= min && (value as number) <= max
  const fits = (typeof id === 'number' || typeof id === 'string') && ['eval', 'complete', 'isRecoverable'].includes(type as string)
    && typeof code === 'string' && within(timeoutMs, 1, 30_000) && within(depth, 0, 10)
    && typeof sideEffects === 'boolean' && typeof awaitPromise === 'boolean'
  return fits ? message as Request : undefined
}
