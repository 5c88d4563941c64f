import { randomBytes } from 'node:crypto'
import { chmodSync, linkSync, lstatSync, renameSync, rmSync, unlinkSync } from 'node:fs'
import net from 'node:net'
import { basename, dirname, join } from 'node:path'
import { refusal } from '../refusal.ts'
import { privateFolder } from './private-folder.ts'

/** How long a socket that is there already has to take a connection before it counts as living. */
const PROBE_MS = 1_000

/** Nine bytes, see `DRAFT_NAME_BYTES` in `settle.ts`. */
const draftName = () => `.${randomBytes(4).toString('hex')}`

const codeOf = (error: unknown) => (error as NodeJS.ErrnoException).code ?? String(error)

/** Which file it is, whatever it is called. */
function identity(path: string): string | undefined {
  try {
    const { dev, ino } = lstatSync(path, { bigint: true })
    return `${dev}:${ino}`
  } catch {
    return undefined
  }
}

/** Whether a process listens there. Only a refused connection is proof of none. */
function lives(path: string): Promise<boolean> {
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

/** Removes what a dead process left behind. */
async function clear(path: string): Promise<void> {
  const before = identity(path)
  if (before === undefined) return
  if (!lstatSync(path).isSocket()) throw refusal('ERR_LAMEDUCK_OPS_IN_USE', `${path} is there, and no socket; it is left alone`)
  if (await lives(path)) throw refusal('ERR_LAMEDUCK_OPS_IN_USE', `another process listens on ${path}`)
  // Two that start at once both find the dead one: whoever then takes the other's fresh socket away puts it back.
  const aside = join(dirname(path), draftName())
  try {
    renameSync(path, aside)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return
    throw error
  }
  if (identity(aside) !== before) linkSync(aside, path)
  unlinkSync(aside)
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
  await clear(final)
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
