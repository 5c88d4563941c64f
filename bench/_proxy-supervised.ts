/** An example's app under lameduck's supervisor, by the command line: `lameduck run`, `lameduck reload`. */
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { pathToFileURL } from 'node:url'
import { buildCli, buildCluster } from '../test/_cluster-build.ts'
import { exampleApp } from './_proxy-examples.ts'
import type { Program, Restart } from './_proxy-instances.ts'
import type { ProxyName } from './_proxy-start.ts'
import type { SupervisedVariant } from './_proxy-variants.ts'

const run = promisify(execFile)

/** What `lameduck reload --json` says, as far as it matters here. */
interface Reload {
  outcome: string
  readyBefore: number
  readyLeast: number
}

export interface Supervised extends Program, Disposable {
  /** What the reloads said, in order. */
  readonly reloads: readonly Reload[]
  /** The workers of the one on this port, or path. */
  pids(port: string): Promise<number[]>
}

export interface SupervisedOptions {
  /** Default 2. */
  workers?: number
  /** More of `lameduck run`'s options. Default none: its defaults. */
  options?: readonly string[]
}

/** @param variant With `whole` a restart is that of the supervisor; otherwise it is `lameduck reload`. */
export async function supervisedProgram(proxy: ProxyName, variant: SupervisedVariant, settings: SupervisedOptions = {}): Promise<Supervised> {
  const { workers = 2, options = [] } = settings
  const built = await buildCluster()
  const cli = await buildCli(built)
  const app = exampleApp(`${proxy}/app.mjs`, pathToFileURL(join(built.folder, 'index.js')).href, variant.app)
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-supervised-'))
  const control = (port: string) => ['--control', join(folder, basename(port))]
  const command = (...args: string[]) => run(process.execPath, [cli, ...args], { timeout: 120_000 })
  const nodeOptions = app.args('', '').slice(0, -1)
  const reloads: Reload[] = []

  const reload = async (port: string): Promise<Restart> => {
    const began = performance.now()
    const { stdout, stderr } = await command('reload', ...control(port), '--json')
    reloads.push(JSON.parse(stdout) as Reload)
    return { drainMs: performance.now() - began, killed: /exited: SIGKILL/.test(stderr), code: 0 }
  }
  return {
    args: (port) => [
      cli, 'run', app.file, '--no-config', '--workers', String(workers), ...control(port),
      `--node-option=${nodeOptions.join('=')}`, ...options,
    ],
    ...app.env && { env: app.env },
    ...!variant.whole && { reload },
    // The second one forces: no worker is left behind.
    abort: ['SIGTERM', 'SIGINT'],
    reloads,
    async pids(port) {
      const { stdout } = await command('status', ...control(port), '--json')
      return (JSON.parse(stdout) as { workers: { pid: number }[] }).workers.map(({ pid }) => pid)
    },
    [Symbol.dispose]() {
      app[Symbol.dispose]()
      built[Symbol.dispose]()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
