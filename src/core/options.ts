import type { IncomingMessage, ServerResponse } from 'node:http'
import { constants } from 'node:os'
import { inspect } from 'node:util'
import { LameduckError } from './errors.ts'

/** Decides about one request that arrives while the server is draining: true serves it, false answers 503. */
export type Admit = 'serve' | 'reject' | ((req: IncomingMessage) => boolean)

/** Answers a rejected request, or returns false to leave it to the default; may be asynchronous. */
export type Reject = (req: IncomingMessage, res: ServerResponse) => unknown

/** A readiness check. It fails when it throws, rejects, returns `false` or takes longer than `health.timeoutMs`. */
export type Check = (signal: AbortSignal) => unknown

/** What lameduck needs of a logger; `console`, pino and winston have it. */
export interface Logger {
  info(message: string): void
  warn(message: string): void
}

/** Where and how the health endpoints answer. */
export interface HealthOptions {
  /** Readiness checks by name, run on every probe (probes that overlap share one run). Default none. */
  checks?: Record<string, Check>
  /** Path of the liveness endpoint, or false for none. Default `/livez`. */
  live?: string | false
  /** Path of the readiness endpoint, or false for none. Default `/readyz`. */
  ready?: string | false
  /** How long one check may take, in milliseconds. Default 1 000. */
  timeoutMs?: number
}

/** Options of {@link wrap}. All durations are milliseconds on a monotonic clock. */
export interface Options {
  /** What becomes of requests that still arrive while draining: served, answered 503, or as a predicate says. Default `'serve'`. */
  admit?: Admit
  /**
   * Hard limit of the whole drain from `drain()`, hooks included. Default 25 000: under Kubernetes' 30 s, so that the report still gets out;
   * under a supervisor (`lameduck run`) that one's, and never more.
   */
  deadlineMs?: number
  /** Whether `uncaughtException` and `unhandledRejection` start a drain and then exit with 1. Default false. */
  drainOnCrash?: boolean
  /** Whether `text/event-stream` responses are ended, cleanly, as the draining begins: an EventSource then reconnects, elsewhere. Default true. */
  endEventStreams?: boolean
  /** Whether a drain that a signal started ends the process: 0 after a clean one, 1 after a forced one or a failed hook. Default true. */
  exit?: boolean
  /** How long a request head (or TLS handshake) that was half received when the draining began may still take. Default 1 000. */
  headMs?: number
  /** The health endpoints, or false for none. */
  health?: HealthOptions | false
  /**
   * How long to serve on, unready and answering `Connection: close`, before the listener closes. Ends early when no
   * connection is left; skipped on SIGINT. Default 2 000 (at most half of `deadlineMs`).
   */
  lameduckMs?: number
  /** After our FIN: how long to read on and discard until the peer's (RFC 9112 §9.6). Default 500. */
  lingerMs?: number
  /** Gets one readable line per phase and, while a drain goes on, one a second. Default none. */
  logger?: Logger
  /** While draining, an idle connection is closed as soon as nothing has happened on it for this long. Default 100. */
  quietMs?: number
  /**
   * Answers a rejected request; `Connection: close` is added in any case. Default, also for one for which this returns false:
   * 503 with `Retry-After` and a small JSON body.
   */
  reject?: Reject
  /** What `Retry-After` of a 503 says, rounded up to seconds. Default 1 000. */
  retryAfterMs?: number
  /** The signals that start a drain; a second one aborts it and exits at once. False leaves the process alone. Default SIGTERM and SIGINT. */
  signals?: readonly NodeJS.Signals[] | false
  /**
   * Over how long at most the goodbyes to WebSockets (and sockets with an owner, see `track`) are spread, evenly and with jitter, so
   * that their clients do not come back as one herd. A hundred a second is no herd, and the deadline holds: then it is less. Default 10 000.
   */
  spreadMs?: number
  /**
   * How long an upgraded socket may stay once draining: a WebSocket from its close frame on, one with an owner from the end
   * of its `close` (see `track`), any other (CONNECT) from the beginning. Default 5 000.
   */
  upgradedMs?: number
  /** The status code of the close frames: 1001 (going away), 1012 (service restart), or 3000 to 4999. Default 1001. */
  websocketCode?: number
}

/** Options with every default filled in. */
export type Settings = Required<Omit<Options, 'health' | 'logger' | 'reject'>> & {
  health: Required<HealthOptions> | false
  logger: Logger | undefined
  reject: Reject | undefined
  /** `deadlineMs`, if it was given. */
  ownDeadlineMs?: number | undefined
}

/** Every default there is, in one place. */
export const DEFAULTS = {
  admit: 'serve',
  deadlineMs: 25_000,
  drainOnCrash: false,
  endEventStreams: true,
  exit: true,
  headMs: 1_000,
  health: { checks: {}, live: '/livez', ready: '/readyz', timeoutMs: 1_000 },
  lameduckMs: 2_000,
  lingerMs: 500,
  logger: undefined,
  quietMs: 100,
  reject: undefined,
  retryAfterMs: 1_000,
  signals: ['SIGTERM', 'SIGINT'],
  spreadMs: 10_000,
  upgradedMs: 5_000,
  websocketCode: 1_001,
} as const satisfies Settings

/** The longest delay that Node's timers take: 2^31 - 1 ms, about 24.8 days. Anything above fires at once. */
export const LONGEST_MS = 2 ** 31 - 1

/** As much of a value as goes into a message. */
const MOST_SHOWN = 200

/** A socket or a server in full would hide the rest of it. */
function shown(value: unknown): string {
  const text = value instanceof Error ? String(value) : inspect(value, { depth: 0, breakLength: Infinity, compact: true, customInspect: false })
  return text.replaceAll(/\s*\n\s*/g, ' ').slice(0, MOST_SHOWN)
}

function refuse(name: string, value: unknown, allowed: string): never {
  throw new LameduckError('ERR_LAMEDUCK_OPTION', `${name} is ${shown(value)}; allowed: ${allowed}`)
}

/** @throws {LameduckError} `ERR_LAMEDUCK_OPTION` unless ok. */
export function check(name: string, value: unknown, ok: boolean, allowed: string): void {
  if (!ok) refuse(name, value, allowed)
}

/** Checks that a value is a duration in milliseconds. @throws {LameduckError} `ERR_LAMEDUCK_OPTION` */
export function checkDuration(name: string, value: unknown, most = LONGEST_MS): void {
  const ok = typeof value === 'number' && value >= 0 && value <= most
  check(name, value, ok, `milliseconds from 0 to ${most}`)
}

/** A lame duck must end before the deadline, or nothing would be left for the draining. */
function checkLameduck(lameduckMs: unknown, deadlineMs: number): void {
  checkDuration('options.lameduckMs', lameduckMs)
  check('options.lameduckMs', lameduckMs, lameduckMs === 0 || (lameduckMs as number) < deadlineMs, `less than deadlineMs, ${deadlineMs}`)
}

function checkFlag(name: string, value: unknown): void {
  check(name, value, typeof value === 'boolean', 'true or false')
}

function isRecord(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Checks that options are an object with no other keys than these. @throws {LameduckError} `ERR_LAMEDUCK_OPTION` */
export function checkKeys(name: string, value: unknown, known: object): void {
  check(name, value, isRecord(value), 'an object')
  for (const key of Object.keys(value as object)) {
    if (!Object.hasOwn(known, key)) {
      const text = shown((value as Record<string, unknown>)[key])
      const allowed = Object.keys(known).join(', ')
      throw new LameduckError('ERR_LAMEDUCK_OPTION', `${name}.${key} (${text}) is no option; allowed: ${allowed}`)
    }
  }
}

/** Without the keys whose value is undefined: `{ quietMs: undefined }` means the default. */
function given<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T
}

function checkHealth(health: HealthOptions): Required<HealthOptions> {
  check('options.health', health, isRecord(health), 'an object, or false')
  checkKeys('options.health', health, DEFAULTS.health)
  const all = { ...DEFAULTS.health, ...given(health) }
  for (const name of ['live', 'ready'] as const) {
    const path = all[name]
    const ok = path === false || (typeof path === 'string' && /^\/[^?#\s]*$/.test(path))
    check(`options.health.${name}`, path, ok, 'a path that begins with "/" and has no query, or false')
  }
  if (all.live !== false) check('options.health.live', all.live, all.live !== all.ready, 'another path than health.ready')
  checkDuration('options.health.timeoutMs', all.timeoutMs)
  check('options.health.checks', all.checks, isRecord(all.checks), 'an object of functions')
  for (const [name, run] of Object.entries(all.checks)) {
    check(`options.health.checks.${name}`, run, typeof run === 'function', 'a function')
  }
  return all
}

function checkSignals(signals: unknown): void {
  const allowed = 'an array of signal names such as "SIGTERM", or false'
  check('options.signals', signals, signals === false || Array.isArray(signals), allowed)
  // SIGKILL and SIGSTOP cannot be caught: process.on() throws for them, much later.
  const catchable = (name: unknown) => typeof name === 'string' && /^SIG(?!KILL$|STOP$)/.test(name) && name in constants.signals
  if (signals) for (const name of signals as unknown[]) check('options.signals', name, catchable(name), allowed)
}

/** RFC 6455 §7.4: the others of the range below 3000 say something else, or may not be sent at all. */
function checkCode(code: unknown): void {
  const ok = code === 1_001 || code === 1_012 || (Number.isInteger(code) && (code as number) >= 3_000 && (code as number) <= 4_999)
  check('options.websocketCode', code, ok, '1001, 1012, or an integer from 3000 to 4999')
}

function checkLogger(logger: Logger | undefined): void {
  const ok = logger === undefined || (typeof logger?.info === 'function' && typeof logger?.warn === 'function')
  check('options.logger', logger, ok, 'an object with info() and warn(), such as console')
}

/**
 * Checks the options of `wrap` and fills in the defaults.
 *
 * @throws {LameduckError} `ERR_LAMEDUCK_OPTION`, naming the option, its value and what is allowed.
 */
export function settle(options: Options = {}): Settings {
  checkKeys('options', options, DEFAULTS)
  const own = given(options)
  const all: Settings = { ...DEFAULTS, ...own, health: own.health === false ? false : checkHealth(own.health === undefined ? {} : own.health) }
  check('options.admit', all.admit, ['serve', 'reject'].includes(all.admit as string) || typeof all.admit === 'function',
    '"serve", "reject" or a function')
  checkFlag('options.drainOnCrash', all.drainOnCrash)
  checkFlag('options.endEventStreams', all.endEventStreams)
  checkFlag('options.exit', all.exit)
  checkLogger(all.logger)
  check('options.reject', all.reject, all.reject === undefined || typeof all.reject === 'function', 'a function')
  checkSignals(all.signals)
  checkDuration('options.deadlineMs', all.deadlineMs)
  for (const name of ['headMs', 'lingerMs', 'retryAfterMs', 'spreadMs', 'upgradedMs'] as const) checkDuration(`options.${name}`, all[name])
  checkCode(all.websocketCode)
  checkDuration('options.quietMs', all.quietMs, own.quietMs === undefined ? LONGEST_MS : all.deadlineMs)
  return { ...all, lameduckMs: lameduckOf(own.lameduckMs, all), ownDeadlineMs: own.deadlineMs }
}

/** The length of a lame duck. A short deadline alone must not make the default that it undercuts an error: then it is half of that. */
function lameduckOf(own: number | undefined, { lameduckMs, deadlineMs }: { lameduckMs: number; deadlineMs: number }): number {
  if (own === undefined) return Math.min(lameduckMs, deadlineMs / 2)
  checkLameduck(own, deadlineMs)
  return own
}

/** What a single drain may do differently from the options of `wrap`. */
export interface DrainOptions {
  /** Hard limit in milliseconds from this call, hooks included. Default: the option `deadlineMs`, and under a supervisor at most its own. */
  deadlineMs?: number
  /** Length of the lame duck in milliseconds. */
  lameduckMs?: number
  /** Goes into the report and the log. Default `drain()`. */
  reason?: string
}

/** Options of {@link Duck.quiet}. */
export interface QuietOptions {
  /** How long to wait for the connections to end, in milliseconds. Default: the option `deadlineMs`. */
  timeoutMs?: number
}

/** The `deadlineMs` of this process's supervisor, which takes the place of the default. Whoever began the drain: at its end the process is killed. */
const SUPERVISED = Symbol.for('lameduck.supervisedDeadlineMs')

/** How one drain is to go. @throws {LameduckError} `ERR_LAMEDUCK_OPTION` */
export function plan(options: DrainOptions, settings: Settings): Required<DrainOptions> {
  checkKeys('options', options, { deadlineMs: 0, lameduckMs: 0, reason: '' })
  const supervised = (globalThis as { [SUPERVISED]?: number })[SUPERVISED]
  const { deadlineMs = Math.min(settings.ownDeadlineMs ?? Infinity, supervised ?? settings.deadlineMs), reason = 'drain()' } = options
  checkDuration('options.deadlineMs', deadlineMs)
  check('options.reason', reason, typeof reason === 'string', 'a string')
  // With no less time than the options left there is no reason to shorten it.
  const own = options.lameduckMs ?? (deadlineMs >= settings.deadlineMs ? settings.lameduckMs : undefined)
  return { deadlineMs, reason, lameduckMs: lameduckOf(own, { lameduckMs: settings.lameduckMs, deadlineMs }) }
}
