import { spawn, type ChildProcess } from 'node:child_process'
import { isAbsolute } from 'node:path'
import { after } from 'node:test'
import { fileURLToPath } from 'node:url'
import { assertNoWarnings, lookForWarnings } from './_warnings.ts'

// The bench starts children, too, and has no runner.
if (process.env.NODE_TEST_CONTEXT) after(assertNoWarnings)

/** How a child program ended. */
export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

/** A child program from `fixtures/`, run through tsx as the tests are; or one that is built, by its whole path. */
export class Child {
  readonly process: ChildProcess
  readonly exited: Promise<Exit>
  stdout = ''
  stderr = ''
  #lines = new Set<() => void>()

  constructor(program: string, args: string[] = [], options: { env?: NodeJS.ProcessEnv, ipc?: boolean, shell?: string, node?: string[], peer?: boolean } = {}) {
    const run = isAbsolute(program) ? [program] : ['--import', 'tsx', fileURLToPath(new URL(`fixtures/${program}`, import.meta.url))]
    const node = [...(options.node ?? []), ...run, ...args]
    // `shell` is a prefix such as a ulimit; exec keeps the pid that of node.
    const [command, all] = options.shell === undefined
      ? [process.execPath, node]
      : ['/bin/sh', ['-c', `${options.shell}; exec "$0" "$@"`, process.execPath, ...node]]
    this.process = spawn(command, all, {
      stdio: ['ignore', 'pipe', 'pipe', ...(options.ipc ? ['ipc' as const] : [])],
      env: { ...process.env, NODE_OPTIONS: '', NODE_TEST_CONTEXT: undefined, ...options.env },
    })
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
      for (const look of [...this.#lines]) look()
    })
    this.process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
      for (const look of [...this.#lines]) look()
    })
    this.exited = new Promise(resolve => this.process.once('close', (code, signal) => {
      // What another library lets Node warn of is its own affair.
      if (!options.peer) lookForWarnings(this.stderr)
      resolve({ code, signal })
    }))
  }

  /** Waits for output; on a busy machine a program that has a framework takes 20 s to start. @returns The first group of the match. */
  async says(pattern: RegExp, ms = 60_000): Promise<string> {
    const match = () => pattern.exec(`${this.stdout}\n${this.stderr}`)
    await new Promise<void>((resolve, reject) => {
      const done = (error?: Error) => {
        clearTimeout(timer)
        this.#lines.delete(look)
        if (error) reject(error)
        else resolve()
      }
      const look = () => match() && done()
      const timer = setTimeout(() => done(new Error(`no ${pattern} within ${ms} ms in:\n${this.stdout}\n${this.stderr}`)), ms)
      this.#lines.add(look)
      void this.exited.then(() => match() ? done() : done(new Error(`ended without ${pattern}:\n${this.stdout}\n${this.stderr}`)))
      look()
    })
    return match()?.[1] ?? ''
  }

  kill(signal: NodeJS.Signals): void {
    this.process.kill(signal)
  }

  /** Ends it, if it has not ended. */
  async close(): Promise<void> {
    if (this.process.exitCode === null && this.process.signalCode === null) this.process.kill('SIGKILL')
    await this.exited
  }
}
