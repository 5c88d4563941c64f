import type { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import type { Command } from 'commander'
import { act, number, span } from './act.ts'
import { listIn } from './answers.ts'
import { details } from './details.ts'
import type { Desk } from './desk.ts'
import { Failure, usage } from './failure.ts'
import { duration, harmless } from './format.ts'
import { write, type Io } from './io.ts'
import { live } from './live.ts'
import { addRules } from './ops-rules.ts'

interface Logger {
  name: string
  level: string
  levels?: string[]
  before?: string
  until?: string
}

function loggersText(desk: Desk, loggers: Logger[]): string {
  if (loggers.length === 0) return 'no loggers'
  return desk.table([{ title: 'logger' }, { title: 'level' }, { title: 'back to' }, { title: 'at' }, { title: 'levels' }],
    loggers.map(({ name, level, before = '-', until = '-', levels = [] }) => [name, level, before, until, levels.join(' ') || '-']))
}

function addLoggers(ops: Command, io: Io): void {
  const loggers = ops.command('loggers').description("the application's loggers and their levels")
    .action(act(io, async desk => {
      const answer = await (await desk.client()).get('/loggers')
      await desk.show(answer, () => loggersText(desk, listIn(answer, 'loggers')))
    }))
  loggers.command('set <name> <level>').description('another level, for a while')
    .option('--ttl <time>', 'after that it is as before (default: 10m)', span('--ttl'))
    .addHelpText('after', '\nExample:\n  lameduck ops loggers set app debug --ttl 5m\n')
    .action(act<{ ttl?: number }>(io, async (desk, { ttl }, name = '', level = '') => {
      const answer = await (await desk.client()).json<Logger>('PUT', `/loggers/${encodeURIComponent(name)}`, { body: { level, ...(ttl !== undefined && { ttlMs: ttl }) } })
      await desk.show(answer, () => loggersText(desk, [answer]))
    }))
  loggers.command('reset <name>').description('back to the level before').action(act(io, async (desk, _, name = '') => {
    const answer = await (await desk.client()).json<Logger>('DELETE', `/loggers/${encodeURIComponent(name)}`)
    await desk.show(answer, () => loggersText(desk, [answer]))
  }))
}

interface Drained {
  outcome: 'clean' | 'forced' | 'resumed'
  durationMs: number
}

function addVerbs(ops: Command, io: Io): void {
  const verb = (name: string, text: string) => ops.command(name).description(text).action(act(io, async desk => {
    const answer = await (await desk.client()).post<{ state?: string }>(`/${name}`)
    await desk.show(answer, () => `state: ${answer.state ?? '-'}`)
  }))
  verb('lameduck', 'out of rotation, serving on, until resume or drain')
  verb('resume', 'back into rotation, from lame duck only')
  ops.command('drain').description('the whole drain; ends when that is over, with its report')
    .option('--exit', 'the process ends afterwards, as by SIGTERM')
    .option('--deadline <time>', 'hard limit, hooks included', span('--deadline'))
    .option('--lameduck <time>', 'how long to serve on, unready', span('--lameduck'))
    .action(act<{ exit?: boolean; deadline?: number; lameduck?: number }>(io, async (desk, { exit, deadline, lameduck }) => {
      const client = await desk.client()
      const view = await live(io.stderr)
      const began = Date.now()
      const paint = () => void view.paint(`draining (${duration(Date.now() - began)}); what it waits for: lameduck ops connections`, 'draining')
      paint()
      const timer = setInterval(paint, 500)
      try {
        const report = await client.post<Drained>('/drain', undefined, { query: { exit, deadlineMs: deadline, lameduckMs: lameduck }, timeoutMs: 0 })
        await desk.show(report, () => details(report))
      } finally {
        clearInterval(timer)
        view.end()
      }
    }))
}

function object(json: string | undefined, what: string): object {
  if (json === undefined) return {}
  try {
    const value = JSON.parse(json) as unknown
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  } catch {
    // Said below.
  }
  throw usage(`${what} is no JSON object: ${json}`)
}

async function all(stream: Readable): Promise<string> {
  let text = ''
  for await (const chunk of stream.setEncoding('utf8') as AsyncIterable<string>) text += chunk
  return text
}

const METHODS = ['GET', 'POST', 'PUT', 'DELETE']

function addCall(ops: Command, io: Io): void {
  ops.command('call <method> <path> [json]')
    .description("the application's own maintenance work (ops.register), or any path of the endpoint; - reads the JSON from stdin")
    .option('--timeout <seconds>', 'until it answers', number('--timeout', { least: 1, most: 3_600 }), 60)
    .addHelpText('after', `
Examples:
  lameduck ops call POST /cache/clear '{"name":"users"}'
  lameduck ops call GET '/orders/stuck?limit=10'
`)
    .action(act<{ timeout: number }>(io, async (desk, { timeout }, name = '', path = '', json) => {
      const method = name.toUpperCase()
      if (!METHODS.includes(method)) throw usage(`the method is '${name}'; allowed: ${METHODS.join(', ')}`)
      if (!path.startsWith('/')) throw usage(`the path is '${path}'; allowed: one that begins with /`)
      const body = json === undefined ? undefined : object(json === '-' ? await all(io.stdin) : json, 'the body')
      const answer = await (await desk.client()).open(method, path, { accept: 'application/json, */*', timeoutMs: timeout * 1_000, anyStatus: true, ...(body && { body }) })
      await showAnswer(desk, answer)
      const { statusCode = 0 } = answer
      if (statusCode >= 300) throw new Failure('ERR_LAMEDUCK_CLI_ANSWER', `${method} ${path}: status ${statusCode}`)
    }))
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** As it is in a pipe; to a person, JSON as a table, and nothing that could steer the terminal. */
async function showAnswer(desk: Desk, answer: IncomingMessage): Promise<void> {
  const { stdout } = desk.io
  const isJson = /^application\/json\b/.test(answer.headers['content-type'] ?? '')
  if (!desk.json && isJson) {
    const text = await all(answer)
    const value = parsed(text)
    // What the application calls JSON may be something else.
    if (value === undefined) await write(stdout, stdout.isTTY ? harmless(text) : text)
    else await desk.print(details(value))
    return
  }
  if (stdout.isTTY) {
    // As it comes: an event stream does not end. By characters: a piece may end within one.
    answer.setEncoding('utf8')
    for await (const text of answer as AsyncIterable<string>) await write(stdout, harmless(text))
  } else for await (const chunk of answer as AsyncIterable<Buffer>) await write(stdout, chunk)
}

/** What changes the process's course. */
export function addControl(ops: Command, io: Io): void {
  addVerbs(ops, io)
  addLoggers(ops, io)
  addRules(ops, io)
  addCall(ops, io)
}
