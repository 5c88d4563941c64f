/** What is to be seen of a run: in a terminal counters that redraw, in a pipe or a file a table that grows. */
import { isatty } from 'node:tty'
import { stripVTControlCharacters } from 'node:util'
import { createLogUpdate } from 'log-update'
import pc from 'picocolors'
import { number, seconds, type Colors } from './_verdict.ts'

/** A run at one moment. */
export interface Moment {
  state: string
  /** Since SIGTERM. Undefined before. */
  ms: number | undefined
  open: number
  inFlight: number
  answered: number
  lost: number
  ghosts: number
}

export interface Screen {
  readonly colors: Colors
  /** Text that stays, as wide as the terminal at most. */
  say(text: string): void
  /** Something that happened, and when: milliseconds since SIGTERM. */
  event(ms: number | undefined, text: string, style?: 'quoted'): void
  /** The counters of this moment. */
  show(moment: Moment): void
  /** The run is over: no counters any more. */
  clear(): void
}

/** @param most Connections of a run: what a full bar means. */
export function createScreen(most: number, stdout = process.stdout): Screen {
  const live = isatty(stdout.fd) && process.env['TERM'] !== 'dumb'
  // picocolors alone would colour a pipe, too, in CI.
  const colors = pc.createColors(live && pc.isColorSupported)
  return live ? terminal(most, colors, stdout) : pipe(colors, stdout)
}

const wide = (text: string) => stripVTControlCharacters(text).length
const indent = ' '.repeat(8)
const clock = (ms: number | undefined) => (ms === undefined ? '' : seconds(ms)).padStart(indent.length)

function terminal(most: number, colors: Colors, stdout: NodeJS.WriteStream): Screen {
  const live = createLogUpdate(stdout)
  const width = () => Math.max(40, stdout.columns)
  let last: Moment | undefined
  const stay = (text: string) => {
    live.persist(`${text}\n`) // persist() adds a newline only where none is
    if (last) live(counters(last, most, width(), colors))
  }
  return {
    colors,
    say: (text) => stay(text.split('\n').map((line) => fold(line, width()).join('\n')).join('\n')),
    event(ms, text, style) {
      const bar = style ? colors.dim('│ ') : ''
      const lines = fold(text, width() - indent.length - 2 - (style ? 2 : 0))
      const styled = lines.map((line) => `  ${bar}${style ? colors.dim(line) : line}`)
      stay(styled.map((line, index) => colors.dim(index === 0 ? clock(ms) : indent) + line).join('\n'))
    },
    show(moment) {
      last = moment
      live(counters(moment, most, width(), colors))
    },
    clear() {
      last = undefined
      live.clear()
      live.done()
    },
  }
}

function counters(moment: Moment, most: number, width: number, colors: Colors): string {
  const { state, ms, open, inFlight, answered, lost, ghosts } = moment
  const since = ms === undefined || width < 60 ? '' : colors.dim(`, ${seconds(ms)} after SIGTERM`)
  const full = Math.max(0, Math.min(40, width - 44))
  const bar = (value: number) => {
    const filled = Math.round(full * Math.min(1, value / most))
    return colors.cyan('━'.repeat(filled)) + colors.dim('─'.repeat(full - filled))
  }
  const row = (name: string, value: number, more = '') => `${indent}  ${name.padEnd(24)}${number(value).padStart(7)}${more}`
  const bad = (line: string, value: number) => value > 0 ? colors.red(line) : line
  return [
    '',
    `${indent}  ${'state'.padEnd(24)}${colors.bold(state)}${since}`,
    row('connections open', open, `  ${bar(open)}`),
    row('requests in flight', inFlight, `  ${bar(inFlight)}`),
    row('answered', answered),
    bad(row('lost', lost), lost),
    bad(row('executed but unanswered', ghosts), ghosts),
  ].join('\n')
}

/** How often the counters are printed. A change of state is printed in any case. */
const everyMs = 500

function pipe(colors: Colors, stdout: NodeJS.WriteStream): Screen {
  const print = (line: string) => stdout.write(`${line}\n`)
  const row = (cells: readonly string[]) => {
    const [time = '', state = '', ...counts] = cells
    const widths = [6, 11, 10, 6, 25]
    const columns = counts.map((count, i) => count.padStart(widths[i] ?? 0))
    print(`${time.padStart(indent.length)}  ${state.padEnd(10)}${columns.join('')}`)
  }
  let last: Moment | undefined
  return {
    colors,
    say: print,
    event: (ms, text, style) => print(`${clock(ms)}  ${style ? '│ ' : ''}${text}`),
    show(moment) {
      const { state, ms, open, inFlight, answered, lost, ghosts } = moment
      if (ms === undefined || (last?.state === state && ms - (last.ms ?? 0) < everyMs)) return
      if (!last) row(['', 'state', 'open', 'in flight', 'answered', 'lost', 'executed but unanswered'])
      row([clock(ms), state, ...[open, inFlight, answered, lost, ghosts].map(number)])
      last = moment
    },
    clear() { last = undefined },
  }
}

/** Breaks at blanks, and only what is too wide: a table's blanks stay. */
function fold(text: string, width: number): string[] {
  if (wide(text) <= width) return [text]
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const line = lines.at(-1)
    if (line !== undefined && wide(line) + 1 + wide(word) <= width) lines[lines.length - 1] = `${line} ${word}`
    else lines.push(word)
  }
  return lines
}
