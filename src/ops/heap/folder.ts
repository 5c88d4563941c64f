import { constants, type Stats } from 'node:fs'
import { lstat, mkdir, open, readdir, rm, rmdir, statfs, type FileHandle } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Problem } from '../http/problem.ts'

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = constants

/** Where files go when nobody says where: `lameduck-<uid>/<pid>` in the folder for temporary files. */
function defaultFolder(): string {
  return path.join(tmpdir(), `lameduck-${process.getuid?.() ?? 'user'}`, String(process.pid))
}

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
 * Makes sure that a folder is there, ours, no symbolic link, and closed to others. One that is missing is made; one that is there is never
 * changed.
 *
 * @throws {Error} That says what is wrong.
 */
async function ensure(folder: string): Promise<void> {
  await mkdir(folder, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  })
  const wrong = fault(folder, await lstat(folder))
  if (wrong !== undefined) throw new Problem(507, 'ERR_LAMEDUCK_OPS_FOLDER', wrong)
}

/** A private folder: 0700, ours, no symbolic link. Looked at again before each use, since temporary folders get cleaned. */
export class Folder {
  readonly path: string
  #own: boolean

  constructor(dir: string | undefined) {
    this.path = path.resolve(dir ?? defaultFolder())
    this.#own = path.dirname(this.path) === path.dirname(defaultFolder())
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

/** Whether a process exists; itself does not count: a file of its number is from another that had it before. */
export function isAlive(pid: number): boolean {
  if (pid === process.pid) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
