import { availableParallelism } from 'node:os'
import type { Writable } from 'node:stream'
import { inspect } from 'node:util'
import type { Logger } from '../core/options.ts'
import { ClusterError } from './errors.ts'

/** More than any machine has cores: a number above it is a mistake. */
const MOST_WORKERS = 256

/** The longest delay that Node's timers take. */
const LONGEST_MS = 2 ** 31 - 1

/** A process that has its deadline behind it is killed so long after it. */
export const LAST_MS = 2_000

/** Options of {@link supervise}. Durations are milliseconds. */
export interface SuperviseOptions {
  /** Arguments of the script. Default none. */
  args?: readonly string[]
  /**
   * How much larger the share of responses with status 5xx of the first new worker may be than that of the old ones in the
   * same time, from 0 to 1; looked at from 20 responses on. Default 0.05.
   */
  canaryErrors?: number
  /** How long the first worker of a new release serves as the only one of it, before the others follow. Default 0: not at all. */
  canaryMs?: number
  /**
   * Path of the control socket (mode 0600), or false for none. Default: see `defaultControlPath()`, a file of its own for each
   * script and process in a folder of mode 0700 in `$XDG_RUNTIME_DIR` or the folder for temporary files.
   */
  control?: string | false
  /** So many crashes of one slot within `crashWindowMs` are a crash loop; so are 5 starts in a row that never got ready. Default 10. */
  crashLimit?: number
  /** Default 60 000. */
  crashWindowMs?: number
  /** Working folder of the workers; resolved anew at each reload, symlinks included. Default that of the supervisor. */
  cwd?: string
  /**
   * What a worker has to drain, from the message on: it takes the place of the default of `wrap()`, and what `wrap()` was given holds
   * as far as it is less. A worker that is still there gets SIGTERM 1 s later, and SIGKILL 2 s later. Default 25 000:
   * under Kubernetes' 30 s, so that it can say what it cut.
   */
  deadlineMs?: number
  /** Variables for the workers beside those of the supervisor; a function is asked anew at each reload. `undefined` removes one. */
  env?: Env | (() => Env)
  /** A file of `NAME=value` lines, read anew at each reload. `env` wins over it. */
  envFile?: string
  /** Options of Node for the workers. Default those of the supervisor. */
  execArgv?: readonly string[]
  /** Whether the process ends when a signal has stopped everything: 0 clean, 1 forced or given up, 128 + n for a second signal. Default true. */
  exit?: boolean
  /** How often a worker gives a sign of life. Default 1 000. */
  heartbeatMs?: number
  /** How long a worker may stay isolated; then it is retired. Default 900 000 (15 minutes). */
  isolateMs?: number
  /** How much earlier than at its limit a worker may be recycled, as a share; drawn for each, so that they do not go together. Default 0.2. */
  jitter?: number
  /** Gets one line for what happens to each worker. Default none. */
  logger?: Logger
  /** How the lines of workers come out: with the slot before them, as they are, or as JSON. Default `'prefix'`. */
  logs?: 'prefix' | 'plain' | 'json'
  /** A worker is replaced when it is older, … Default never. */
  maxAgeMs?: number
  /** … has more bytes of used heap in three signs of life in a row, … */
  maxHeapBytes?: number
  /** … has answered more requests, … */
  maxRequests?: number
  /** … or a larger resident set in three signs of life in a row. */
  maxRssBytes?: number
  /** How long a new worker must have been ready without interruption. Default 1 000. */
  readyMs?: number
  /** Where to ask a wrapped server whether it is ready; or false: listening is enough. Default where its `wrap()` answers that, else `/readyz`. Any answer but 503 is a yes. */
  readyPath?: string | false
  /** How long a new worker may take until it is ready. Default 60 000. */
  readyTimeoutMs?: number
  /** The program of the workers, an ES module or CommonJS; relative to `cwd`. Resolved anew at each reload, symlinks included. */
  script: string
  /** Whether SIGTERM and SIGINT stop everything and SIGHUP reloads. Default true. */
  signals?: boolean
  /** Where the workers' lines go. Default that of the process. */
  stderr?: Writable
  stdout?: Writable
  /** Without a sign of life for so long a worker is stuck, and replaced. At least two heartbeats. Default 10 000. */
  stuckMs?: number
  /** How many processes more than `workers` there may be in a reload, draining ones included; a rollback does not wait for those. Default 1. */
  surge?: number
  /** How many, from 1 to 256. Default as many as there are cores. */
  workers?: number
}

/** Variables of a process. */
export type Env = Record<string, string | undefined>

/** Options with every default filled in. */
export type Settings = Required<Omit<SuperviseOptions, 'control' | 'cwd' | 'envFile' | 'logger' | 'readyPath'>> &
  Pick<SuperviseOptions, 'control' | 'cwd' | 'envFile' | 'logger' | 'readyPath'>

/** Every default there is, but those that ask the process. */
export const DEFAULTS = {
  args: [],
  canaryErrors: 0.05,
  canaryMs: 0,
  crashLimit: 10,
  crashWindowMs: 60_000,
  deadlineMs: 25_000,
  env: {},
  exit: true,
  heartbeatMs: 1_000,
  isolateMs: 900_000,
  jitter: 0.2,
  logs: 'prefix',
  maxAgeMs: Infinity,
  maxHeapBytes: Infinity,
  maxRequests: Infinity,
  maxRssBytes: Infinity,
  readyMs: 1_000,
  readyTimeoutMs: 60_000,
  signals: true,
  stuckMs: 10_000,
  surge: 1,
} as const satisfies Partial<Settings>

function check(name: string, value: unknown, ok: boolean, allowed: string): void {
  if (!ok) throw new ClusterError('ERR_LAMEDUCK_CLUSTER_OPTION', `options.${name} is ${inspect(value, { depth: 0 })}; allowed: ${allowed}`)
}

const isText = (value: unknown) => typeof value === 'string' && value !== '' && !value.includes('\0')
const isRecord = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value)
const isTexts = (value: unknown) => Array.isArray(value) && value.every(item => typeof item === 'string')
const between = (value: unknown, least: number, most: number) => typeof value === 'number' && value >= least && value <= most
const isWhole = (value: unknown, least: number, most: number) => Number.isInteger(value) && between(value, least, most)

/** @throws {ClusterError} `ERR_LAMEDUCK_CLUSTER_OPTION` unless this is a number of workers. */
export function checkWorkers(value: unknown): asserts value is number {
  check('workers', value, isWhole(value, 1, MOST_WORKERS), `a whole number from 1 to ${MOST_WORKERS}`)
}

const OPTIONAL = ['control', 'cwd', 'envFile', 'execArgv', 'logger', 'readyPath', 'script', 'stderr', 'stdout', 'workers']

function checkKeys(options: unknown): void {
  if (!isRecord(options)) throw new ClusterError('ERR_LAMEDUCK_CLUSTER_OPTION', 'options must be an object with a script')
  const known = [...Object.keys(DEFAULTS), ...OPTIONAL]
  for (const key of Object.keys(options as object)) {
    if (known.includes(key)) continue
    throw new ClusterError('ERR_LAMEDUCK_CLUSTER_OPTION', `options.${key} is no option; allowed: ${known.sort().join(', ')}`)
  }
}

function checkNumbers(all: Settings): void {
  for (const name of ['canaryMs', 'readyMs', 'deadlineMs', 'isolateMs'] as const) {
    check(name, all[name], between(all[name], 0, LONGEST_MS), `milliseconds from 0 to ${LONGEST_MS}`)
  }
  for (const name of ['crashWindowMs', 'readyTimeoutMs'] as const) {
    check(name, all[name], between(all[name], 1, LONGEST_MS), `milliseconds from 1 to ${LONGEST_MS}`)
  }
  check('heartbeatMs', all.heartbeatMs, between(all.heartbeatMs, 10, 60_000), 'milliseconds from 10 to 60000')
  check('stuckMs', all.stuckMs, between(all.stuckMs, 2 * all.heartbeatMs, LONGEST_MS), 'milliseconds, at least two heartbeats')
  for (const name of ['maxAgeMs', 'maxHeapBytes', 'maxRequests', 'maxRssBytes'] as const) {
    check(name, all[name], between(all[name], 1, Infinity), 'a number above 0')
  }
  for (const name of ['canaryErrors', 'jitter'] as const) check(name, all[name], between(all[name], 0, 1), 'a number from 0 to 1')
  check('crashLimit', all.crashLimit, isWhole(all.crashLimit, 1, 1_000_000), 'a whole number from 1 to 1000000')
  check('surge', all.surge, isWhole(all.surge, 1, MOST_WORKERS), `a whole number from 1 to ${MOST_WORKERS}`)
}

function checkOthers(all: Settings): void {
  check('script', all.script, isText(all.script), 'the path of a program')
  checkWorkers(all.workers)
  for (const name of ['cwd', 'envFile'] as const) check(name, all[name], all[name] === undefined || isText(all[name]), 'a path')
  check('control', all.control, all.control === undefined || all.control === false || isText(all.control), 'a path, or false')
  for (const name of ['args', 'execArgv'] as const) check(name, all[name], isTexts(all[name]), 'an array of strings')
  for (const name of ['exit', 'signals'] as const) check(name, all[name], typeof all[name] === 'boolean', 'true or false')
  check('env', all.env, isRecord(all.env) || typeof all.env === 'function', 'an object of strings, or a function that gives one')
  check('logs', all.logs, ['prefix', 'plain', 'json'].includes(all.logs), '"prefix", "plain" or "json"')
  const path = all.readyPath
  check('readyPath', path, path === undefined || path === false || (isText(path) && path.startsWith('/')), 'a path that begins with "/", or false')
  const { logger } = all
  check('logger', logger, logger === undefined || (typeof logger?.info === 'function' && typeof logger.warn === 'function'),
    'an object with info() and warn(), such as console')
}

/** What makes Node run something else than the script. */
const OTHERS = ['-e', '--eval', '-p', '--print', '-pe']

/** The options of Node that this process was started with, as far as they are for its workers as well. */
function inherited(): string[] {
  return process.execArgv.filter((option, index, all) => !OTHERS.includes(option) && !OTHERS.includes(all[index - 1] ?? '') && option !== '--watch')
}

/**
 * Checks the options and fills in the defaults.
 *
 * @throws {ClusterError} `ERR_LAMEDUCK_CLUSTER_OPTION`, naming the option, its value and what is allowed.
 */
export function settle(options: SuperviseOptions): Settings {
  checkKeys(options)
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as unknown as SuperviseOptions
  const { stdout, stderr } = process
  // Short signs of life make for a short patience, and a long interval for a long one, unless told otherwise.
  const stuckMs = Math.max(DEFAULTS.stuckMs, 3 * (given.heartbeatMs ?? 0))
  const all: Settings = { ...DEFAULTS, stuckMs, stdout, stderr, execArgv: inherited(), workers: availableParallelism(), ...given }
  checkNumbers(all)
  checkOthers(all)
  // What comes after it is to have a time as well.
  return { ...all, deadlineMs: Math.min(all.deadlineMs, LONGEST_MS - LAST_MS) }
}
