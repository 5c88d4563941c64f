import { constants, type Stats } from 'node:fs'
import { lstat, mkdir, open, readdir, rm, rmdir, statfs, type FileHandle } from 'node:fs/promises'
import path from 'node:path'
import { Problem } from '../http/problem.ts'
import { lives } from '../http/unix-socket.ts'

/** Where an endpoint listens by default, and under which name it binds that; see settle.ts and http/unix-socket.ts. */
const SOCKET = 'ops.sock'
const DRAFT_SOCKET = /^\.[0-9a-f]{8}$/

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = constants

/** What a full disk, a quota or a limit on file sizes says. */
const FULL = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])

/** The problem that an error of the file system is. */
export function diskProblem(error: unknown): Problem {
  if (error instanceof Problem) return error
  const { code, message } = error as NodeJS.ErrnoException
  if (typeof code !== 'string') return new Problem(500, 'ERR_LAMEDUCK_OPS_FAILED', message)
  if (FULL.has(code)) return new Problem(507, 'ERR_LAMEDUCK_OPS_DISK', `the disk is full (${code})`)
  return new Problem(507, 'ERR_LAMEDUCK_OPS_FOLDER', `the folder for files cannot be used (${code})`)
}

/** @returns What is wrong with a folder that is to be private, if anything. */
function fault(folder: string, stats: Stats): string | undefined {
  if (stats.isSymbolicLink()) return `${folder} is a symbolic link`
  if (!stats.isDirectory()) return `${folder} is no folder`
  if (process.getuid && stats.uid !== process.getuid()) return `${folder} belongs to somebody else`
  // Windows has no such modes.
  if (process.platform !== 'win32' && (stats.mode & 0o077) !== 0) {
    return `${folder} is open to others (mode ${(stats.mode & 0o777).toString(8)}; it must be 700)`
  }
  return undefined
}

/**
 * Makes a folder and those above it that are missing, 0700 each. Not with `recursive`: where nothing can be made at all (`/proc`), Node tries
 * for ever.
 */
async function make(folder: string, again = true): Promise<void> {
  try {
    await mkdir(folder, { mode: 0o700 })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return
    const parent = path.dirname(folder)
    if (code !== 'ENOENT' || !again || parent === folder) throw error
    await make(parent)
    await make(folder, false)
  }
}

/**
 * Makes sure that a folder is there, ours, no symbolic link, and closed to others. One that is missing is made; one that is there is never
 * changed.
 *
 * @throws {Error} That says what is wrong.
 */
async function ensure(folder: string): Promise<void> {
  await make(folder)
  const wrong = fault(folder, await lstat(folder))
  if (wrong !== undefined) throw new Problem(507, 'ERR_LAMEDUCK_OPS_FOLDER', wrong)
}

/** A private folder: 0700, ours, no symbolic link. Looked at again before each use, since temporary folders get cleaned. */
export class Folder {
  readonly path: string
  #own: boolean

  constructor(dir: string) {
    this.path = path.resolve(dir)
    const [pid, all] = [path.basename(this.path), path.basename(path.dirname(this.path))]
    // By name: a worker without an environment has another idea of where temporary files go.
    this.#own = /^\d+$/.test(pid) && all === `lameduck-${process.getuid?.() ?? 'user'}`
  }

  /** @throws {Problem} 507 `ERR_LAMEDUCK_OPS_FOLDER` */
  async check(): Promise<void> {
    try {
      if (this.#own) await ensure(path.dirname(this.path))
      await ensure(this.path)
    } catch (error) {
      throw diskProblem(error)
    }
  }

  resolve(name: string): string {
    return path.join(this.path, name)
  }

  /** A new file, 0600; never one that is there, nor what a symbolic link leads to. */
  create(name: string): Promise<FileHandle> {
    return open(this.resolve(name), O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0o600)
  }

  /** A file of ours, to be read; undefined if it is none, or not only ours. */
  async open(name: string): Promise<FileHandle | undefined> {
    const file = await open(this.resolve(name), O_RDONLY | O_NOFOLLOW).catch(() => undefined)
    if (!file) return undefined
    const stats = await file.stat()
    const ours = stats.isFile() && stats.nlink === 1 && (!process.getuid || stats.uid === process.getuid())
    if (ours) return file
    await file.close()
    return undefined
  }

  async remove(name: string): Promise<void> {
    await rm(this.resolve(name), { force: true })
  }

  async ageMs(name: string): Promise<number> {
    return Date.now() - (await lstat(this.resolve(name))).mtimeMs
  }

  names(): Promise<string[]> {
    return readdir(this.path)
  }

  /** Bytes that may still be written by us. */
  async free(): Promise<number> {
    const { bavail, bsize } = await statfs(this.path)
    return bavail * bsize
  }

  /** Whether a process listens on the folder's socket: one that is in another container has a number that means nothing here. */
  async isLived(): Promise<boolean> {
    const socket = this.resolve(SOCKET)
    return (await lstat(socket).catch(() => undefined))?.isSocket() === true && lives(socket)
  }

  /** Removes what an endpoint that was killed left beside the files: its socket, by either of its names, and a lock. */
  async clear(): Promise<void> {
    for (const name of await this.names()) {
      const stats = await lstat(this.resolve(name))
      if (stats.isSocket() && (name === SOCKET || DRAFT_SOCKET.test(name))) await this.remove(name)
      if (stats.isFile() && name === '.lock') await this.remove(name)
    }
  }

  /** Removes the folder if it was made for this process alone, and nothing is left in it. */
  async leave(): Promise<void> {
    if (this.#own) await rmdir(this.path).catch(() => {})
  }

  /** The folders of other processes, whose own is a default one. */
  async neighbours(): Promise<Folder[]> {
    if (!this.#own) return []
    const all = path.dirname(this.path)
    const pids = (await readdir(all)).filter(name => /^\d+$/.test(name) && !isAlive(Number(name)))
    return pids.map(pid => new Folder(path.join(all, pid)))
  }
}

/** Whether a process exists. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
