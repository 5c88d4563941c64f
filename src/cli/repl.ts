import { createInterface, type Interface, type Key } from 'node:readline'
import type { Desk } from './desk.ts'
import { EXIT, Failure } from './failure.ts'
import { duration, harmless, oneLine } from './format.ts'
import { historyFile, readHistory, writeHistory } from './history.ts'
import { SIDE_EFFECTS } from './ops-inside.ts'
import { ReplSession, type End, type LineOptions } from './repl-session.ts'

const PROMPT = 'lameduck> '
const MORE = '... '
const COMMANDS = ['.exit', '.help', '.clear']

const HELP = `.exit    leave (also Ctrl-D, or Ctrl-C twice)
.clear   forget the lines of an expression that is not whole yet (also Ctrl-C)
.help    this
_        is the last value; Tab completes; lines that need more go on after ...`

/** A prompt, and the expression that is being typed. */
class Prompt {
  readonly #desk: Desk
  readonly #session: ReplSession
  readonly #options: LineOptions
  readonly #lines: Interface
  readonly #interactive: boolean
  #history: string[]
  #code = ''
  #running = false
  /** Ctrl-C came once, and nothing since. */
  #leaving = false
  /** By `.exit`: what was typed after it is not meant. */
  #left = false
  #closed = false
  #last: Promise<void> = Promise.resolve()

  constructor(desk: Desk, session: ReplSession, options: LineOptions) {
    const { stdin, stdout } = desk.io
    this.#desk = desk
    this.#session = session
    this.#options = options
    this.#interactive = stdin.isTTY === true && stdout.isTTY === true
    this.#history = this.#interactive ? readHistory(historyFile(desk.io)) : []
    this.#lines = createInterface({
      input: stdin,
      ...(this.#interactive && { output: stdout, terminal: true, history: [...this.#history], historySize: 1_000, removeHistoryDuplicates: true }),
      prompt: PROMPT,
      completer: (line: string, done: (error: Error | null, found: [string[], string]) => void) => void this.#complete(line).then(found => done(null, found)),
    })
    session.onConsole = (level, text) => void desk.print(harmless(level === 'log' || level === 'info' ? text : `${level}: ${text}`))
  }

  /** Until the user leaves, the input ends, or the session does. */
  async run(): Promise<End | undefined> {
    const lines = this.#lines
    lines.on('line', line => {
      this.#last = this.#last.then(() => this.#line(line))
    })
    lines.on('SIGINT', () => this.#interrupt())
    // Whatever is typed after a Ctrl-C, a line or not, is meant.
    if (this.#interactive) this.#desk.io.stdin.on('keypress', this.#typed)
    lines.on('history', history => {
      this.#history = history
    })
    lines.once('close', () => {
      this.#closed = true
    })
    const left = new Promise<void>(resolve => lines.once('close', resolve)).then(() => this.#last)
    this.#show()
    const end = await Promise.race([left.then(() => undefined), this.#session.ended])
    if (!this.#closed) lines.close()
    this.#desk.io.stdin.off('keypress', this.#typed)
    this.#remember()
    return end
  }

  #typed = (_: string | undefined, { ctrl, name }: Key = {}): void => {
    if (!(ctrl && name === 'c')) this.#leaving = false
  }

  #show(): void {
    // Newer Nodes throw when a closed one is asked.
    if (!this.#interactive || this.#closed) return
    this.#lines.setPrompt(this.#code === '' ? PROMPT : MORE)
    // What was typed ahead stays as it is.
    this.#lines.prompt(true)
  }

  async #line(line: string): Promise<void> {
    if (this.#left) return
    const word = line.trim()
    if (word === '.exit') {
      this.#left = true
      this.#lines.close()
      return
    }
    if (word === '.clear') this.#code = ''
    else if (word === '.help') await this.#desk.print(HELP)
    else if (this.#code === '' && /^\.[a-z]+$/.test(word)) await this.#desk.print(`${word} is not known; .help lists what is`)
    else if (this.#code !== '' || word !== '') await this.#evaluate(this.#code === '' ? line : `${this.#code}\n${line}`)
    this.#show()
  }

  async #evaluate(code: string): Promise<void> {
    this.#running = true
    try {
      const result = await this.#session.evaluate(code, this.#options)
      this.#code = !result.ok && result.recoverable ? code : ''
      if (this.#code !== '') return
      if (result.ok) await this.#desk.print(harmless(result.text))
      else await this.#desk.print(`Uncaught ${harmless(result.exception.text)}${result.exception.sideEffect ? `\n(${SIDE_EFFECTS})` : ''}`)
    } catch (error) {
      this.#code = ''
      const { code, message } = error as Failure
      if (code !== 'ERR_LAMEDUCK_CLI_ENDED') await this.#desk.print(`${harmless(message)} [${code}]`)
    } finally {
      this.#running = false
    }
  }

  #interrupt(): void {
    const { stdout } = this.#desk.io
    if (this.#running) {
      this.#leaving = false
      stdout.write('\n(it ends by itself, at its time limit)\n')
      return
    }
    if (this.#code === '' && this.#lines.line === '') {
      if (this.#leaving) return this.#lines.close()
      this.#leaving = true
      stdout.write('\n(Ctrl-C again, Ctrl-D or .exit leaves)\n')
    } else stdout.write('\n')
    this.#code = ''
    // Takes away what was typed of the line.
    this.#lines.write(null, { ctrl: true, name: 'e' })
    this.#lines.write(null, { ctrl: true, name: 'u' })
    return this.#show()
  }

  async #complete(line: string): Promise<[string[], string]> {
    if (this.#code === '' && line.startsWith('.')) return [COMMANDS.filter(command => command.startsWith(line)), line]
    try {
      return await this.#session.complete(this.#code === '' ? line : `${this.#code}\n${line}`)
    } catch {
      return [[], line]
    }
  }

  #remember(): void {
    if (!this.#interactive) return
    try {
      writeHistory(historyFile(this.#desk.io), this.#history)
    } catch (error) {
      void this.#desk.remark(`lameduck: the history cannot be kept: ${oneLine((error as Error).message)}`)
    }
  }
}

/**
 * A prompt in the running program.
 *
 * @throws {Failure} When it is refused, or the connection is lost. An end by idle time is none.
 */
export async function repl(desk: Desk, options: LineOptions): Promise<void> {
  const client = await desk.client()
  const session = await ReplSession.open(client)
  const { node = '', idleMs } = session.hello
  if (desk.io.stdin.isTTY) {
    await desk.print(harmless(`${client.target.name}, Node ${node}; ${options.sideEffects ? 'lines may change something' : 'read-only (--side-effects lifts that)'}${
      idleMs === undefined ? '' : `; ends when idle for ${duration(idleMs)}`}. .help helps.`))
  }
  const end = await new Prompt(desk, session, options).run()
  if (!end) {
    session.close()
    await session.ended
    return
  }
  if (end.code === 1_000) return desk.remark(`lameduck: the endpoint ended the session: ${oneLine(end.reason) || 'without a reason'}`)
  throw new Failure('ERR_LAMEDUCK_CLI_ENDED', `the session was cut off: ${oneLine(end.reason) || `code ${end.code}`}`, { exit: EXIT.unreachable })
}
