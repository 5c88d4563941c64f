import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { act, number, span } from './act.ts'
import { statusText, Steps } from './cluster-view.ts'
import { readConfig } from './config.ts'
import type { Desk } from './desk.ts'
import { EXIT, Failure } from './failure.ts'
import { duration, oneLine } from './format.ts'
import { isWindow, type Io } from './io.ts'
import { live, onInterrupt } from './live.ts'
import { loadCluster, type Cluster, type Command as Order, type ReloadResult, type Status, type Step, type StopReport } from './supervisor.ts'
import { table } from './table.ts'

/** Which supervisor is meant. */
interface Which {
  control?: string
  script?: string
  config?: string | false
}

/** How an error of src/cluster ends a command. */
export function clusterFailure(error: unknown): unknown {
  const { code, message } = error as { code?: unknown; message?: string }
  if (error instanceof Failure || typeof code !== 'string' || !code.startsWith('ERR_LAMEDUCK_CLUSTER_')) return error
  const kind = code.slice('ERR_LAMEDUCK_CLUSTER_'.length)
  const text = oneLine(message ?? '')
  if (text.startsWith('rolled-back')) return new Failure(code, text.replace('-', ' '), { exit: EXIT.rolledBack, hint: 'the release before it serves as before' })
  if (text.startsWith('mixed')) return new Failure(code, text, { exit: EXIT.failed, hint: 'two releases serve: `lameduck status` says which; the next reload replaces both' })
  return new Failure(code, text, { exit: ['OPTION', 'SCRIPT', 'ENV', 'COMMAND'].includes(kind) ? EXIT.usage : EXIT.failed })
}

/** A control socket, and who said that it is this one, unless it was found. */
interface Meant {
  path: string
  from?: string
}

/** How many supervisors are named in a hint. */
const NAMED = 3

/** A hint for one who asked for a supervisor that does not run. */
async function instead(cluster: Cluster): Promise<string> {
  const found = await cluster.findSupervisors()
  if (found.length === 0) return 'one with a control socket of its own is found by --control PATH; start one: lameduck run SCRIPT'
  const named = found.slice(0, NAMED).map(({ path, status }) => oneLine(`${status.script} (--control ${path})`))
  if (found.length > NAMED) named.push(`${found.length - NAMED} others`)
  return `one runs for ${named.join(', one for ')}`
}

/** Sends a command to the supervisor that is meant. */
async function send(cluster: Cluster, { path, from }: Meant, what: Order, listener?: Parameters<Cluster['command']>[2]): ReturnType<Cluster['command']> {
  try {
    return await cluster.command(path, what, listener)
  } catch (error) {
    const { code, message } = error as { code?: unknown; message?: string }
    if (code !== 'ERR_LAMEDUCK_CLUSTER_NOT_RUNNING' || listener?.signal?.aborted) throw clusterFailure(error)
    const text = `${oneLine(message ?? '')}${from === undefined ? '' : ` (${from})`}`
    if (/: connect (?:EACCES|EPERM)\b/.test(text)) throw new Failure(code, text, { exit: EXIT.refused, hint: 'the supervisor belongs to another user: run this as that one' })
    throw new Failure(code, text, { exit: EXIT.unreachable, hint: await instead(cluster) })
  }
}

/** The control socket that is meant: as said, else that of the only supervisor there is. */
async function findControl(cluster: Cluster, { control, script, config }: Which, io: Io): Promise<Meant> {
  if (control !== undefined) return { path: control, from: '--control' }
  // A flag wins over the variable, that over the file, unless the file is of the very script.
  const named = script === undefined ? io.env.LAMEDUCK_CONTROL : undefined
  if (named && named !== 'off') return { path: named, from: 'LAMEDUCK_CONTROL' }
  const file = await readConfig(config, io)
  const ours = script === undefined || file.script === script
  if (ours && named !== 'off' && typeof file.control === 'string') return { path: file.control, from: 'control in the configuration file' }
  const wanted = script ?? (typeof file.script === 'string' ? file.script : undefined)
  const cwd = script === undefined && typeof file.cwd === 'string' ? file.cwd : undefined
  const found = await cluster.findSupervisors(wanted, cwd)
  const [first, ...others] = found
  if (!first) {
    throw new Failure('ERR_LAMEDUCK_CLI_NONE', wanted === undefined ? 'no supervisor of this user runs' : `no supervisor of ${resolve(cwd ?? '', wanted)} runs`, { exit: EXIT.unreachable, hint: await instead(cluster) })
  }
  if (others.length === 0) return { path: first.path }
  const rows = found.map(({ path, status }) => [String(status.pid), status.script, String(status.workers.length), path])
  io.stderr.write(`${table([{ title: 'pid', right: true }, { title: 'script' }, { title: 'workers', right: true }, { title: 'control socket' }], rows)}\n`)
  throw new Failure('ERR_LAMEDUCK_CLI_SEVERAL', `${found.length} supervisors run`, { exit: EXIT.usage, hint: `say which: --control ${first.path}${script === undefined ? ', or --script SCRIPT' : ''}` })
}

/** Sends an order, and shows what happens until its end. Ctrl-C leaves; what was ordered goes on. */
async function order(desk: Desk, which: Which, what: Order, title: string): Promise<unknown> {
  const cluster = await loadCluster()
  const meant = await findControl(cluster, which, desk.io)
  const steps = new Steps(await live(desk.io.stderr), title)
  let leave = () => {}
  const over = new AbortController()
  const left = new Promise<never>((_, reject) => {
    leave = onInterrupt(desk.io, () => reject(new Failure('ERR_LAMEDUCK_CLI_INTERRUPTED', `interrupted: ${what.do} goes on over there`, { exit: EXIT.interrupted, hint: 'see `lameduck status`' })))
  })
  try {
    const listener = { step: (step: Step) => steps.step(step), waiting: (why: string | undefined) => steps.waiting(why), signal: over.signal }
    return await Promise.race([left, send(cluster, meant, what, listener)])
  } finally {
    leave()
    over.abort()
    await steps.end()
  }
}

async function watch(desk: Desk, which: Which, intervalMs: number): Promise<void> {
  const cluster = await loadCluster()
  const meant = await findControl(cluster, which, desk.io)
  const view = await live(desk.io.stdout)
  const interrupt = new AbortController()
  const stop = onInterrupt(desk.io, () => interrupt.abort())
  try {
    while (!interrupt.signal.aborted) {
      const status = await send(cluster, meant, { do: 'status' }, interrupt).catch((error: unknown) => {
        if (!interrupt.signal.aborted) throw error
      }) as Status | undefined
      if (!status) break
      if (desk.json) await desk.print(JSON.stringify(status))
      else if (isWindow(desk.io.stdout)) await view.paint(statusText(desk, status))
      else await desk.print(`${statusText(desk, status)}\n\n`)
      await sleep(intervalMs, undefined, { signal: interrupt.signal }).catch(() => {})
    }
  } finally {
    stop()
    view.end(true)
  }
}

const target = (command: Command) => command
  .option('--control <path>', 'its control socket (env: LAMEDUCK_CONTROL)')
  .option('--script <script>', 'the supervisor of this script')
  .option('--config <file>', 'configuration file (env: LAMEDUCK_CONFIG)')
  .option('--no-config', 'none, even if there is one here')
  .option('--json', 'JSON on stdout')

function addReload(program: Command, io: Io): void {
  target(program.command('reload'))
    .description('replace every worker by one of the script as it is now; waits until that is done')
    .addHelpText('after', `
New first, one at a time; the old ones go when the new ones have proved
themselves. If the new release fails, the old one stays: exit code 5.
`)
    .action(act<Which>(io, async (desk, which) => {
      const result = await order(desk, which, { do: 'reload' }, 'reloading') as ReloadResult
      const { generation, durationMs, cut, readyBefore, readyLeast } = result
      const cuts = cut > 0 ? `; ${cut} of the old ones had to be cut` : ''
      await desk.show(result, () => `reloaded: generation ${generation} in ${duration(durationMs)}; ${readyBefore} ready before, never fewer than ${readyLeast}${cuts}`)
    }))
}

/** Commands for a supervisor that runs. */
export function addClusterCommands(program: Command, io: Io): void {
  addReload(program, io)
  target(program.command('status'))
    .description('the supervisor and its workers')
    .option('-w, --watch', 'again and again, until Ctrl-C')
    .option('--interval <time>', 'between two looks (default: 1s)', span('--interval'))
    .action(act<Which & { watch?: boolean; interval?: number }>(io, async (desk, { watch: again, interval = 1_000, ...which }) => {
      if (again) return watch(desk, which, Math.max(50, interval))
      const cluster = await loadCluster()
      const status = await send(cluster, await findControl(cluster, which, io), { do: 'status' }) as Status
      await desk.show(status, () => statusText(desk, status))
    }))
  target(program.command('stop'))
    .description('let every worker drain, and end the supervisor; waits until that is done')
    .action(act<Which>(io, async (desk, which) => {
      const report = await order(desk, which, { do: 'stop' }, 'stopping') as StopReport
      await desk.show(report, () => `stopped: ${report.outcome} in ${duration(report.durationMs)}`)
    }))
  target(program.command('scale <workers>'))
    .description('another number of workers; waits until they are ready, or gone')
    .action(act<Which>(io, async (desk, which, workers = '') => {
      const wanted = number('the number of workers', { least: 1, most: 256, whole: true })(workers)
      const status = await order(desk, which, { do: 'scale', workers: wanted }, `scaling to ${wanted}`) as Status
      await desk.show(status, () => statusText(desk, status))
    }))
}

