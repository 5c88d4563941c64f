import type { Command } from 'commander'
import { act, number } from './act.ts'
import type { Desk } from './desk.ts'
import { EXIT, Failure } from './failure.ts'
import { harmless, oneLine } from './format.ts'
import type { Io } from './io.ts'

interface Frame {
  function?: string
  file?: string
  line?: number
  column?: number
  async?: boolean
}

/** As `/stack` answers. */
interface Stack {
  state: string
  frames: Frame[]
  reason?: string
}

const STATES: Record<string, string> = {
  running: 'the main thread runs',
  idle: 'the main thread is idle: it waits for events',
  native: 'the main thread is in native code (a synchronous read, a GC, a snapshot), or stopped',
}

function stackText(desk: Desk, { state, frames, reason }: Stack): string {
  const lines = frames.map(({ function: name = '(anonymous)', file = '', line = 0, column = 0, async }) =>
    oneLine(`    at ${async ? 'async ' : ''}${name}${file === '' ? '' : ` (${file}:${line}:${column})`}`))
  return [desk.title(`${STATES[state] ?? oneLine(state)}${reason ? ` (${oneLine(reason)})` : ''}${lines.length > 0 ? ':' : ''}`), ...lines].join('\n')
}

/** What an expression came to, as `/eval` and `/repl` tell it. */
export type Outcome =
  | { ok: true; type: string; text: string }
  | { ok: false; exception: { text: string; line: number; column: number; sideEffect: boolean } }

/** What is to be said of one that threw because it would have changed something. */
export const SIDE_EFFECTS = 'it would change something, or V8 cannot rule that out; --side-effects lets it'

async function evaluate(desk: Desk, expression: string, sideEffects: boolean | undefined, timeout: number | undefined): Promise<void> {
  const outcome = await (await desk.client()).post<Outcome>('/eval', {
    expression,
    ...(sideEffects && { sideEffects }),
    ...(timeout !== undefined && { timeoutMs: Math.round(timeout * 1_000) }),
  }, { timeoutMs: 40_000 })
  if (outcome.ok || desk.json) await desk.show(outcome, () => outcome.ok ? harmless(outcome.text) : '')
  if (outcome.ok) return
  const { text, sideEffect } = outcome.exception
  throw new Failure('ERR_LAMEDUCK_CLI_THREW', `it threw: ${harmless(text)}`, { exit: EXIT.failed, hint: sideEffect ? SIDE_EFFECTS : undefined })
}

/** Looks inside the running program: its stack, expressions. */
export function addInside(ops: Command, io: Io): void {
  ops.command('stack').description('where the main thread is at this moment, hanging or not').action(act(io, async desk => {
    const stack = await (await desk.client()).post<Stack>('/stack')
    await desk.show(stack, () => stackText(desk, stack))
  }))
  ops.command('eval <expression>')
    .description('an expression in the running program; read-only unless told otherwise (scope eval, and switched on there)')
    .option('--side-effects', 'it may change something')
    .option('--timeout <seconds>', 'limit, promises included, up to 30 (default: 1)', number('--timeout', { least: 0.001, most: 30 }))
    .addHelpText('after', `
V8 stops an expression at the first step that might change something: that is a
guard rail, not a sandbox. Every expression is audited.

Examples:
  lameduck ops eval 'process.uptime()'
  lameduck ops eval --side-effects 'globalThis.cache.clear()'
`)
    .action(act<{ sideEffects?: boolean; timeout?: number }>(io, (desk, { sideEffects, timeout }, expression = '') => evaluate(desk, expression, sideEffects, timeout)))
  ops.command('repl')
    .description('a prompt in the running program; read-only unless told otherwise (scope eval, and switched on there)')
    .option('--side-effects', 'lines may change something')
    .option('--timeout <seconds>', 'limit of each, promises included, up to 30 (default: 1)', number('--timeout', { least: 0.001, most: 30 }))
    .action(act<{ sideEffects?: boolean; timeout?: number }>(io, async (desk, { sideEffects, timeout }) => {
      const { repl } = await import('./repl.ts')
      await repl(desk, { ...(sideEffects && { sideEffects }), ...(timeout !== undefined && { timeoutMs: Math.round(timeout * 1_000) }) })
    }))
}
