import { createHash, type Hash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { Writable } from 'node:stream'
import { Problem } from '../http/problem.ts'
import { diskProblem } from './folder.ts'

/** How much may still be written, asked before every piece. @throws {Problem} 507 */
export type Allowance = (written: number) => Promise<void> | void

/** After so many bytes the disk is looked at again. */
const LOOK_EVERY = 16 * 2 ** 20

/** A new file, hashed and counted while it is written. */
export class FileStream extends Writable {
  bytes = 0
  #file: FileHandle
  #hash: Hash = createHash('sha256')
  #allowance: Allowance
  #nextLook = 0

  constructor(file: FileHandle, allowance: Allowance) {
    super({ highWaterMark: 65_536 })
    this.#file = file
    this.#allowance = allowance
  }

  /** Hex. Once, when all is written. */
  sha256(): string {
    return this.#hash.digest('hex')
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#append(chunk).then(() => done(), (error: unknown) => done(diskProblem(error)))
  }

  override _final(done: (error?: Error | null) => void): void {
    // A full disk may show only now.
    this.#file.datasync().then(() => done(), (error: unknown) => done(diskProblem(error)))
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#file.close().then(() => done(error), () => done(error))
  }

  async #append(chunk: Buffer): Promise<void> {
    if (this.bytes >= this.#nextLook) {
      this.#nextLook = this.bytes + LOOK_EVERY
      await this.#allowance(this.bytes)
    }
    for (let at = 0; at < chunk.length;) {
      const { bytesWritten } = await this.#file.write(chunk, at, chunk.length - at)
      if (bytesWritten === 0) throw new Problem(507, 'ERR_LAMEDUCK_OPS_DISK', 'the disk takes nothing more')
      at += bytesWritten
    }
    this.#hash.update(chunk)
    this.bytes += chunk.length
  }
}
