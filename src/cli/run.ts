import type { Command } from 'commander'
import { act } from './act.ts'
import { clusterFailure } from './cluster-commands.ts'
import { readConfig } from './config.ts'
import type { Desk } from './desk.ts'
import { Failure, usage } from './failure.ts'
import { duration, harmless } from './format.ts'
import type { Io } from './io.ts'
import { RUN_OPTIONS, fromEnvironment, metavarOf, readValue, strangers, variableOf } from './run-options.ts'
import { loadCluster, type StopReport } from './supervisor.ts'

interface RunFlags extends Record<string, unknown> {
  config?: string | false
  quiet?: boolean
}

const camel = (flag: string) => flag.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase())

/** What was said, the strongest last: file, environment, command line. */
async function settings(io: Io, flags: RunFlags, script: string | undefined, args: string[]): Promise<Record<string, unknown> & { script: string }> {
  const file = await readConfig(flags.config, io)
  const given = RUN_OPTIONS.filter(({ flag }) => flags[camel(flag)] !== undefined).map(({ name, flag }) => [name, flags[camel(flag)]])
  const all = {
    ...file,
    ...fromEnvironment(io.env),
    ...Object.fromEntries(given) as Record<string, unknown>,
    ...(script !== undefined && { script }),
    ...(args.length > 0 && { args }),
  } as Record<string, unknown>
  if (all.script === undefined) throw usage('no script', 'lameduck run SCRIPT, or `script` in lameduck.config.js')
  return all as Record<string, unknown> & { script: string }
}

/** The supervisor's own lines: on stderr, as the workers' lines are shaped. */
function loggerOf({ io }: Desk, quiet: boolean, json: boolean): { info(message: string): void; warn(message: string): void } {
  const tell = (level: string) => (message: string) => {
    if (quiet && level === 'info') return
    io.stderr.write(`${json ? JSON.stringify({ time: new Date().toISOString(), level, line: message }) : harmless(message)}\n`)
  }
  return { info: tell('info'), warn: tell('warn') }
}

/** Runs it until it ends. The exit code is its own: 0, 1, or 128 + n after a second signal. */
async function runScript(desk: Desk, flags: RunFlags, script: string | undefined, args: string[]): Promise<void> {
  const options = await settings(desk.io, flags, script, args)
  const logger = loggerOf(desk, flags.quiet === true, options.logs === 'json')
  const unknown = strangers(desk.io.env)
  if (unknown.length > 0) logger.warn(`lameduck: no option: ${unknown.join(', ')} (see lameduck run --help)`)
  const { supervise } = await loadCluster()
  let report: StopReport
  try {
    const supervisor = supervise({ ...options, logger, exit: false })
    supervisor.ready.then(() => {
      const { ready, wanted, generation } = supervisor.status()
      const control = supervisor.control === undefined ? '' : `; control socket ${supervisor.control}`
      const all = `${wanted} worker${wanted === 1 ? '' : 's'} of generation ${generation}${control}`
      if (ready < wanted) logger.warn(`lameduck: ready: only ${ready} of ${all}`)
      else logger.info(`lameduck: ready: ${all}`)
    }, () => {
      // Told at the end, with the reason.
    })
    report = await supervisor.stopped
    await supervisor.closed
  } catch (error) {
    throw clusterFailure(error)
  }
  if (report.error) throw new Failure(report.error.code, report.error.message, { exit: report.code })
  logger.info(`lameduck: stopped: ${report.outcome} in ${duration(report.durationMs)} (${report.reason})`)
  if (report.code !== 0) throw new Failure('ERR_LAMEDUCK_CLI_FORCED', `stopped, but not cleanly: ${report.reason}`, { exit: report.code, hint: 'some workers did not leave in time, or had to cut what was in flight' })
}

/** `lameduck run`. */
export function addRun(program: Command, io: Io): void {
  const run = program.command('run [script]')
    .description('run a script in several processes behind one listener, and keep them running')
    .usage('[options] [script] [-- args...]')
  for (const option of RUN_OPTIONS) {
    const { flag, says, kind } = option
    const read = (text: string, before: unknown) => {
      const value = readValue(option, text, `--${flag}`)
      return kind === 'texts' && Array.isArray(before) ? [...before as unknown[], ...value as unknown[]] : value
    }
    run.option(`--${flag} <${metavarOf(option)}>`, says, read)
  }
  run
    .argument('[args...]', 'of the script, after --')
    .option('--config <file>', 'configuration file (env: LAMEDUCK_CONFIG; default: lameduck.config.{js,mjs,cjs,ts,mts,json} here)')
    .option('--no-config', 'none, even if there is one here')
    .option('-q, --quiet', 'of the supervisor only warnings')
    .addHelpText('after', `
The script needs \`wrap(server)\` and nothing else; one without lameduck works,
too, with less. Each option is also a variable (${variableOf(RUN_OPTIONS[0] as never)},
LAMEDUCK_READY_TIMEOUT, …) and, under its name in supervise(), a key of the
configuration file. Flags win over the environment, that over the file.

Signals: SIGHUP reloads; SIGTERM and SIGINT let the workers drain, a second one
forces; SIGUSR2 is yours.

Examples:
  lameduck run app.js --workers 4
  lameduck run current/server.js --max-rss 512M -- --port 8080
  lameduck reload                     from another terminal, after a deploy
`)
    .action(act<RunFlags>(io, async (desk, flags, script, ...rest) => {
      await runScript(desk, flags, script, rest.flat())
    }))
}
