/** A process that has workers: our supervisor, or a primary written by hand. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Upstream } from './_proxy-instances.ts'
import { freePorts } from './_ports.ts'
import { nextMessage } from './_spawn.ts'

/** Some processes behind one listener. `restart` replaces them all. */
export interface Workers extends Upstream {
  port: number
  /** Of whoever started them. */
  pid: number
  /** See _workers-serving.ts. */
  lives: string
}

export interface HostOptions {
  program: 'supervisor' | 'primary'
  /** What the program wants to know beside the script and the number. */
  settings?: Record<string, unknown>
  script: string
  workers: number
  env?: Record<string, string>
  /** Note each request, and who serves. It costs time. Default true. */
  journal?: boolean
}

export const journalArgs = ['--import', new URL('_proxy-journal.mjs', import.meta.url).href]

/** Resolves when the workers serve. */
export async function startHost({ program, settings = {}, script, workers, env = {}, journal = true }: HostOptions): Promise<Workers> {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-workers-'))
  const [requests, lives] = [join(folder, 'journal'), join(folder, 'lives')]
  for (const file of [requests, lives]) closeSync(openSync(file, 'a'))
  const [port = 0] = await freePorts(1)
  const host = { ...settings, script, workers, execArgv: journal ? journalArgs : [] }
  const { NODE_TEST_CONTEXT: _, ...own } = process.env
  const child = fork(fileURLToPath(new URL(`_workers-${program}.mjs`, import.meta.url)), [], {
    execArgv: [], stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: { ...own, PORT: String(port), JOURNAL: requests, LIVES: lives, HOST: JSON.stringify(host), ...env },
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => { output += chunk })
  const gone = once(child, 'close')
  const close = async () => {
    child.kill('SIGINT')
    const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
    await gone
    clearTimeout(timer)
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    await nextMessage(child)
  } catch (error) {
    await close()
    throw new Error(output, { cause: error })
  }
  return {
    port, pid: child.pid ?? 0, lives, addresses: [String(port)],
    async restart() {
      const began = performance.now()
      child.send('reload')
      const { killed, failure } = await nextMessage<{ killed: boolean, failure?: string }>(child)
      if (failure !== undefined) throw new Error(`${failure}\n${output}`)
      return { drainMs: performance.now() - began, killed, code: 0 }
    },
    executed: () => readFileSync(requests, 'utf8').split('\n').filter(Boolean),
    output: () => output,
    close,
  }
}
