import { randomBytes } from 'node:crypto'
import { Problem } from '../http/problem.ts'
import type { Call } from '../http/route.ts'
import type { GcLog, Logged } from './log.ts'

const HEARTBEAT_MS = 15_000
/** The door has 16 connections: streams must not take them all. */
const MOST = 8
/** What a slow reader may leave unread: about 60 events. */
const BEHIND_BYTES = 64 * 1024

/** The readers of `/gc/stream`. */
export class GcStreams {
  #log: GcLog
  #heartbeatMs: number
  /** A log's numbers begin anew when the endpoint's worker was restarted: an id from before it is no place to go on from. */
  #epoch = randomBytes(4).toString('hex')
  #ends = new Set<() => void>()

  constructor(log: GcLog, heartbeatMs = HEARTBEAT_MS) {
    this.#log = log
    this.#heartbeatMs = heartbeatMs
  }

  /** Writes events until the reader goes, falls behind, or the endpoint closes. Resolves then. */
  serve({ req, res, signal }: Call): Promise<undefined> {
    if (this.#ends.size >= MOST) throw new Problem(429, 'ERR_LAMEDUCK_OPS_STREAMS', `${MOST} streams are open already`, { retryAfterMs: this.#heartbeatMs })
    return new Promise(resolve => {
      res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' })
      const write = (text: string) => {
        // A reader that does not read keeps an ended response open for a while.
        if (res.writableEnded) return
        res.write(text)
        // It would fill this thread's memory; with `Last-Event-ID` it comes back to where it was.
        if (res.writableLength > BEHIND_BYTES) res.destroy()
      }
      const stop = this.#log.onLogged(major => write(this.#event(major)))
      const heartbeat = setInterval(write, this.#heartbeatMs, ': still here\n\n').unref()
      const end = () => void res.end()
      const over = () => {
        stop()
        clearInterval(heartbeat)
        this.#ends.delete(end)
        signal.removeEventListener('abort', end)
        resolve(undefined)
      }
      this.#ends.add(end)
      res.once('close', over)
      signal.addEventListener('abort', end, { once: true })
      write(': one event for each major GC\n\n')
      for (const major of this.#missed(req.headers['last-event-id'])) write(this.#event(major))
      if (signal.aborted) end()
    })
  }

  close(): void {
    for (const end of [...this.#ends]) end()
  }

  #event(major: Logged): string {
    return `id: ${this.#epoch}-${major.id}\nevent: gc\ndata: ${JSON.stringify(major)}\n\n`
  }

  #missed(id: string | string[] | undefined): Logged[] {
    if (typeof id !== 'string') return []
    const [epoch, number] = id.split('-')
    return this.#log.majors(epoch === this.#epoch ? Number(number) || 0 : 0)
  }
}
