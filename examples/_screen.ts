/** What is to be seen of a run: in a terminal a picture that is redrawn, in a pipe or a file a table that grows. */
import { isatty } from 'node:tty'
import { stripVTControlCharacters } from 'node:util'
import { createLogUpdate } from 'log-update'
import pc from 'picocolors'
import { seconds, type Colors } from './_format.ts'

/** A run at one moment. */
export interface View {
  state: string
  /** Since what the times of events are counted from. Undefined before: a pipe gets no row then. */
  ms: number | undefined
  /** How often a pipe gets a row. A change of state is shown in any case. */
  everyMs: number
  /** For a terminal: lines as wide as that at most. */
  draw(width: number, colors: Colors): string[]
  /** For a pipe: the numbers by their titles. */
  row: Readonly<Record<string, string>>
}

export interface Screen {
  readonly colors: Colors
  /** Text that stays, as wide as the terminal at most. */
  say(text: string): void
  /** Something that happened, and when. */
  event(ms: number | undefined, text: string, style?: 'quoted'): void
  /** This moment. */
  show(view: View): void
  /** The run is over: nothing to be redrawn any more. */
  clear(): void
}

export function createScreen(stdout = process.stdout): Screen {
  // A pseudo-terminal that nobody has told its size has no room for a picture.
  const live = isatty(stdout.fd) && process.env['TERM'] !== 'dumb' && stdout.columns > 0 && stdout.rows > 0
  // picocolors alone would colour a pipe, too, in CI.
  const colors = pc.createColors(live && pc.isColorSupported)
  return live ? terminal(colors, stdout) : pipe(colors, stdout)
}

/** What events begin with is as wide as a time. */
export const indent = ' '.repeat(8)
const wide = (text: string) => stripVTControlCharacters(text).length
const clock = (ms: number | undefined) => (ms === undefined ? '' : seconds(ms)).padStart(indent.length)

/** @param share From 0 to 1. */
export function bar(share: number, width: number, colors: Colors): string {
  const full = Math.max(0, width)
  const filled = Math.round(full * Math.max(0, Math.min(1, share)))
  return colors.cyan('━'.repeat(filled)) + colors.dim('─'.repeat(full - filled))
}

/** @param more Left out where it makes the line wider than that. */
export const ifItFits = (line: string, more: string, width: number) => (wide(line) + wide(more) > width ? line : line + more)

function terminal(colors: Colors, stdout: NodeJS.WriteStream): Screen {
  const live = createLogUpdate(stdout)
  const width = () => Math.max(40, stdout.columns)
  let last: View | undefined
  const draw = (view: View) => {
    // All of it: log-update 7.2 loses lines, and some above the picture, when one is added in the middle. In one write: no flicker.
    stdout.cork()
    live.clear()
    live(['', ...view.draw(width(), colors)].join('\n'))
    stdout.uncork()
  }
  const stay = (text: string) => {
    live.persist(`${text}\n`) // persist() adds a newline only where none is
    if (last) draw(last)
  }
  return {
    colors,
    say: (text) => stay(text.split('\n').map((line) => fold(line, width()).join('\n')).join('\n')),
    event(ms, text, style) {
      const quote = style ? colors.dim('│ ') : ''
      const lines = fold(text, width() - indent.length - 2 - (style ? 2 : 0))
      const styled = lines.map((line) => `  ${quote}${style ? colors.dim(line) : line}`)
      stay(styled.map((line, index) => colors.dim(index === 0 ? clock(ms) : indent) + line).join('\n'))
    },
    show(view) {
      last = view
      draw(view)
    },
    clear() {
      last = undefined
      live.clear()
      live.done()
    },
  }
}

function pipe(colors: Colors, stdout: NodeJS.WriteStream): Screen {
  const print = (line: string) => stdout.write(`${line}\n`)
  const line = (time: string, state: string, cells: [title: string, text: string][]) => {
    const columns = cells.map(([title, text]) => text.padStart(title.length + 2))
    print(`${time.padStart(indent.length)}  ${state.padEnd(10)}${columns.join('')}`)
  }
  let last: View | undefined
  return {
    colors,
    say: print,
    event: (ms, text, style) => print(`${clock(ms)}  ${style ? '│ ' : ''}${text}`),
    show(view) {
      const { ms, state, everyMs, row } = view
      if (ms === undefined || (last?.state === state && ms - (last.ms ?? 0) < everyMs)) return
      if (!last) line('', 'state', Object.keys(row).map((title) => [title, title]))
      line(clock(ms), state, Object.entries(row))
      last = view
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
