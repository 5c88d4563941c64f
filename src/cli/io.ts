import type { Readable, Writable } from 'node:stream'
import { Failure } from './failure.ts'

/** A stream that may be a terminal. */
export type Screen = Writable & { isTTY?: boolean; columns?: number; rows?: number }

/** All that a command has of the world around it; `process` has it, tests bring their own. */
export interface Io {
  stdin: Readable & { isTTY?: boolean }
  stdout: Screen
  stderr: Screen
  env: Record<string, string | undefined>
  cwd(): string
  /** SIGINT, SIGTERM, SIGHUP; of `status --watch`, `heap snapshot` and the like. */
  on(event: NodeJS.Signals, listener: () => void): unknown
  off(event: NodeJS.Signals, listener: () => void): unknown
}

/** Colours only where a person looks. @see https://no-color.org */
export function hasColour(stream: Screen, { NO_COLOR = '', TERM }: Io['env']): boolean {
  return stream.isTTY === true && NO_COLOR === '' && TERM !== 'dumb'
}

/** Whether a picture can be redrawn there: a pseudo-terminal that nobody has told its size has no room for one. */
export function isWindow({ isTTY, columns, rows }: Screen): boolean {
  return isTTY === true && columns !== 0 && rows !== 0
}

/** Output that cannot be written, as to a full disk. */
export function outputFailure({ code = 'without a code' }: NodeJS.ErrnoException): Failure {
  return new Failure('ERR_LAMEDUCK_CLI_FILE', `the output cannot be written (${code})`)
}

/** Nobody reads any more: the stream's `error` event tells who is to stop for that. */
const GONE = new Set(['EPIPE', 'ERR_STREAM_DESTROYED'])

/** Writes, and waits while the reader is slow. @throws {Failure} `ERR_LAMEDUCK_CLI_FILE` */
export function write(stream: Writable, text: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, (error?: NodeJS.ErrnoException | null) => {
      if (error && !GONE.has(error.code ?? '')) reject(outputFailure(error))
      else resolve()
    })
  })
}
