import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Io } from './io.ts'

/** Lines that are kept. */
const MOST = 1_000

/** Where the REPL's history is: the state folder of the XDG Base Directory Specification. */
export function historyFile({ env }: Io): string {
  const { XDG_STATE_HOME: state } = env
  return join(state?.startsWith('/') ? state : join(env.HOME || homedir(), '.local/state'), 'lameduck', 'repl_history')
}

/** Newest first, as readline has it. */
export function readHistory(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').split('\n').filter(line => line !== '').slice(0, MOST)
  } catch {
    return []
  }
}

/** What was typed may hold secrets: for this user alone. @throws When it cannot be written. */
export function writeHistory(file: string, lines: readonly string[]): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const draft = `${file}.${process.pid}`
  try {
    writeFileSync(draft, lines.slice(0, MOST).map(line => `${line.replaceAll('\n', ' ')}\n`).join(''), { mode: 0o600 })
    chmodSync(draft, 0o600)
    renameSync(draft, file)
  } catch (error) {
    rmSync(draft, { force: true })
    throw error
  }
}
