import { randomBytes } from 'node:crypto'
import { rename, type FileHandle } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { LameduckError } from '../../core/errors.ts'
import { Problem } from '../http/problem.ts'
import type { FileOptions } from '../options.ts'
import { FileStream } from './draft.ts'
import { diskProblem, Folder, isAlive } from './folder.ts'

/** A file that can be fetched. */
export interface Artifact {
  name: string
  kind: 'heap-snapshot' | 'heap-profile' | 'cpu-profile'
  bytes: number
  /** Hex. */
  sha256: string
  /** ISO 8601. */
  createdAt: string
  by: string
  /** Holds live strings of the process: needs scope `secrets`. */
  secret: boolean
  /** Of the content, and of its coding: `gzip` or `identity`. */
  type: string
  encoding: 'gzip' | 'identity'
}

/** A file that is being written. */
export interface Draft {
  name: string
  path: string
  /** Fails with a {@link Problem} 507 when the disk, or the caps, are full. */
  stream: Writable
  /** Ends the stream, if it has not ended. @throws {Problem} 507 when the disk, or the caps, are full; nothing is left then. */
  finish(): Promise<Artifact>
  discard(): Promise<void>
}

/** What a draft is to become. */
export type About = Pick<Artifact, 'kind' | 'by' | 'secret' | 'type' | 'encoding'> & { extension: string }

/** The private folder with what was taken. */
export interface Artifacts {
  /** @throws {Problem} 507 `ERR_LAMEDUCK_OPS_FULL` (count, bytes), `ERR_LAMEDUCK_OPS_DISK`, `ERR_LAMEDUCK_OPS_FOLDER`. */
  create(about: About): Promise<Draft>
  /** A path in the folder for raw material that never is an artifact: removed at the end, and at the next start after a crash. */
  scratch(extension: string): Promise<string>
  /** Removes what `scratch()` gave. */
  sweep(path: string): Promise<void>
  /** Oldest first. */
  list(): Promise<Artifact[]>
  get(name: string): Promise<{ artifact: Artifact; path: string } | undefined>
  /** For reading, and never what a symbolic link leads to. Close it. */
  open(name: string): Promise<{ artifact: Artifact; path: string; file: FileHandle } | undefined>
  delete(name: string): Promise<boolean>
  /** @throws {Problem} 507 `ERR_LAMEDUCK_OPS_DISK` unless so many bytes fit, with what must stay free; `ERR_LAMEDUCK_OPS_FULL`. */
  room(bytes: number): Promise<{ free: number }>
  /** Removes what is unfinished. Artifacts stay, until they are too old. */
  close(): Promise<void>
}

const UNFINISHED = /^\.(?:scratch|draft)-(\d+)-/
const SIDECAR = /^(?:heap-snapshot|heap-profile|cpu-profile)-\d{8}T\d{6}-[\w-]{22}\.[\w.]+\.json$/

const unguessable = () => randomBytes(16).toString('base64url')

/** The private folder, read at the start and kept in mind. */
class PrivateFolder implements Artifacts {
  /** In the names of what is unfinished: another endpoint of this process may use the same folder. */
  #mine = `${process.pid}-${randomBytes(6).toString('hex')}-`
  #folder: Folder
  #limits: Required<Omit<FileOptions, 'dir'>>
  #artifacts = new Map<string, Artifact>()
  #drafts = new Map<string, FileStream>()

  constructor(folder: Folder, limits: Required<Omit<FileOptions, 'dir'>>) {
    this.#folder = folder
    this.#limits = limits
  }

  async start(): Promise<void> {
    await this.#folder.check()
    // Proves that it can be written, too.
    const proof = `.draft-${this.#mine}${unguessable()}`
    try {
      await (await this.#folder.create(proof)).close()
      await this.#folder.remove(proof)
      await this.#adopt(this.#folder)
    } catch (error) {
      throw diskProblem(error)
    }
    for (const folder of await this.#folder.neighbours()) await tidy(folder, this.#limits.ageMs).catch(() => {})
    await this.#prune()
  }

  async create(about: About): Promise<Draft> {
    await this.room(0)
    const { extension, ...rest } = about
    const stamp = new Date().toISOString().replace(/[-:]|\.\d+Z/g, '')
    const coded = about.encoding === 'gzip' && !extension.endsWith('.gz') ? `${extension}.gz` : extension
    const name = `${about.kind}-${stamp}-${unguessable()}.${coded}`
    const draft = `.draft-${this.#mine}${unguessable()}`
    const file = await this.#folder.create(draft).catch((error: unknown) => {
      throw diskProblem(error)
    })
    const stream = new FileStream(file, async () => void await this.room(0))
    // Whoever waits for finish() hears of it; nobody need listen.
    stream.on('error', () => {})
    this.#drafts.set(draft, stream)
    return {
      name,
      path: this.#folder.resolve(draft),
      stream,
      finish: () => this.#finish(draft, name, stream, rest),
      discard: () => this.#discard(draft, stream),
    }
  }

  async scratch(extension: string): Promise<string> {
    await this.#folder.check()
    return this.#folder.resolve(`.scratch-${this.#mine}${unguessable()}.${extension}`)
  }

  async sweep(path: string): Promise<void> {
    const name = path.slice(this.#folder.resolve('').length).replace(/^[/\\]/, '')
    if (name.startsWith('.scratch-') && !/[/\\]/.test(name)) await this.#folder.remove(name)
  }

  async list(): Promise<Artifact[]> {
    await this.#prune()
    return [...this.#artifacts.values()].sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1))
  }

  async get(name: string): Promise<{ artifact: Artifact; path: string } | undefined> {
    await this.#prune()
    const artifact = this.#artifacts.get(name)
    return artifact && { artifact, path: this.#folder.resolve(name) }
  }

  async open(name: string): Promise<{ artifact: Artifact; path: string; file: FileHandle } | undefined> {
    const found = await this.get(name)
    const file = found && await this.#folder.open(name)
    if (!found || !file) return undefined
    if ((await file.stat()).size === found.artifact.bytes) return { ...found, file }
    await file.close()
    return undefined
  }

  async delete(name: string): Promise<boolean> {
    if (!this.#artifacts.delete(name)) return false
    await this.#folder.remove(name)
    await this.#folder.remove(`${name}.json`)
    return true
  }

  async room(bytes: number): Promise<{ free: number }> {
    await this.#folder.check()
    await this.#prune()
    const { count, bytes: most, freeBytes } = this.#limits
    const there = this.#artifacts.size + this.#drafts.size
    if (this.#artifacts.size >= count) {
      throw new Problem(507, 'ERR_LAMEDUCK_OPS_FULL', `${there} files are the limit: delete some`, { count: there, limit: count })
    }
    let used = bytes
    for (const artifact of this.#artifacts.values()) used += artifact.bytes
    for (const draft of this.#drafts.values()) used += draft.bytes
    if (used > most) {
      throw new Problem(507, 'ERR_LAMEDUCK_OPS_FULL', `${used} bytes would be more than ${most}: delete some`, { bytes: used, limit: most })
    }
    const free = await this.#folder.free().catch((error: unknown) => {
      throw diskProblem(error)
    })
    if (free - bytes < freeBytes) {
      const detail = `${bytes} bytes do not fit: ${free} are free, and ${freeBytes} must stay so`
      throw new Problem(507, 'ERR_LAMEDUCK_OPS_DISK', detail, { need: bytes, free, freeBytes })
    }
    return { free }
  }

  async close(): Promise<void> {
    for (const [draft, stream] of this.#drafts) await this.#discard(draft, stream)
    const names = await this.#folder.names().catch(() => [])
    for (const name of names) if (name.startsWith(`.scratch-${this.#mine}`) || name.startsWith(`.draft-${this.#mine}`)) await this.#folder.remove(name)
    await this.#folder.leave()
  }

  async #finish(draft: string, name: string, stream: FileStream, about: Omit<About, 'extension'>): Promise<Artifact> {
    try {
      await ended(stream)
      await this.room(0)
      const artifact = { name, ...about, bytes: stream.bytes, sha256: stream.sha256(), createdAt: new Date().toISOString() }
      const sidecar = await this.#folder.create(`${name}.json`)
      await sidecar.writeFile(JSON.stringify(artifact)).finally(() => sidecar.close())
      await rename(this.#folder.resolve(draft), this.#folder.resolve(name))
      this.#drafts.delete(draft)
      this.#artifacts.set(name, artifact)
      return artifact
    } catch (error) {
      await this.#discard(draft, stream)
      await this.#folder.remove(`${name}.json`).catch(() => {})
      throw diskProblem(error)
    }
  }

  async #discard(draft: string, stream: FileStream): Promise<void> {
    this.#drafts.delete(draft)
    if (!stream.closed) {
      const closed = new Promise(resolve => stream.once('close', resolve))
      stream.destroy()
      await closed
    }
    await this.#folder.remove(draft)
  }

  async #prune(): Promise<void> {
    const oldest = new Date(Date.now() - this.#limits.ageMs).toISOString()
    for (const { name, createdAt } of [...this.#artifacts.values()]) if (createdAt < oldest) await this.delete(name)
  }

  /** Takes over what an earlier process left in a folder that is not one process's own, and removes what it had not finished. */
  async #adopt(folder: Folder): Promise<void> {
    for (const artifact of await found(folder)) this.#artifacts.set(artifact.name, artifact)
  }
}

function ended(stream: FileStream): Promise<void> {
  return new Promise((resolve, reject) => {
    if (stream.errored) return reject(stream.errored)
    if (stream.closed) return resolve()
    stream.once('error', reject)
    stream.once('close', () => resolve())
    return stream.writableEnded || stream.end()
  })
}

/**
 * Whether nobody will finish it. In a container every process has the same number: what bears our own, and was last written before this process
 * began, is of another that had it.
 */
async function isLeft(folder: Folder, name: string, pid: number): Promise<boolean> {
  if (pid !== process.pid) return !isAlive(pid)
  return await folder.ageMs(name).catch(() => 0) > process.uptime() * 1_000
}

/** The finished artifacts of a folder. What a process that has gone left unfinished is removed. */
async function found(folder: Folder): Promise<Artifact[]> {
  const artifacts: Artifact[] = []
  for (const name of await folder.names()) {
    const pid = UNFINISHED.exec(name)?.[1]
    if (pid !== undefined && await isLeft(folder, name, Number(pid))) await folder.remove(name)
    if (!SIDECAR.test(name)) continue
    const artifact = await read(folder, name)
    if (artifact) artifacts.push(artifact)
    // Another process may be about to put its file beside it.
    else if (await folder.ageMs(name) > 60_000) await folder.remove(name)
  }
  return artifacts
}

async function read(folder: Folder, sidecar: string): Promise<Artifact | undefined> {
  const about = await folder.open(sidecar)
  const name = sidecar.slice(0, -'.json'.length)
  const file = await folder.open(name)
  try {
    if (!about || !file) return undefined
    const artifact = JSON.parse(await about.readFile('utf8')) as Artifact
    return artifact.name === name && artifact.bytes === (await file.stat()).size ? artifact : undefined
  } catch {
    return undefined
  } finally {
    await about?.close()
    await file?.close()
  }
}

/** Removes from the folder of a process that has gone what was unfinished or is too old, and then the folder if it is empty. */
async function tidy(folder: Folder, ageMs: number): Promise<void> {
  await folder.check()
  if (await folder.isLived()) return
  const oldest = new Date(Date.now() - ageMs).toISOString()
  for (const { name, createdAt } of await found(folder)) {
    if (createdAt >= oldest) continue
    await folder.remove(name)
    await folder.remove(`${name}.json`)
  }
  await folder.clear()
  await folder.leave()
}

/**
 * Opens the private folder: 0700, ours, no symbolic link; made if it is missing. Finished artifacts in it are taken over,
 * what a crashed process left unfinished is removed (in the default folder: of every process that has gone).
 *
 * @throws {LameduckError} `ERR_LAMEDUCK_OPTION` when the folder cannot be used, with the reason.
 */
export async function openArtifacts(options: Required<FileOptions>): Promise<Artifacts> {
  const { dir, ...limits } = options
  const artifacts = new PrivateFolder(new Folder(dir), limits)
  try {
    await artifacts.start()
  } catch (error) {
    throw new LameduckError('ERR_LAMEDUCK_OPTION', `options.files.dir: ${(error as Error).message}`)
  }
  return artifacts
}
