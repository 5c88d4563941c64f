import { lstatSync, readFileSync, readdirSync, type Stats } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Client, type Target } from './client.ts'
import { EXIT, Failure, usage } from './failure.ts'
import type { Io } from './io.ts'
import { table } from './table.ts'

/** Options that say which process is meant. */
export interface TargetOptions {
  socket?: string
  url?: string
  pid?: number
  tokenFile?: string
  ca?: string
  cert?: string
  key?: string
}

/** How long one of the processes found may take to say its name. */
const ASK_MS = 1_000

/** Where processes of this user have their endpoints, unless told otherwise: `lameduck-<uid>/<pid>/ops.sock` in the folder for temporary files. */
export function ownFolder(): string {
  return join(tmpdir(), `lameduck-${process.getuid?.() ?? 'user'}`)
}

const socketOf = (pid: string) => join(ownFolder(), pid, 'ops.sock')

function read(option: string, file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw usage(`${option}: ${file} cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
}

/** Never from the command line: every user of the machine sees that in the process list, and the shell's history keeps it. */
function tokenOf({ tokenFile }: TargetOptions, { env, stderr }: Io): string | undefined {
  if (tokenFile === undefined) return env.LAMEDUCK_OPS_TOKEN?.trim() || undefined
  const token = read('--token-file', tokenFile === '-' ? '/dev/stdin' : tokenFile).trim()
  if (token === '' || /\s/.test(token)) throw usage(`--token-file: ${tokenFile} must hold one token and nothing else`)
  const stats = lstatSync(tokenFile, { throwIfNoEntry: false })
  if (stats?.isFile() && (stats.mode & 0o077) !== 0) stderr.write(`lameduck: ${tokenFile} can be read by others; chmod 600 ${tokenFile}\n`)
  return token
}

function tlsOf({ ca, cert, key }: TargetOptions): Target['tls'] {
  if ((cert === undefined) !== (key === undefined)) throw usage('--cert and --key belong together')
  return {
    ...(ca !== undefined && { ca: read('--ca', ca) }),
    ...(cert !== undefined && { cert: read('--cert', cert) }),
    ...(key !== undefined && { key: read('--key', key) }),
  }
}

const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/

function atUrl(text: string, from: string, options: TargetOptions, io: Io): Target {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !['http:', 'https:'].includes(url.protocol) || url.search || url.hash) throw usage(`${from} is '${text}'; allowed: http://HOST:PORT or https://HOST:PORT, perhaps with a path`)
  if (url.username || url.password) throw usage(`${from} holds a user or a password; a token comes from --token-file or LAMEDUCK_OPS_TOKEN`)
  const token = tokenOf(options, io)
  if (token !== undefined && url.protocol === 'http:' && !LOOPBACK.test(url.hostname)) {
    throw new Failure('ERR_LAMEDUCK_CLI_INSECURE', `${url.origin} is neither this machine nor https: the token could be read on the way`, { exit: EXIT.usage, hint: 'use https://, or a tunnel: ssh -L 9000:127.0.0.1:PORT HOST' })
  }
  const tls = tlsOf(options)
  return { url, name: url.origin, ...(token !== undefined && { token }), ...(url.protocol === 'https:' && tls && { tls }) }
}

function atSocket(path: string, options: TargetOptions, io: Io): Target {
  const token = tokenOf(options, io)
  return { socketPath: resolve(io.cwd(), path), url: new URL('http://localhost'), name: path, ...(token !== undefined && { token }) }
}

/** A folder that somebody else could have made holds sockets that are not to be trusted with anything. */
function trusted(stats: Stats | undefined): boolean {
  if (!stats?.isDirectory()) return false
  return !process.getuid || (stats.uid === process.getuid() && (stats.mode & 0o077) === 0)
}

function socketsHere(): string[] {
  const folder = ownFolder()
  const stats = lstatSync(folder, { throwIfNoEntry: false })
  if (!stats) return []
  if (!trusted(stats)) {
    throw new Failure('ERR_LAMEDUCK_CLI_FOLDER', `${folder} belongs to somebody else or is open to others: nothing in it is trusted`, { exit: EXIT.unreachable, hint: 'say --socket PATH or --url URL' })
  }
  return readdirSync(folder).filter(pid => /^\d+$/.test(pid) && lstatSync(socketOf(pid), { throwIfNoEntry: false })?.isSocket())
}

interface Found {
  pid: string
  target: Target
  application: string
  started: string
}

/** Of `/info`, what is of interest here. */
interface Info {
  application?: { name?: string; version?: string }
  startedAt?: string
}

/** A socket that answers, with the name of what is behind it if we may know that. Undefined: its process is gone. */
async function look(pid: string, options: TargetOptions, io: Io): Promise<Found | undefined> {
  const target = { ...atSocket(socketOf(pid), options, io), name: `process ${pid}` }
  try {
    const { application, startedAt } = await new Client(target).get<Info>('/info', { timeoutMs: ASK_MS })
    return { pid, target, application: [application?.name, application?.version].filter(Boolean).join(' ') || '-', started: startedAt ?? '-' }
  } catch (error) {
    if (error instanceof Failure && error.exit === EXIT.unreachable && error.code !== 'ERR_LAMEDUCK_CLI_TIMEOUT') return undefined
    return { pid, target, application: error instanceof Failure && error.exit === EXIT.refused ? '(needs a token)' : '(does not say)', started: '-' }
  }
}

async function discover(options: TargetOptions, io: Io): Promise<Target> {
  const found = (await Promise.all(socketsHere().map(pid => look(pid, options, io)))).filter(one => one !== undefined)
  const [first, ...others] = found
  if (!first) {
    throw new Failure('ERR_LAMEDUCK_CLI_NONE', `no process of this user has a maintenance endpoint in ${ownFolder()}`, { exit: EXIT.unreachable, hint: "start one with ops() of 'lameduck/ops', or say --socket PATH or --url URL" })
  }
  if (others.length === 0) return first.target
  const list = found.toSorted((a, b) => Number(a.pid) - Number(b.pid)).map(({ pid, application, started }) => [pid, application, started])
  io.stderr.write(`${table([{ title: 'pid', right: true }, { title: 'application' }, { title: 'started' }], list)}\n`)
  throw new Failure('ERR_LAMEDUCK_CLI_SEVERAL', `${found.length} processes have a maintenance endpoint`, { exit: EXIT.usage, hint: `say which: --pid ${list[0]?.[0]}` })
}

/**
 * Which endpoint is meant: by an option, else by the environment, else the only one of this user's that lives.
 *
 * @throws {Failure} Exit code 2 for options that cannot be, and for several processes without `--pid`; 3 when there is none.
 */
export async function findTarget(options: TargetOptions, io: Io): Promise<Target> {
  const given = (['socket', 'url', 'pid'] as const).filter(name => options[name] !== undefined)
  if (given.length > 1) throw usage(`--${given.join(' and --')} exclude each other`)
  if (options.socket !== undefined) return atSocket(options.socket, options, io)
  if (options.url !== undefined) return atUrl(options.url, '--url', options, io)
  if (options.pid !== undefined) {
    socketsHere()
    return { ...atSocket(socketOf(String(options.pid)), options, io), name: `process ${options.pid}` }
  }
  const { LAMEDUCK_OPS_SOCKET: socket, LAMEDUCK_OPS_URL: url } = io.env
  if (socket && url) throw usage('LAMEDUCK_OPS_SOCKET and LAMEDUCK_OPS_URL are both set', 'unset one of them')
  if (socket) return atSocket(socket, options, io)
  if (url) return atUrl(url, 'LAMEDUCK_OPS_URL', options, io)
  return discover(options, io)
}
