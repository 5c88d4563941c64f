import { AuditFile } from './audit-file.ts'
import type { Audit, AuditEntry } from './audit.ts'
import { printable } from '../../core/printable.ts'

/** How many entries `recent()` has. */
const RECENT = 500

/** A line that has to wait longer has not been written. */
const WRITE_MS = 2_000

/** Lines that may wait for a disk that hangs. */
const MOST_WAITING = 1_000

/** So that no line is longer than an atomic append on a local disk may be expected to be, and no note fills the disk. */
const LONGEST_LINE = 8_192

export interface TrailOptions {
  /** False: it only goes to `onEntry`. */
  file: string | false
  /** Whether its folder is the one of lameduck's own: private then, as that of a unix socket. Default false: somebody chose it. */
  isOurs?: boolean
  /** Hears every entry, written or not. What it throws is dropped. */
  onEntry?: (entry: AuditEntry) => void
  /** Hears, at most once a minute, that the file cannot be written. */
  log?: (message: string) => void
  /** Of the file, after which it becomes `….1` and a new one begins. Default 16 MiB. */
  maxBytes?: number
}

/** Makes control characters visible in all that a client may have had a hand in, and keeps what is too long short. */
function clean(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return printable(value)
  if (typeof value !== 'object' || value === null) return typeof value === 'bigint' ? Number(value) : value
  if (depth > 4) return '…'
  if (Array.isArray(value)) return value.slice(0, 100).map(one => clean(one, depth + 1))
  return Object.fromEntries(Object.entries(value).slice(0, 100).map(([name, one]) => [printable(name), clean(one, depth + 1)]))
}

/** One line of JSON. */
function lineOf(entry: AuditEntry): string {
  const line = (of: object) => `${JSON.stringify({ ...of, pid: process.pid })}\n`
  const whole = line(entry)
  if (Buffer.byteLength(whole) <= LONGEST_LINE) return whole
  const { time, event, call, who, from, method, path, status, code, bytes, durationMs } = entry
  return line({ time, event, call, who, from, method, path, status, code, bytes, durationMs, shortened: true })
}

function within(ms: number, promise: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not written within ${ms} ms`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** Opens the audit trail: JSON lines in a private file, the last entries in memory. */
export function createAudit({ file, isOurs = false, onEntry, log, maxBytes = 16 * 2 ** 20 }: TrailOptions): Audit {
  const recent: AuditEntry[] = []
  const to = file === false ? undefined : new AuditFile(file, maxBytes, isOurs)
  let last: Promise<void> = Promise.resolve()
  let waiting = 0
  let toldAt = -Infinity

  /** One after the other: the order of the lines is the order of the events. */
  const append = (line: string): Promise<void> => {
    if (!to) return Promise.resolve()
    if (waiting >= MOST_WAITING) return Promise.reject(new Error(`${waiting} lines wait already`))
    waiting++
    const written = last.then(() => to.append(line)).finally(() => waiting--)
    last = written.catch(() => {})
    return within(WRITE_MS, written)
  }

  return {
    async write(fields) {
      const entry = clean({ time: new Date().toISOString(), ...fields }) as AuditEntry
      recent.push(entry)
      if (recent.length > RECENT) recent.shift()
      try {
        onEntry?.(entry)
      } catch {
        // A listener's fault is no reason to refuse a call.
      }
      try {
        await append(lineOf(entry))
      } catch (error) {
        if (performance.now() - toldAt > 60_000) {
          toldAt = performance.now()
          log?.(`the audit trail cannot be written: ${printable((error as Error).message)}`)
        }
        throw error
      }
    },
    recent: () => [...recent],
    async close() {
      await within(WRITE_MS, last).catch(() => {})
      await to?.close()
    },
  }
}
