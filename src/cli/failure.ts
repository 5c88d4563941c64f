/** Exit codes of every command. */
export const EXIT = {
  ok: 0,
  /** It was tried and did not work. */
  failed: 1,
  /** The command line or a configuration file is wrong: nothing was done. */
  usage: 2,
  /** Nobody answers where we were told to look, or nobody could be found. */
  unreachable: 3,
  /** Somebody answers, and refuses us (401, 403, 421). */
  refused: 4,
  /** A reload that was rolled back: the release before it still serves. */
  rolledBack: 5,
  /** Ctrl-C: 128 + SIGINT. */
  interrupted: 130,
} as const

export interface FailureOptions {
  /** Default 1. */
  exit?: number
  /** What the user can do about it, as a clause. */
  hint?: string | undefined
}

/** What a command ends with when it does not end well: one line on stderr, and an exit code. */
export class Failure extends Error {
  /** For programs: `ERR_LAMEDUCK_…`. */
  readonly code: string
  readonly exit: number
  readonly hint: string | undefined

  constructor(code: string, message: string, { exit = EXIT.failed, hint }: FailureOptions = {}) {
    super(message)
    this.name = 'Failure'
    this.code = code
    this.exit = exit
    this.hint = hint
  }
}

/** A command line that cannot be meant. */
export function usage(message: string, hint?: string): Failure {
  return new Failure('ERR_LAMEDUCK_CLI_USAGE', message, { exit: EXIT.usage, hint })
}
