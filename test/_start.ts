import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

/** What `npm start` runs, in a pipe. @param parts As after `npm start --`. */
export function start(t: TestContext, parts: string[] = [], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, ['--import', 'tsx', 'examples/start.ts', ...parts], {
    cwd: root, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  const output = { text: '', errors: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => { output.text += text })
  child.stderr.setEncoding('utf8').on('data', (text: string) => { output.errors += text })
  /** The pids of its services and workers, as soon as it has said this. */
  const says = async (words: string) => {
    while (!output.text.includes(words)) {
      assert.equal(child.exitCode, null, `ended without having said "${words}": ${output.errors}`)
      await sleep(20)
    }
    return pids(output.text).filter((pid) => pid !== child.pid)
  }
  return { child, output, says }
}

/** Only that of util-linux is known to do what {@link inTerminal} asks of it. */
export const lacksTerminal = !/util-linux/.test(spawnSync('script', ['--version'], { encoding: 'utf8' }).stdout ?? '') && 'no script of util-linux here'

/** Runs a program in a terminal, as from a shell: `script` has one to offer. What is written to its stdin is typed. @param size As of a window; 0 if nobody says. */
export function inTerminal(t: TestContext, program: string, args: string[], size: { columns: number, rows: number }) {
  const command = `stty cols ${size.columns} rows ${size.rows}; exec ${[process.execPath, '--import', 'tsx', program, ...args].map((word) => `'${word}'`).join(' ')}`
  const { CI: _ci, FORCE_COLOR: _force, NO_COLOR: _no, ...env } = process.env
  const child = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    cwd: root, env: { ...env, SHELL: '/bin/sh', TERM: 'xterm-256color' }, stdio: 'pipe',
  })
  t.after(() => child.kill('SIGKILL'))
  const output = { text: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => { output.text += text })
  return { child, output }
}

/** The processes that it names. */
export const pids = (text: string) => [...new Set([...text.matchAll(/\(pid (\d+)[,)]/g)].map(([, pid]) => Number(pid)))]

function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** @param least How many there were at least. */
export async function assertGone(processes: number[], least: number): Promise<void> {
  assert.ok(processes.length >= least, `only ${processes.length} processes were named`)
  for (let i = 0; i < 1_000 && processes.some(alive); i++) await sleep(20)
  assert.deepEqual(processes.filter(alive), [], 'orphans')
}
