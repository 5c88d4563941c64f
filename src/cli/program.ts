import { Command, CommanderError } from 'commander'
import { addClusterCommands } from './cluster-commands.ts'
import { addCompletion } from './completion.ts'
import { EXIT, Failure, usage } from './failure.ts'
import { harmless } from './format.ts'
import { hasColour, type Io } from './io.ts'
import { addOps } from './ops.ts'
import { addRun } from './run.ts'
import { VERSION } from '../ops/version.ts'

/** The whole command line. */
export function makeProgram(io: Io): Command {
  const program = new Command('lameduck')
    .description('Deploys of Node HTTP services that lose no request, and a look inside while they run.')
    .version(VERSION)
    .exitOverride()
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .configureOutput({
      writeOut: text => void io.stdout.write(text),
      // Its errors are told by us, in one line; help that nobody asked for is not.
      writeErr: text => void io.stderr.write(text),
      outputError: () => {},
      getOutHelpWidth: () => io.stdout.columns ?? 100,
      getErrHelpWidth: () => io.stderr.columns ?? 100,
      getOutHasColors: () => hasColour(io.stdout, io.env),
      getErrHasColors: () => hasColour(io.stderr, io.env),
    })
    .showSuggestionAfterError()
    .addHelpText('after', `
Examples:
  lameduck run app.js --workers 4     run it behind one listener
  lameduck reload                     deploy: new workers first, no request lost
  lameduck status --watch             the workers, live
  lameduck ops connections            look into a process: who holds the drain
  lameduck ops --help                 all that can be seen and done there

Exit codes: 0 done; 1 failed; 2 wrong command line or configuration;
3 cannot reach it; 4 refused; 5 rolled back; 130 interrupted.
`)
  addRun(program, io)
  addClusterCommands(program, io)
  addOps(program, io)
  addCompletion(program, io)
  return program
}

/** The command that was meant, for a hint to its help. */
function meant(program: Command, argv: readonly string[]): string {
  let [command, path] = [program, program.name()]
  for (const word of argv) {
    const next = command.commands.find(one => one.name() === word)
    if (!next) continue
    command = next
    path = `${path} ${word}`
  }
  return path
}

function failureOf(error: unknown, help: string): Failure {
  if (error instanceof Failure) return error
  if (error instanceof CommanderError) return usage(error.message.replace(/^error: /, '').replaceAll(/\s*\n\s*/g, ' '), `see ${help} --help`)
  const { code, message, stack } = error as NodeJS.ErrnoException
  return new Failure(code ?? 'ERR_LAMEDUCK_CLI_UNEXPECTED', process.env.LAMEDUCK_DEBUG ? stack ?? String(error) : message ?? String(error), { hint: 'LAMEDUCK_DEBUG=1 shows where' })
}

/** In one line. */
export function tell(stderr: Io['stderr'], { message, hint, code }: Failure): void {
  stderr.write(`lameduck: ${harmless(message)}${hint === undefined ? '' : `; ${hint}`} [${code}]\n`)
}

/**
 * Runs one command line. Never rejects, unless stderr is gone.
 *
 * @param argv Without the program and the script.
 * @returns The exit code, see `EXIT`.
 */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  const program = makeProgram(io)
  try {
    await program.parseAsync(argv, { from: 'user' })
    return EXIT.ok
  } catch (error) {
    // Help and version are errors to commander, with exit code 0.
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT.ok
    // It has shown the help, since there was no command.
    if (error instanceof CommanderError && error.code === 'commander.help') return EXIT.usage
    const failure = failureOf(error, meant(program, argv))
    tell(io.stderr, failure)
    return failure.exit
  }
}
