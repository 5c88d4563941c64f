import type { Readable } from 'node:stream'
import type { ToWorker } from './messages.ts'
import type { Env } from './options.ts'

/** What a process is started with. */
export interface ForkPlan {
  exec: string
  args: readonly string[]
  execArgv: readonly string[]
  cwd: string | undefined
  env: Env
}

/** How a process ended. */
export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

/** What a process tells of itself. */
export interface ProcEvents {
  message(message: unknown): void
  exit(exit: Exit): void
}

/** A worker process. */
export interface Proc {
  readonly pid: number
  readonly stdout: Readable | null
  readonly stderr: Readable | null
  /** Connections are handed to it from now on; before they go to others, if there are any. */
  admit(): void
  /** New connections go to others from now on, if there are any. */
  withdraw(): void
  /** Does nothing when the process has left its channel. */
  send(message: ToWorker): void
  /** Does nothing when the process has ended. */
  kill(signal: NodeJS.Signals): void
}

/** All that a supervisor needs of the world; tests bring their own. */
export interface System {
  /** @throws When there can be no further process (EAGAIN, ENOENT, …). */
  fork(plan: ForkPlan, on: ProcEvents): Proc
  /** No more connections for these, who are all there are. What had been accepted is with one of them then. */
  closeListeners(procs: readonly Proc[]): Promise<void>
  /** Milliseconds that never go back. */
  now(): number
  /** Milliseconds since 1970, as other processes see them. */
  epoch(): number
  /** @returns What calls it off. */
  after(ms: number, run: () => void): () => void
  /** From 0 to 1. */
  random(): number
}
