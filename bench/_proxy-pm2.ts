/** pm2 with a home of its own, and two processes of an app in cluster mode. */
import { execFile } from 'node:child_process'
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { freePorts } from './_ports.ts'
import { journalArgs, type Workers } from './_workers-host.ts'
import { alive } from './_workers-serving.ts'

const run = promisify(execFile)
const require = createRequire(import.meta.url)

interface Ecosystem {
  apps: [Record<string, unknown>]
}

export interface Pm2 extends Workers {
  /** Runs a command of pm2. @returns Its output. */
  command(...args: string[]): Promise<string>
}

export interface Pm2Options {
  /** The app. */
  script: string
  /** In place of the example's settings; undefined: none, what pm2 does by itself. */
  settings?: Record<string, unknown>
  env?: Record<string, string>
  /** Note each request, and who serves. It costs time. Default true. */
  journal?: boolean
}

/** The example's ecosystem.config.cjs with another script and port; the rest of it is what is measured. */
export async function startPm2({ script, settings = {}, env = {}, journal: noted = true }: Pm2Options): Promise<Pm2> {
  const home = mkdtempSync(join(tmpdir(), 'lameduck-pm2-'))
  const [journal, lives] = [join(home, 'journal'), join(home, 'lives')]
  for (const file of [journal, lives]) closeSync(openSync(file, 'a'))
  const [port = 0] = await freePorts(1)
  const { apps: [example] } = require('../examples/pm2/ecosystem.config.cjs') as Ecosystem
  const app = {
    ...example, ...settings, script,
    node_args: noted ? journalArgs : [],
    env: { PORT: String(port), JOURNAL: journal, LIVES: lives, ...env },
  }
  const config = join(home, 'ecosystem.config.cjs')
  writeFileSync(config, `module.exports = ${JSON.stringify({ apps: [app] })}\n`)

  const command = (...args: string[]) => runPm2(home, args)
  let ended: Promise<void> | undefined
  const pm2: Pm2 = {
    port, lives, addresses: [String(port)], command,
    get pid() {
      return daemon(home) ?? 0
    },
    async restart() {
      const began = performance.now()
      await command('reload', 'app')
      return { drainMs: performance.now() - began, killed: /sending SIGKILL/.test(log(home)), code: 0 }
    },
    executed: () => readFileSync(journal, 'utf8').split('\n').filter(Boolean),
    output: () => log(home),
    close: () => ended ??= end(home),
  }
  try {
    await command('start', config)
    return pm2
  } catch (error) {
    await pm2.close()
    throw error
  }
}

async function runPm2(home: string, args: string[]): Promise<string> {
  const binary = fileURLToPath(new URL('../node_modules/pm2/bin/pm2', import.meta.url))
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const { stdout, stderr } = await run(process.execPath, [binary, ...args], {
    env: { ...env, PM2_HOME: home, PM2_DISCRETE_MODE: 'true', NODE_OPTIONS: '', CI: '1' }, timeout: 60_000,
  })
  return stdout + stderr
}

/** The log of pm2 itself. */
function log(home: string): string {
  const file = join(home, 'pm2.log')
  return existsSync(file) ? readFileSync(file, 'utf8') : ''
}

/** `pm2 kill` ends the processes and then the daemon; what is left after that is killed by the pids that pm2 wrote down. */
async function end(home: string): Promise<void> {
  const pid = daemon(home)
  try {
    await runPm2(home, ['kill'])
  } catch {
    // What counts is what lives.
  }
  if (pid !== undefined && alive(pid)) process.kill(pid, 'SIGKILL')
  rmSync(home, { recursive: true, force: true, maxRetries: 5 })
}

/** The pid of pm2 itself. */
function daemon(home: string): number | undefined {
  const file = join(home, 'pm2.pid')
  return existsSync(file) ? Number(readFileSync(file, 'utf8')) : undefined
}
