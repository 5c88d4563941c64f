import { bytes, parseBytes, parseDuration } from './format.ts'
import { usage } from './failure.ts'

type Kind = 'count' | 'share' | 'time' | 'size' | 'text' | 'texts' | 'logs' | 'path or off'

/** An option of `lameduck run`: of `supervise()`, too, under its name; as a flag and as a variable. */
export interface RunOption {
  /** Of `supervise()` and in the configuration file. */
  name: string
  flag: string
  kind: Kind
  says: string
}

/** In the order of the help. */
export const RUN_OPTIONS: readonly RunOption[] = [
  { name: 'workers', flag: 'workers', kind: 'count', says: 'how many processes, 1 to 256 (default: as many as cores)' },
  { name: 'cwd', flag: 'cwd', kind: 'text', says: 'working folder of the workers; the script and --env-file are relative to it' },
  { name: 'envFile', flag: 'env-file', kind: 'text', says: 'NAME=value lines for the workers, read anew at each reload' },
  { name: 'execArgv', flag: 'node-option', kind: 'texts', says: 'an option of Node for the workers; may be repeated' },
  { name: 'logs', flag: 'logs', kind: 'logs', says: 'lines of workers: prefix, plain or json (default: prefix)' },
  { name: 'control', flag: 'control', kind: 'path or off', says: 'path of the control socket, or off' },
  { name: 'readyPath', flag: 'ready-path', kind: 'path or off', says: 'where to ask a worker whether it is ready, or off: listening is enough (default: where its wrap() answers)' },
  { name: 'readyMs', flag: 'ready', kind: 'time', says: 'how long a new worker must have been ready (default: 1s)' },
  { name: 'readyTimeoutMs', flag: 'ready-timeout', kind: 'time', says: 'how long it may take to get there (default: 60s)' },
  { name: 'deadlineMs', flag: 'deadline', kind: 'time', says: 'what a worker has to drain, unless its wrap() says less (default: 25s)' },
  { name: 'surge', flag: 'surge', kind: 'count', says: 'processes more than workers in a reload (default: 1)' },
  { name: 'canaryMs', flag: 'canary', kind: 'time', says: 'how long the first new worker serves alone (default: not at all)' },
  { name: 'canaryErrors', flag: 'canary-errors', kind: 'share', says: 'how much larger its share of 5xx may be, 0 to 1 (default: 0.05)' },
  { name: 'heartbeatMs', flag: 'heartbeat', kind: 'time', says: 'how often a worker gives a sign of life (default: 1s)' },
  { name: 'stuckMs', flag: 'stuck', kind: 'time', says: 'without one for so long it is replaced (default: 10s)' },
  { name: 'isolateMs', flag: 'isolate', kind: 'time', says: 'how long a worker may stay isolated (default: 15m)' },
  { name: 'crashLimit', flag: 'crash-limit', kind: 'count', says: 'so many crashes of a slot within --crash-window, or 5 starts in a row that never got ready, and it stays empty until a reload (default: 10)' },
  { name: 'crashWindowMs', flag: 'crash-window', kind: 'time', says: 'see --crash-limit (default: 60s)' },
  { name: 'maxRssBytes', flag: 'max-rss', kind: 'size', says: 'replace a worker over this resident set, as 512M' },
  { name: 'maxHeapBytes', flag: 'max-heap', kind: 'size', says: 'replace one over this used heap' },
  { name: 'maxAgeMs', flag: 'max-age', kind: 'time', says: 'replace one that is older, as 12h' },
  { name: 'maxRequests', flag: 'max-requests', kind: 'count', says: 'replace one that has answered more' },
  { name: 'jitter', flag: 'jitter', kind: 'share', says: 'how much earlier than at a limit, 0 to 1, drawn for each (default: 0.2)' },
]

/** What only a configuration file can say. */
export const FILE_ONLY: readonly string[] = ['script', 'args', 'env']

const VALUES: Record<Kind, { metavar: string; allowed: string; read(text: string): unknown }> = {
  count: { metavar: 'n', allowed: 'a whole number', read: text => /^-?\d+$/.test(text) ? Number(text) : undefined },
  share: { metavar: 'share', allowed: 'a number from 0 to 1', read: text => /^\d+(?:\.\d+)?$/.test(text) ? Number(text) : undefined },
  time: { metavar: 'time', allowed: 'a time such as 500ms, 30s, 10m, 2h', read: parseDuration },
  size: { metavar: 'size', allowed: `a size such as 300M (${bytes(300 * 2 ** 20)}) or 1.5G`, read: parseBytes },
  text: { metavar: 'path', allowed: 'a path', read: text => text === '' ? undefined : text },
  texts: { metavar: 'option', allowed: 'an option such as --max-old-space-size=300', read: text => text === '' ? undefined : [text] },
  logs: { metavar: 'style', allowed: 'prefix, plain or json', read: text => ['prefix', 'plain', 'json'].includes(text) ? text : undefined },
  'path or off': { metavar: 'path', allowed: 'a path, or off', read: text => text === 'off' ? false : text || undefined },
}

export const metavarOf = ({ kind }: RunOption): string => VALUES[kind].metavar

/** @param from As the user knows it: `--workers`, `LAMEDUCK_WORKERS`. */
export function readValue({ kind }: RunOption, text: string, from: string): unknown {
  const { read, allowed } = VALUES[kind]
  const value = read(text)
  if (value === undefined) throw usage(`${from} is '${text}'; allowed: ${allowed}`)
  return value
}

export const variableOf = ({ flag }: RunOption): string => `LAMEDUCK_${flag.toUpperCase().replaceAll('-', '_')}`

/** Of other commands, or told to a worker, which may start a supervisor of its own. */
const OTHERS = /^LAMEDUCK_(?:CONFIG|DEBUG|GENERATION|OPS_\w+|SLOT)$/

/** Kubernetes' own, in each pod beside a Service that is called lameduck, or lameduck-something. */
const INJECTED = /^LAMEDUCK_(?:\w+_)?(?:SERVICE_(?:HOST|PORT\w*)|PORT(?:_\d+_(?:TCP|UDP|SCTP)\w*)?)$/

/** Variables that are called as an option's would be, and are none's. */
export function strangers(env: Record<string, string | undefined>): string[] {
  const known = new Set(RUN_OPTIONS.map(variableOf))
  return Object.keys(env).filter(name => env[name] !== undefined && name.startsWith('LAMEDUCK_') && !known.has(name) && !OTHERS.test(name) && !INJECTED.test(name))
}

/** What the environment says. An empty variable says nothing. */
export function fromEnvironment(env: Record<string, string | undefined>): Record<string, unknown> {
  const given = RUN_OPTIONS.filter(option => env[variableOf(option)])
  return Object.fromEntries(given.map(option => {
    const text = env[variableOf(option)] as string
    // Several options of Node in one variable, as in NODE_OPTIONS.
    return [option.name, option.kind === 'texts' ? text.trim().split(/\s+/) : readValue(option, text, variableOf(option))]
  }))
}
