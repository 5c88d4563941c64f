import { validateHeaderName, validateHeaderValue } from 'node:http'
import { intercept } from '../core/intercept.ts'
import { check, settle } from '../core/options.ts'
import { checkServer } from '../core/wrappable.ts'
import { deadlineOf, quietDuck } from './drop-in.ts'
import { HealthChecks, type HealthCheckMap, type TerminusState } from './terminus-health.ts'
import { Shutdown } from './terminus-shutdown.ts'

export { HealthCheckError, type HealthCheck, type HealthCheckMap, type TerminusState } from './terminus-health.ts'

/** What is called in a shutdown, and waited for. */
// oxlint-disable-next-line typescript/no-explicit-any -- the original has Promise<any>; a hook need not be asynchronous
type TerminusHook = () => any

/** Options of {@link createTerminus}: those of @godaddy/terminus, and `hookTimeout`. */
export interface TerminusOptions {
  /** Called, and waited for, before the server stops accepting: it is out of rotation and serves on meanwhile. */
  beforeShutdown?: TerminusHook
  /** Whether the paths of the health checks are compared without regard to case. Default false. */
  caseInsensitive?: boolean
  /** Headers of the health responses. */
  headers?: Record<string, string>
  /** The health checks by path, and how they answer. */
  healthChecks?: HealthCheckMap
  /**
   * How long each of beforeShutdown, onSignal and onShutdown may take, in milliseconds. Default 300 000: longer than any
   * beforeShutdown that waits on purpose. A second signal, a second or more after the first, ends the waiting too.
   */
  hookTimeout?: number
  /** Gets what went wrong: a message and the error. */
  logger?: (message: string, error: Error) => void
  /** Called before a health check is answered with a failure during the shutdown. */
  onSendFailureDuringShutdown?: TerminusHook
  /** Called last, before the process ends. */
  onShutdown?: TerminusHook
  /** Called when the last connection has ended: closes databases and the like. */
  onSignal?: TerminusHook
  /** @deprecated The old name of onSignal. */
  onSigterm?: TerminusHook
  /** Whether health checks fail during the shutdown without being asked. Default true. */
  sendFailuresDuringShutdown?: boolean
  /** The signal that starts the shutdown. Default SIGTERM. */
  signal?: string
  /** More such signals. */
  signals?: readonly string[]
  /** Status code of a health check that fails. Default 503. */
  statusError?: number
  /** Body of a health check that fails. Default `{ status: 'error' }`. */
  statusErrorResponse?: Record<string, unknown>
  /** Status code of a health check that succeeds. Default 200. */
  statusOk?: number
  /** Body of a health check that succeeds. Default `{ status: 'ok' }`. */
  statusOkResponse?: Record<string, unknown>
  /** Milliseconds until the connections that are left are destroyed. Default 1 000. */
  timeout?: number
  /** Whether the process exits with 0 instead of ending by the signal that it got. Default false. */
  useExit0?: boolean
}

export type Terminus = <T>(server: T, options?: TerminusOptions) => T

/** Every default there is, in one place. */
const DEFAULTS = {
  caseInsensitive: false,
  headers: {},
  healthChecks: {},
  hookTimeout: 300_000,
  logger: () => {},
  sendFailuresDuringShutdown: true,
  signal: 'SIGTERM',
  signals: [],
  statusError: 503,
  statusErrorResponse: { status: 'error' },
  statusOk: 200,
  statusOkResponse: { status: 'ok' },
  timeout: 1_000,
  useExit0: false,
} as const satisfies TerminusOptions

const FUNCTIONS = ['beforeShutdown', 'logger', 'onSendFailureDuringShutdown', 'onShutdown', 'onSignal', 'onSigterm'] as const

/** Whether this goes through without an exception. */
function passes(attempt: () => unknown): boolean {
  try {
    attempt()
    return true
  } catch {
    return false
  }
}

function checkHeader(name: string, value: string): void {
  const ok = passes(() => {
    validateHeaderName(name)
    validateHeaderValue(name, value)
  })
  check(`options.headers.${name}`, value, ok, 'a header that HTTP can carry')
}

function checkOptions(options: TerminusOptions): void {
  const isObject = (value: unknown) => typeof value === 'object' && value !== null
  check('options', options, isObject(options), 'an object')
  const { headers = {}, healthChecks = {} } = options
  for (const name of FUNCTIONS) check(`options.${name}`, options[name], ['function', 'undefined'].includes(typeof options[name]), 'a function')
  for (const [name, value] of Object.entries({ headers, healthChecks })) check(`options.${name}`, value, isObject(value), 'an object')
  for (const [name, value] of Object.entries(headers)) checkHeader(name, value)
  for (const name of ['statusErrorResponse', 'statusOkResponse'] as const) {
    const { [name]: value = {} } = options
    check(`options.${name}`, value, isObject(value) && passes(() => JSON.stringify(value)), 'an object that JSON can say')
  }
  for (const name of ['statusError', 'statusOk'] as const) {
    const { [name]: status = DEFAULTS[name] } = options
    check(`options.${name}`, status, Number.isInteger(status) && status >= 200 && status <= 599, 'a status code from 200 to 599')
  }
  for (const [path, run] of Object.entries(healthChecks)) {
    const ok = typeof run === 'function' || !run || path === 'verbatim' || path === '__unsafeExposeStackTraces'
    check(`options.healthChecks.${path}`, run, ok, 'a function')
  }
}

/** The signals, each once. @throws {LameduckError} `ERR_LAMEDUCK_OPTION` for one that cannot be caught. */
function signalsOf({ signal, signals }: { signal: string; signals: readonly string[] }): NodeJS.Signals[] {
  check('options.signals', signals, Array.isArray(signals), 'an array of signal names such as "SIGTERM"')
  const all = [...new Set([...signals, signal])] as NodeJS.Signals[]
  settle({ signals: all })
  return all
}

/**
 * Health checks, and a shutdown in which no request is lost, as the package @godaddy/terminus has them: on a signal the
 * server is out of rotation while `beforeShutdown` runs, then stops; when its last connection has ended, `onSignal` and
 * `onShutdown` run, and the process ends by that same signal (or with 0). What fails on the way is logged, stops nothing, and
 * makes the exit code 1.
 *
 * @returns The same server.
 * @throws {LameduckError} `ERR_LAMEDUCK_SERVER`, or `ERR_LAMEDUCK_OPTION` for an option that cannot be meant.
 */
export const createTerminus: Terminus = (server, options = {}) => {
  const wrappable: unknown = server
  checkServer(wrappable)
  checkOptions(options)
  // Without what is undefined: that means the default.
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as TerminusOptions
  const all = { ...DEFAULTS, ...given }
  const signals = signalsOf(all)
  const limits = { hooksMs: deadlineOf('options.hookTimeout', all.hookTimeout), deadlineMs: deadlineOf('options.timeout', all.timeout) }
  const state: TerminusState = { isShuttingDown: false }
  const log = (message: string, error: unknown) => {
    try {
      all.logger(message, error as Error)
    } catch (failure) {
      process.emitWarning(failure instanceof Error ? failure : String(failure))
    }
  }
  const health = new HealthChecks(all, state, log)
  // Before the wrap, so that a health check is a request in flight like any other.
  if (!health.empty) intercept(wrappable, (event, req, res) => event === 'request' && health.answer(req, res))
  const { beforeShutdown, onSignal = all.onSigterm, onShutdown, useExit0 } = all
  const duck = quietDuck(wrappable, given.timeout === undefined ? undefined : limits.deadlineMs)
  new Shutdown(duck, state, { ...limits, signals, beforeShutdown, onSignal, onShutdown, useExit0, log }).listen()
  return server
}
