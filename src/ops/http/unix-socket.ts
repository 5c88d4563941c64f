import { randomBytes } from 'node:crypto'
import { chmodSync, closeSync, linkSync, lstatSync, openSync, rmSync, statSync, unlinkSync } from 'node:fs'
import net from 'node:net'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { textOf } from '../../core/thrown.ts'
import { refusal } from '../refusal.ts'
import { privateFolder } from './private-folder.ts'

/** How long a socket that is there already has to take a connection before it counts as living. */
const PROBE_MS = 1_000

/** How long to wait for others that start at the same time; older than that, their lock is a dead one's. */
const LOCK_MS = 5_000

/** Nine bytes, see `DRAFT_NAME_BYTES` in `settle.ts`. */
const draftName = () => `.${randomBytes(4).toString('hex')}`

const codeOf = (error: unknown) => (error as NodeJS.ErrnoException).code ?? textOf(error)

/** Which file it is, whatever it is called. A listening socket keeps its inode: as long as ours listens no other can have this number. */
function identity(path: string): string | undefined {
  try {
    const { dev, ino } = lstatSync(path, { bigint: true })
    return `${dev}:${ino}`
  } catch {
    return undefined
  }
}

/** Whether a process listens there. Only a refused connection is proof of none. */
export function lives(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = net.connect(path)
    const done = (alive: boolean) => {
      socket.destroy()
      resolve(alive)
    }
    socket.setTimeout(PROBE_MS, () => done(true))
    socket.once('connect', () => done(true))
    socket.once('error', error => done(!['ECONNREFUSED', 'ENOENT'].includes(codeOf(error))))
  })
}

/** One at a time in this folder: two that start at once both find the dead socket, and the slower one would take away the faster one's. */
async function alone(dir: string, work: () => Promise<void>): Promise<void> {
  const lock = join(dir, '.lock')
  for (const end = performance.now() + LOCK_MS; ; await sleep(20)) {
    try {
      closeSync(openSync(lock, 'wx', 0o600))
      break
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error
      // Whoever had it died within the few milliseconds that it takes.
      if (Date.now() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Infinity) > LOCK_MS) rmSync(lock, { force: true })
      if (performance.now() > end) throw refusal('ERR_LAMEDUCK_OPS_IN_USE', `another process is about to listen in ${dir}`)
    }
  }
  try {
    await work()
  } finally {
    rmSync(lock, { force: true })
  }
}

/** Removes what a dead process left behind. A dead socket stays dead, and whoever removes one has the lock: it is the same one still. */
async function clear(path: string): Promise<void> {
  const there = lstatSync(path, { throwIfNoEntry: false })
  if (!there) return
  if (!there.isSocket()) throw refusal('ERR_LAMEDUCK_OPS_IN_USE', `${path} is there, and no socket; it is left alone`)
  if (await lives(path)) throw refusal('ERR_LAMEDUCK_OPS_IN_USE', `another process listens on ${path}`)
  rmSync(path, { force: true })
}

function listen(server: net.Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    // Exclusive: not the primary's, in a worker of node:cluster.
    server.listen({ path, exclusive: true }, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

/**
 * Listens on a unix socket: 0600, in a folder that is 0700 and ours. It is bound under a name of its own and gets the real one, by an atomic
 * link, when its mode is right: so it is never open to others, never half there, and never takes the place of a living one; and closing the server,
 * which unlinks the name that was bound, cannot take away a successor's.
 *
 * @returns What removes it, unless somebody else's is there by then.
 * @throws {LameduckError} `ERR_LAMEDUCK_OPS_FOLDER`, see `privateFolder`; `ERR_LAMEDUCK_OPS_IN_USE` when a process listens there, or the path is
 *   something else than a socket.
 */
export async function listenOnSocket(server: net.Server, path: string): Promise<() => void> {
  const dir = privateFolder(dirname(path))
  const final = join(dir, basename(path))
  const draft = join(dir, draftName())
  if (lstatSync(final, { throwIfNoEntry: false })) await alone(dir, () => clear(final))
  await listen(server, draft)
  const own = identity(draft)
  try {
    chmodSync(draft, 0o600)
    linkSync(draft, final)
    unlinkSync(draft)
  } catch (error) {
    server.close()
    rmSync(draft, { force: true })
    if (codeOf(error) === 'EEXIST') throw refusal('ERR_LAMEDUCK_OPS_IN_USE', `another process has just begun to listen on ${final}`)
    throw refusal('ERR_LAMEDUCK_OPS_FOLDER', `no socket can be made at ${final} (${codeOf(error)})`)
  }
  return () => {
    if (identity(final) === own) rmSync(final, { force: true })
  }
}
