import { receiveMessageOnPort, type MessagePort } from 'node:worker_threads'
import { messageOf } from '../core/thrown.ts'
import { sharedNow } from './clock.ts'
import { Problem } from './http/problem.ts'

/** How long the other side has to answer, unless a call says otherwise. */
const ANSWER_MS = 2_000

type Method = (params: never, signal: AbortSignal) => unknown

interface Message {
  /** A call, that it begins, its answer, news without an answer, or the end of the caller's interest. */
  kind: 'call' | 'begun' | 'result' | 'error' | 'news' | 'cancel'
  id: number
  name: string
  value: unknown
  /** Of a call, `sharedNow()`: later nobody waits for it any more. The end of the interest is read behind the call, too late. */
  notAfter?: number | undefined
  /** Of a call: whether that it begins is to be told. */
  tells?: boolean
}

interface Asking {
  /** For the answer; 0: for ever. */
  timeoutMs?: number
  /** For its begin, if that is to come earlier: what blocks the other side when it has begun may take its time. */
  beginMs?: number
  /** Hears that it has begun; with `beginMs`. */
  onBegin?: () => void
  signal?: AbortSignal | undefined
}

interface Waiting {
  begun(): void
  settle(message: Message): void
  fail(error: Problem): void
}

/** An error as it goes over: its class would be lost on the way, a problem's members not. */
function parcel(error: unknown): Record<string, unknown> {
  const failed = { status: 500, code: 'ERR_LAMEDUCK_OPS_FAILED', detail: messageOf(error), more: {} }
  try {
    if (error instanceof Problem) return { status: error.status, code: error.code, detail: error.message, more: error.more }
    const { code } = Object(error) as { code?: unknown }
    return typeof code === 'string' ? { ...failed, code } : failed
  } catch {
    // It throws when it is looked at.
    return failed
  }
}

function unpack(value: unknown): Problem {
  const { status, code, detail, more } = value as { status: number; code: string; detail: string; more: Record<string, unknown> }
  return new Problem(status, code, detail, more)
}

/** Between the process's main thread and the endpoint's: each calls the other's methods by name, and hears its news. */
export class Link {
  #port: MessagePort
  #methods = new Map<string, Method>()
  #listeners = new Map<string, Set<(value: never) => void>>()
  /** The last news of each name that nobody has listened for yet: the other side may be ready first. */
  #missed = new Map<string, unknown>()
  #waiting = new Map<number, Waiting>()
  #running = new Map<number, AbortController>()
  #last = 0
  #closed = false

  constructor(port: MessagePort) {
    this.#port = port
    port.on('message', (message: Message) => this.#hear(message))
    port.on('close', () => this.#end())
  }

  /** What the other side may call. */
  offer(methods: Record<string, Method>): void {
    for (const [name, method] of Object.entries(methods)) this.#methods.set(name, method)
  }

  /**
   * Calls a method of the other side. One that it comes to only after the time is over is not carried out.
   *
   * @param asking `timeoutMs`: default 2 000; 0 waits for ever. With `beginMs`, that begins when the method does.
   * @throws {Problem} What the method threw; 503 `ERR_LAMEDUCK_OPS_BLOCKED` when nothing came in time, as of a blocked main thread.
   */
  call<T>(name: string, params?: unknown, { timeoutMs = ANSWER_MS, beginMs = timeoutMs, onBegin, signal }: Asking = {}): Promise<T> {
    const id = ++this.#last
    return new Promise<T>((resolve, reject) => {
      const giveUp = (error: Problem) => {
        this.#send({ kind: 'cancel', id, name, value: undefined })
        done.fail(error)
      }
      const cancel = () => giveUp(new Problem(503, 'ERR_LAMEDUCK_OPS_CANCELLED', `${name} was cancelled`))
      const tells = beginMs !== timeoutMs
      const wait = (ms: number, what: string) => {
        if (ms === 0) return undefined
        // Not from the timer itself: when it was this side that was blocked, the answer is there, and is read before the check.
        const mine = setTimeout(() => setImmediate(() => {
          if (timer === mine) giveUp(blocked(`did not ${what} within ${ms} ms`))
        }), ms)
        return mine
      }
      let timer: NodeJS.Timeout | undefined = wait(beginMs, tells ? 'begin' : 'answer')
      const over = () => {
        clearTimeout(timer)
        timer = undefined
        signal?.removeEventListener('abort', cancel)
        this.#waiting.delete(id)
      }
      const done: Waiting = {
        begun: () => {
          clearTimeout(timer)
          timer = wait(timeoutMs, 'answer')
          onBegin?.()
        },
        settle: message => {
          over()
          if (message.kind === 'result') resolve(message.value as T)
          else reject(unpack(message.value))
        },
        fail: error => {
          over()
          reject(error)
        },
      }
      this.#waiting.set(id, done)
      if (this.#closed) return done.fail(gone())
      if (signal?.aborted) return cancel()
      signal?.addEventListener('abort', cancel, { once: true })
      return this.#send({ kind: 'call', id, name, value: params, tells, notAfter: beginMs > 0 ? sharedNow() + beginMs : undefined })
    })
  }

  /** Tells the other side something that needs no answer. */
  tell(name: string, value?: unknown): void {
    this.#send({ kind: 'news', id: 0, name, value })
  }

  /** Hears what the other side tells. @returns What stops it. */
  on<T>(name: string, listener: (value: T) => void): () => void {
    const listeners = this.#listeners.get(name) ?? new Set()
    this.#listeners.set(name, listeners)
    listeners.add(listener)
    if (this.#missed.has(name)) {
      const value = this.#missed.get(name) as T
      this.#missed.delete(name)
      listener(value)
    }
    return () => void listeners.delete(listener)
  }

  /** Whether the link keeps the process alive: on the main side it does not. */
  unref(): this {
    this.#port.unref()
    return this
  }

  /** The last news of this name that has come and was not read yet: for an exit, in which nothing else is to be begun. */
  unread(name: string): unknown {
    let value
    for (let come; (come = receiveMessageOnPort(this.#port)); ) {
      const message = come.message as Message
      if (message.kind === 'news' && message.name === name) value = message.value
    }
    return value
  }

  close(): void {
    this.#port.close()
    this.#end()
  }

  #send(message: Message): void {
    if (!this.#closed) this.#port.postMessage(message)
  }

  #hear(message: Message): void {
    const { kind, id, name, value } = message
    if (kind === 'call') void this.#run(message)
    else if (kind === 'cancel') this.#running.get(id)?.abort()
    else if (kind === 'news') this.#news(name, value)
    else if (kind === 'begun') this.#waiting.get(id)?.begun()
    else this.#waiting.get(id)?.settle(message)
  }

  #news(name: string, value: unknown): void {
    const listeners = this.#listeners.get(name)
    if (!listeners) this.#missed.set(name, value)
    else for (const listener of [...listeners]) listener(value as never)
  }

  async #run({ id, name, value, tells, notAfter = Infinity }: Message): Promise<void> {
    const controller = new AbortController()
    this.#running.set(id, controller)
    try {
      if (sharedNow() > notAfter) throw blocked('came to it too late: nothing was done')
      const method = this.#methods.get(name)
      if (!method) throw new Problem(501, 'ERR_LAMEDUCK_OPS_UNKNOWN', `there is no ${name} here`)
      // Posted before a method that blocks, it is there before its end.
      if (tells) this.#send({ kind: 'begun', id, name, value: undefined })
      this.#send({ kind: 'result', id, name, value: await method(value as never, controller.signal) })
    } catch (error) {
      this.#send({ kind: 'error', id, name, value: parcel(error) })
    } finally {
      this.#running.delete(id)
    }
  }

  #end(): void {
    this.#closed = true
    for (const waiting of [...this.#waiting.values()]) waiting.fail(gone())
    for (const controller of this.#running.values()) controller.abort()
  }
}

const gone = () => new Problem(503, 'ERR_LAMEDUCK_OPS_CLOSED', 'the other thread has gone')

const blocked = (what: string) => new Problem(503, 'ERR_LAMEDUCK_OPS_BLOCKED', `the main thread ${what}`)
