// A reporter of node:test that sends each scenario's outcome to the parent process.
import type { Autopsy } from './_scenario.ts'

/** `ok`, `–` (cannot be asked for), or what went wrong first. */
export type Verdict = string

export interface Outcome {
  name: string
  verdict: Verdict
  message: string
  ms: number
}

export interface Failure {
  message: string
  code?: string
  actual?: unknown
  expected?: unknown
  operator?: string
  autopsy?: Autopsy
}

interface TestEvent {
  type: string
  data: {
    name: string
    skip?: string | boolean
    details: { duration_ms: number, type?: string, error?: Error & { failureType?: string, cause?: Failure } }
  }
}

const isStatus = (value: unknown): value is number => typeof value === 'number' && value >= 100 && value < 600

/** The assertions of the suite by their messages, in words of the table. */
const messages: [RegExp, Verdict][] = [
  [/no (an answer|a 1xx|\d+ bytes) within|the drain did not end|timed out/, 'hang'],
  [/no the end of listening|still listening/, 'listens on'],
  [/no the end of the connection within/, 'stays open'],
  [/no GOAWAY/, 'no GOAWAY'],
  [/said close/, 'early close'],
  [/executed and never answered/, 'ghost'],
  [/no the execution within/, 'lost'],
  [/connections reset|ECONNRESET|EPIPE/, 'RST'],
  [/ECONNREFUSED|ENOENT/, 'refused'],
  [/executed twice/, 'twice'],
]

/** What the first failed assertion of a scenario means for a client. */
export function verdict({ message, code, actual, expected, operator, autopsy }: Failure): Verdict {
  const { ghosts = [], lost = [], cut = false, resets = 0, staying = 0, listenedMs = 0 } = autopsy ?? {}
  // What was in flight did not outlast that.
  if (listenedMs > 4_000) return 'listens on'
  const ended = /the connection ended \((\w+)\) without an answer/.exec(message)
  if (ended) return cut ? 'cut' : ghosts.length > 0 ? 'ghost' : ended[1] === 'fin' ? 'lost' : 'RST'
  if (/^connection of \d/.test(message)) return staying > 0 ? 'stays open' : 'no close'
  if (/sent and never answered/.test(message)) return ghosts.length > 0 ? 'ghost' : 'lost'
  const known = messages.find(([pattern]) => pattern.test(`${code} ${message}`))
  if (known) return known[1]
  if (actual === 'reset') return 'RST'
  if (isStatus(actual) && isStatus(expected)) return String(actual)
  if (Array.isArray(expected) && expected.length > 0 && expected.every(isStatus)) return 'lost'
  const took = /settled after ([\d.]+) ms/.exec(message)
  if (took) return Number(took[1]) < 300 ? 'early' : 'late'
  if (ghosts.length > 0) return 'ghost'
  if (cut || (typeof actual === 'string' && typeof expected === 'string' && expected.startsWith(actual))) return 'cut'
  if (resets > 0) return 'RST'
  if (lost.length > 0) return 'lost'
  // Those that say nothing are about time: tsx and Node do not agree on where the expression is.
  return operator === '==' ? 'late' : 'wrong'
}

function outcome({ type, data: { name, skip, details } }: TestEvent): Outcome {
  const { error, duration_ms: ms } = details
  const all = { name, ms: Math.round(ms) }
  if (skip !== undefined && skip !== false) return { ...all, verdict: '–', message: String(skip) }
  if (type === 'test:pass') return { ...all, verdict: 'ok', message: '' }
  const cause = error?.cause ?? error
  const message = cause?.message ?? 'failed without an error'
  if (error?.failureType === 'testTimeoutFailure') return { ...all, verdict: 'hang', message }
  if (error?.failureType === 'uncaughtException') return { ...all, verdict: 'crash', message }
  return { ...all, verdict: verdict({ ...(cause as Failure), message }), message }
}

export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of events) {
    if (!/^test:(pass|fail)$/.test(event.type) || event.data.details.type === 'suite') continue
    process.send?.(outcome(event))
    yield '.'
  }
}
