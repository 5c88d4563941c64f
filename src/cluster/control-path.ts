import { createHash } from 'node:crypto'
import { chmodSync, lstatSync, mkdirSync, readdirSync, type Stats } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { ClusterError } from './errors.ts'

const own = () => process.getuid?.() ?? 0

function refuse(message: string): never {
  throw new ClusterError('ERR_LAMEDUCK_CLUSTER_CONTROL', message)
}

/** The folder of all control sockets of this user: `$XDG_RUNTIME_DIR/lameduck`, or `lameduck-<uid>` in the folder for temporary files. */
export function controlFolder(): string {
  const runtime = process.env.XDG_RUNTIME_DIR
  return runtime ? join(runtime, 'lameduck') : join(tmpdir(), `lameduck-${own()}`)
}

/** What the sockets of a script's supervisors begin with: its name, and a hash of its whole path as it was given, symlinks included. */
function prefix(script: string, cwd = ''): string {
  const path = resolve(cwd, script)
  // The path of a socket has room for about a hundred bytes.
  return `${basename(path).slice(0, 12)}-${createHash('sha256').update(path).digest('hex').slice(0, 8)}.`
}

/** Where a supervisor of this script in this process listens by default: `<folder>/<script>-<hash>.<pid>.sock`. */
export function defaultControlPath(script: string, cwd?: string, pid = process.pid): string {
  return join(controlFolder(), `${prefix(script, cwd)}${pid}.sock`)
}

/** Control sockets in the default folder, of one script or of all; some may be left over from supervisors that have been killed. */
export function findControlPaths(script?: string, cwd?: string): string[] {
  const start = script === undefined ? '' : prefix(script, cwd)
  try {
    return readdirSync(controlFolder()).filter(name => name.startsWith(start) && name.endsWith('.sock')).map(name => join(controlFolder(), name))
  } catch {
    return []
  }
}

function look(path: string): Stats | undefined {
  try {
    return lstatSync(path)
  } catch {
    return undefined
  }
}

/**
 * Makes the socket's folder, with mode 0700. One that is there must be nobody else's, and nobody else may put files into it.
 *
 * @throws {ClusterError} `ERR_LAMEDUCK_CLUSTER_CONTROL`
 */
export function prepareFolder(path: string): void {
  // Not left to Node: some versions cut the path off, and listen on what remains.
  const most = process.platform === 'linux' ? 107 : 103
  if (Buffer.byteLength(path) > most) refuse(`${path} is too long for a control socket: it may have ${most} bytes`)
  const folder = dirname(path)
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  } catch (error) {
    refuse(`cannot make the folder ${folder} of the control socket: ${(error as Error).message}`)
  }
  const stats = look(folder)
  if (!stats?.isDirectory()) refuse(`${folder}, the folder of the control socket, is not a folder`)
  if (stats.uid !== own() && stats.uid !== 0) refuse(`${folder}, the folder of the control socket, belongs to user ${stats.uid}`)
  // In one with the sticky bit, such as /tmp, others cannot replace what is ours.
  if ((stats.mode & 0o022) !== 0 && (stats.mode & 0o1000) === 0) refuse(`${folder}, the folder of the control socket, can be written to by others: chmod 700 it`)
  if (folder === controlFolder()) chmodSync(folder, 0o700)
}

/**
 * Whether something is at the path that may be a socket of a dead supervisor.
 *
 * @throws {ClusterError} `ERR_LAMEDUCK_CLUSTER_CONTROL` when it is something else, or somebody else's.
 */
export function isLeftover(path: string): boolean {
  const stats = look(path)
  if (!stats) return false
  if (!stats.isSocket()) refuse(`${path} is there and is not a socket: it is left alone`)
  if (stats.uid !== own()) refuse(`the control socket ${path} belongs to user ${stats.uid}: it is left alone`)
  return true
}
