import { constants } from 'node:fs'
import { open, rename, lstat, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { chosenFolder, privateFolder } from './private-folder.ts'

/** A private file that lines are appended to: 0600, never through a symbolic link, with one rotation at a size. Not made before the first line. */
export class AuditFile {
  #path: string
  #most: number
  #isOurs: boolean
  #handle: FileHandle | undefined
  /** Which file it is: it may have been moved away by a log rotation, or by another process of ours that shares it. */
  #ino = 0
  #bytes = 0
  #lookedAt = 0
  /** The last line was written in part, or who knows: the next one begins on a line of its own. */
  #torn = false

  /** @param isOurs Its folder has a name that anybody knows, in one where anybody may have made it first. */
  constructor(path: string, most: number, isOurs: boolean) {
    this.#path = path
    this.#most = most
    this.#isOurs = isOurs
  }

  /** @throws When it cannot be opened or written. The next call tries again. */
  async append(line: string): Promise<void> {
    const bytes = Buffer.from(this.#torn ? `\n${line}` : line)
    try {
      const handle = await this.#ready(bytes.length)
      const { bytesWritten } = await handle.write(bytes)
      this.#bytes += bytesWritten
      // A full disk takes a part.
      if (bytesWritten < bytes.length) throw new Error(`${bytesWritten} of ${bytes.length} bytes were written`)
      this.#torn = false
    } catch (error) {
      this.#torn = this.#handle !== undefined
      await this.close()
      throw error
    }
  }

  async close(): Promise<void> {
    const handle = this.#handle
    this.#handle = undefined
    await handle?.close().catch(() => {})
  }

  async #ready(more: number): Promise<FileHandle> {
    if (this.#handle && performance.now() - this.#lookedAt > 1_000) await this.#look()
    if (this.#handle && this.#bytes + more > this.#most) await this.#rotate()
    return this.#handle ?? await this.#open()
  }

  async #look(): Promise<void> {
    this.#lookedAt = performance.now()
    const there = await lstat(this.#path).catch(() => undefined)
    if (there?.ino !== this.#ino) await this.close()
    // Others may write to it, too.
    else this.#bytes = there.size
  }

  async #rotate(): Promise<void> {
    await this.#look()
    // Another process of ours was first.
    if (!this.#handle || this.#bytes === 0) return
    await rename(this.#path, `${this.#path}.1`).catch((error: NodeJS.ErrnoException) => {
      // It was first after our look: the line goes into a new one.
      if (error.code !== 'ENOENT') throw error
    })
    await this.close()
  }

  async #open(): Promise<FileHandle> {
    const folder = this.#isOurs ? privateFolder : chosenFolder
    folder(dirname(this.#path))
    const { O_APPEND, O_CREAT, O_WRONLY, O_NOFOLLOW, O_NONBLOCK } = constants
    // Not blocked by a FIFO in its place.
    const handle = await open(this.#path, O_APPEND | O_CREAT | O_WRONLY | O_NOFOLLOW | O_NONBLOCK, 0o600)
    try {
      const stats = await handle.stat()
      if (!stats.isFile()) throw new Error(`${this.#path} is no file`)
      if (process.getuid && stats.uid !== process.getuid()) throw new Error(`${this.#path} belongs to user ${stats.uid}`)
      if (process.getuid && (stats.mode & 0o077) !== 0) await handle.chmod(0o600)
      this.#handle = handle
      this.#ino = stats.ino
      this.#bytes = stats.size
      this.#lookedAt = performance.now()
      return handle
    } catch (error) {
      await handle.close()
      throw error
    }
  }
}
