import inspector from 'node:inspector'
import { setTimeout as sleep } from 'node:timers/promises'
import { Problem } from '../http/problem.ts'

/** How long main has to answer a command, unless a call says otherwise. */
const ANSWER_MS = 2_000

/** How long main takes to give up a session that was left; see `settled()`. */
const PARTING_MS = 100

let leftAt = -Infinity

/**
 * A session of V8's inspector on the main thread. What it enables ends with it, as soon as main hears of that: also when main was
 * too busy to answer before.
 */
export interface InspectorSession {
  /**
   * @param options.timeoutMs Default 2 000. It also keeps the worker alive, which a session does not.
   * @throws {Problem} 503 `ERR_LAMEDUCK_OPS_BLOCKED` when nothing came in time; 500 `ERR_LAMEDUCK_OPS_INSPECTOR` for what V8 refuses;
   *   503 `ERR_LAMEDUCK_OPS_CLOSED` after `disconnect()`.
   */
  post<T = Record<string, unknown>>(method: string, params?: object, options?: { timeoutMs?: number }): Promise<T>
  /** @returns What stops it. */
  on<T = Record<string, unknown>>(event: string, listener: (params: T) => void): () => void
  disconnect(): void
}

/** Opens a session: from a worker through `connectToMainThread()`, on the main thread itself through `connect()`. */
export type Connect = () => InspectorSession

/**
 * What opens sessions on the main thread.
 *
 * @param worker Whether this is a worker of it; else it is the main thread itself.
 */
export const connector = (worker: boolean): Connect => () => new Inspection(worker)

/**
 * Resolves when main has given up all sessions of this thread. A worker that ends before that takes the whole process along:
 * main then tells a thread that has gone, which aborts in `MainThreadInterface::Post` (seen on Node 20, 24 and 26, in up to 4 of 10
 * runs; never 50 ms later, nor with a session still open).
 */
export async function settled(): Promise<void> {
  const left = leftAt + PARTING_MS - performance.now()
  if (left > 0) await sleep(left)
}

class Inspection implements InspectorSession {
  #session = new inspector.Session()
  #waiting = new Set<(error: Problem) => void>()
  #closed = false

  constructor(worker: boolean) {
    // Its listeners are those of whoever works with it; each takes its own back.
    this.#session.setMaxListeners(0)
    if (worker) this.#session.connectToMainThread()
    else this.#session.connect()
  }

  post<T>(method: string, params: object = {}, { timeoutMs = ANSWER_MS }: { timeoutMs?: number } = {}): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#closed) return reject(gone(method))
      const over = () => {
        clearTimeout(timer)
        this.#waiting.delete(fail)
      }
      const fail = (error: Problem) => {
        over()
        reject(error)
      }
      const timer = setTimeout(() => fail(new Problem(503, 'ERR_LAMEDUCK_OPS_BLOCKED',
        `the main thread did not come to ${method} within ${timeoutMs} ms`)), timeoutMs)
      this.#waiting.add(fail)
      return this.#session.post(method, params, (error, result) => {
        if (error) return fail(new Problem(500, 'ERR_LAMEDUCK_OPS_INSPECTOR', `${method}: ${error.message}`))
        over()
        return resolve(result as T)
      })
    })
  }

  on<T>(event: string, listener: (params: T) => void): () => void {
    const hear = ({ params }: { params: T }) => listener(params)
    this.#session.on(event, hear as never)
    return () => void this.#session.off(event, hear as never)
  }

  disconnect(): void {
    if (this.#closed) return
    this.#closed = true
    leftAt = performance.now()
    this.#session.disconnect()
    for (const fail of [...this.#waiting]) fail(gone('the call'))
  }
}

const gone = (what: string) => new Problem(503, 'ERR_LAMEDUCK_OPS_CLOSED', `${what} came to a session that has ended`)
