import { readFileSync } from 'node:fs'
import { BlockList, isIP } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createSecureContext } from 'node:tls'
import { LameduckError } from '../core/index.ts'
import { check, checkDuration, checkKeys } from '../core/options.ts'
import { DEFAULTS, type LimitOptions, type Listen, type OpsOptions, type Settings } from './options.ts'
import { refusal } from './refusal.ts'
import { Secrets, settleAuth } from './settle-auth.ts'

/** `sun_path` of the kernel, less its NUL: Linux 108, the BSDs and macOS 104 bytes. */
const LONGEST_SOCKET_PATH = process.platform === 'linux' ? 107 : 103

/** What the socket is called while it is being made, see `http/unix-socket.ts`: it must fit, too. */
const DRAFT_NAME_BYTES = 9

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8)
loopback.addAddress('::1', 'ipv6')

/** Whether an address can only be reached from this machine. A name other than localhost is none: who knows what it resolves to. */
export function isLoopback(host: string): boolean {
  const family = isIP(host)
  return host === 'localhost' || (family !== 0 && loopback.check(host, family === 6 ? 'ipv6' : 'ipv4'))
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

function checkInteger(name: string, value: unknown, least: number, most: number): void {
  const ok = Number.isInteger(value) && (value as number) >= least && (value as number) <= most
  check(name, value, ok, `an integer from ${least} to ${most}`)
}

/** Text of a PEM option, given as such or as a file's path. Neither may show up in an error: one of them is the key. */
function pem(name: string, value: unknown): string {
  check(name, typeof value, typeof value === 'string' && value !== '', 'PEM text, or the path of a file with it')
  if ((value as string).includes('-----BEGIN')) return value as string
  try {
    const text = readFileSync(value as string, 'utf8')
    if (text.includes('-----BEGIN')) return text
  } catch (error) {
    throw refusal('ERR_LAMEDUCK_OPTION', `${name} names a file that cannot be read (${(error as NodeJS.ErrnoException).code}); allowed: PEM text, or the path of a file with it`)
  }
  throw refusal('ERR_LAMEDUCK_OPTION', `${name} names a file that holds no PEM text; allowed: PEM text, or the path of a file with it`)
}

interface Tls { cert: string; key: string; ca?: string }

function settleTls(tls: unknown): Tls {
  checkKeys('options.listen.tls', tls, { cert: '', key: '', ca: '' })
  const { cert, key, ca } = tls as Tls
  const all: Tls = { cert: pem('options.listen.tls.cert', cert), key: pem('options.listen.tls.key', key) }
  if (ca !== undefined) all.ca = pem('options.listen.tls.ca', ca)
  try {
    createSecureContext({ ...all })
  } catch (error) {
    const { code = 'no code' } = error as NodeJS.ErrnoException
    throw refusal('ERR_LAMEDUCK_OPTION', `options.listen.tls cannot be used (${code}); allowed: a certificate and the key that belongs to it`)
  }
  return all
}

function settleSocket(listen: Record<string, unknown>): { path: string } {
  checkKeys('options.listen', listen, { path: '' })
  const { path } = listen
  check('options.listen.path', path, typeof path === 'string' && path !== '' && !path.includes('\0'), 'the path of a unix socket')
  check('options.listen.path', path, process.platform !== 'win32', 'nothing on Windows; listen on { host: "127.0.0.1" } there')
  const whole = resolve(path as string)
  const longest = Math.max(Buffer.byteLength(whole), Buffer.byteLength(resolve(whole, '..')) + DRAFT_NAME_BYTES + 1)
  check('options.listen.path', path, longest <= LONGEST_SOCKET_PATH, `at most ${LONGEST_SOCKET_PATH} bytes, made absolute (sun_path)`)
  return { path: whole }
}

/** A folder that only this user's processes use. */
function ownFolder(): string {
  return join(tmpdir(), `lameduck-${process.getuid?.() ?? 'user'}`)
}

function settleListen(listen: unknown): Listen | false {
  if (listen === false) return false
  if (listen === undefined) {
    if (process.platform === 'win32') return { host: '127.0.0.1', port: 0 }
    return settleSocket({ path: join(ownFolder(), String(process.pid), 'ops.sock') })
  }
  check('options.listen', listen, isRecord(listen), '{ path }, { host, port, tls }, or false')
  if (Object.hasOwn(listen as object, 'path')) return settleSocket(listen as Record<string, unknown>)
  checkKeys('options.listen', listen, { path: '', host: '', port: 0, tls: {} })
  const { host = '127.0.0.1', port = 0, tls } = listen as { host?: string; port?: number; tls?: Tls }
  check('options.listen.host', host, typeof host === 'string' && /^[\w.:%-]+$/.test(host), 'an address or a name, without brackets and port')
  checkInteger('options.listen.port', port, 0, 65_535)
  return { host, port, ...(tls === undefined ? {} : { tls: settleTls(tls) }) }
}

/** Anything but loopback is the network: never without TLS and somebody who may do something. */
function checkSecure(listen: Listen | false, auth: Settings['auth']): void {
  if (listen === false || 'path' in listen || isLoopback(listen.host ?? '127.0.0.1')) return
  const authorised = (auth.tokens ?? []).length > 0 || auth.file !== undefined || auth.authorize || Object.keys(auth.certificates ?? {}).length > 0
  if (listen.tls && authorised) return
  const missing = [listen.tls ? '' : 'options.listen.tls', authorised ? '' : 'options.auth'].filter(Boolean).join(' and ')
  throw refusal('ERR_LAMEDUCK_OPS_INSECURE', `options.listen.host is '${listen.host}', which is not loopback, and ${missing} is missing; `
    + 'allowed: a unix socket, 127.0.0.0/8, ::1, localhost, or any address with TLS and authorisation')
}

const inBrackets = (host: string) => host.includes(':') ? `[${host}]` : host

/** Everything but what only looks like a name: a host, an IPv4 address or an IPv6 address in brackets, with or without a port. */
const HOST = /^(?:\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?)(?::\d{1,5})?$/i

function settleHosts(hosts: unknown, listen: Listen | false): readonly string[] {
  if (hosts === undefined) {
    if (listen && 'path' in listen) return []
    const own = listen && listen.host !== undefined && !['0.0.0.0', '::'].includes(listen.host) ? [inBrackets(listen.host)] : []
    return [...new Set([...own, 'localhost', '127.0.0.1', '[::1]'])]
  }
  const allowed = 'an array of host names or addresses (IPv6 in brackets), each with or without a port'
  check('options.hosts', hosts, Array.isArray(hosts) && hosts.length > 0, allowed)
  for (const host of hosts as unknown[]) check('options.hosts', host, typeof host === 'string' && HOST.test(host), allowed)
  return (hosts as string[]).map(host => host.toLowerCase())
}

function settleRate(name: string, rate: unknown, fallback: { burst: number; perSecond: number }): { burst: number; perSecond: number } {
  checkKeys(name, rate, fallback)
  const all = { ...fallback, ...given(rate as object) }
  checkInteger(`${name}.burst`, all.burst, 1, 1_000_000)
  check(`${name}.perSecond`, all.perSecond, typeof all.perSecond === 'number' && all.perSecond > 0 && all.perSecond <= 1_000_000, 'a number above 0, at most 1000000')
  return all
}

function settleLimits(limits: unknown): Settings['limits'] {
  checkKeys('options.limits', limits, DEFAULTS.limits)
  const all = { ...DEFAULTS.limits, ...given(limits as LimitOptions) }
  checkInteger('options.limits.connections', all.connections, 1, 10_000)
  checkInteger('options.limits.headBytes', all.headBytes, 1_024, 2 ** 20)
  checkInteger('options.limits.bodyBytes', all.bodyBytes, 1, 64 * 2 ** 20)
  checkInteger('options.limits.requestMs', all.requestMs, 10, 2 ** 31 - 1)
  return {
    ...all,
    failures: settleRate('options.limits.failures', all.failures, DEFAULTS.limits.failures),
    calls: settleRate('options.limits.calls', all.calls, DEFAULTS.limits.calls),
  }
}

/** Without the keys whose value is undefined: they mean the default. */
function given<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T
}

function settleFiles(files: unknown): Settings['files'] {
  checkKeys('options.files', files, { dir: '', ...DEFAULTS.files })
  const all = { dir: join(ownFolder(), String(process.pid)), ...DEFAULTS.files, ...given(files as object) }
  check('options.files.dir', all.dir, typeof all.dir === 'string' && all.dir !== '' && !all.dir.includes('\0'), 'the path of a folder')
  for (const name of ['count', 'bytes', 'ageMs'] as const) checkInteger(`options.files.${name}`, all[name], 1, Number.MAX_SAFE_INTEGER)
  checkInteger('options.files.freeBytes', all.freeBytes, 0, Number.MAX_SAFE_INTEGER)
  return { ...all, dir: resolve(all.dir) }
}

function settleHeavy(heavy: unknown): Settings['heavy'] {
  checkKeys('options.heavy', heavy, DEFAULTS.heavy)
  const all = { ...DEFAULTS.heavy, ...given(heavy as object) }
  checkDuration('options.heavy.cooldownMs', all.cooldownMs)
  checkInteger('options.heavy.perDay', all.perDay, 0, 1_000_000)
  checkInteger('options.heavy.profileSeconds', all.profileSeconds, 1, 3_600)
  return all
}

function settleHeap(heap: unknown): Settings['heap'] {
  checkKeys('options.heap', heap, DEFAULTS.heap)
  const all = { ...DEFAULTS.heap, ...given(heap as object) }
  for (const [name, value] of Object.entries(all)) checkDuration(`options.heap.${name}`, value)
  return all
}

/** @param known Names of all checks: a group with another one would fail for ever. Undefined: a duck of an older copy of the package does not tell. */
function settleHealth(health: unknown, known: readonly string[] | undefined): Settings['health'] {
  checkKeys('options.health', health, DEFAULTS.health)
  const all = { ...DEFAULTS.health, ...given(health as object) } as Settings['health']
  checkDuration('options.health.stuckMs', all.stuckMs)
  checkDuration('options.health.timeoutMs', all.timeoutMs)
  check('options.health.groups', all.groups, isRecord(all.groups), 'an object of arrays of names')
  for (const [name, checks] of Object.entries(all.groups)) {
    check('options.health.groups', name, /^[\w-]{1,64}$/.test(name), 'names of letters, digits, _ and -, 64 at most')
    const names = Array.isArray(checks) && checks.length > 0 && checks.every(check => typeof check === 'string')
    check(`options.health.groups.${name}`, checks, names, 'an array of names of checks')
    if (!known) continue
    const missing = (checks as string[]).find(one => !known.includes(one))
    check(`options.health.groups.${name}`, missing, missing === undefined, known.length > 0 ? `names of checks of the duck's health: ${known.join(', ')}` : "none: the duck's health has no checks")
  }
  return all
}

/** What stays on the main thread: functions, and what has them. */
function checkHere({ duck, loggers, logger, metrics, onAudit, lastReady, rules }: OpsOptions): void {
  check('options.duck', duck, duck === undefined || (typeof duck.drain === 'function' && typeof duck.stats === 'function'), 'what wrap() returns')
  // Nothing would ever close it: a drain's end does.
  if (duck?.state === 'drained' || duck?.state === 'aborted') {
    throw new LameduckError('ERR_LAMEDUCK_STATE', `options.duck is ${duck.state}; allowed: one whose drain is not over`)
  }
  check('options.loggers', loggers, loggers === undefined || isRecord(loggers), 'an object of loggers')
  for (const [name, one] of Object.entries(loggers ?? {})) {
    check('options.loggers', name, /^[\w.:-]{1,64}$/.test(name), 'names of letters, digits, _ . : and -, 64 at most')
    check(`options.loggers.${name}`, typeof one, typeof one === 'object' && one !== null && 'level' in one, 'an object with a level')
  }
  check('options.rules', rules, rules === undefined || Array.isArray(rules), 'an array of rules')
  check('options.logger', typeof logger, logger === undefined || typeof logger?.warn === 'function', 'an object with warn(), such as console')
  for (const [name, value] of Object.entries({ metrics, onAudit, lastReady })) {
    check(`options.${name}`, typeof value, value === undefined || typeof value === 'function', 'a function')
  }
}

const KNOWN = {
  duck: 0, listen: 0, hosts: 0, auth: 0, limits: 0, files: 0, heavy: 0, heap: 0, audit: 0, eval: 0, page: 0, thread: 0, health: 0, loggers: 0, logger: 0,
  metrics: 0, onAudit: 0, lastReady: 0, rules: 0,
} satisfies Record<keyof OpsOptions, 0>

function settleAudit(audit: unknown): string | false {
  if (audit === undefined) return join(ownFolder(), 'audit.log')
  check('options.audit', audit, audit === false || (typeof audit === 'string' && audit !== '' && !audit.includes('\0')), 'the path of a file, or false')
  return audit === false ? false : resolve(audit as string)
}

/**
 * Checks the door's options and fills in the defaults. Runs on the main thread: tokens become digests, environment variables that hold some are
 * read and deleted, files that hold some are read once as a test.
 *
 * @returns What can be sent to a worker. `auth.authorize` only says whether there is one.
 * @throws {LameduckError} `ERR_LAMEDUCK_OPTION`, naming the option, its value (a secret's length only) and what is allowed;
 *   `ERR_LAMEDUCK_OPS_INSECURE` for an address beyond this machine without TLS and authorisation.
 */
export function settle(options: OpsOptions = {}): Settings {
  checkKeys('options', options, KNOWN)
  const own = given(options)
  checkHere(own)
  const listen = settleListen(own.listen)
  const secrets = new Secrets()
  const auth = settleAuth(own.auth ?? {}, listen, secrets)
  checkSecure(listen, auth)
  const flags = { eval: own.eval ?? false, page: own.page ?? true, thread: own.thread ?? true }
  for (const [name, value] of Object.entries(flags)) check(`options.${name}`, value, typeof value === 'boolean', 'true or false')
  const settings: Settings = {
    listen,
    hosts: settleHosts(own.hosts, listen),
    auth,
    limits: settleLimits(own.limits ?? {}),
    files: settleFiles(own.files ?? {}),
    heavy: settleHeavy(own.heavy ?? {}),
    heap: settleHeap(own.heap ?? {}),
    audit: settleAudit(own.audit),
    ownAudit: own.audit === undefined,
    health: settleHealth(own.health ?? {}, own.duck ? own.duck.checks as string[] | undefined : []),
    metrics: own.metrics !== undefined,
    rules: own.rules ?? [],
    ...flags,
  }
  // Not before everything has passed: a refused call leaves the environment as it was.
  secrets.forget()
  return settings
}
