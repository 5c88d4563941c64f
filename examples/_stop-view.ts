/** A run that gets its SIGTERM, as it is to be seen. */
import { number, seconds, type Colors } from './_format.ts'
import { bar, ifItFits, indent, type View } from './_screen.ts'

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

/** @param most Connections of a run: what a full bar means. */
export function stopView(moment: Moment, most: number): View {
  const { state, ms, open, inFlight, answered, lost, ghosts } = moment
  return {
    state,
    ms,
    everyMs: 500,
    draw: (width, colors) => counters(moment, most, width, colors),
    row: {
      'open': number(open), 'in flight': number(inFlight), 'answered': number(answered),
      'lost': number(lost), 'executed but unanswered': number(ghosts),
    },
  }
}

/** Lines of a name and a number. */
export function counter(name: string, value: number, more = ''): string {
  return `${indent}  ${name.padEnd(24)}${number(value).padStart(7)}${more}`
}

/** One that ought to be 0. */
export function faults(name: string, value: number, colors: Colors): string {
  return value > 0 ? colors.red(counter(name, value)) : counter(name, value)
}

function counters(moment: Moment, most: number, width: number, colors: Colors): string[] {
  const { state, ms, open, inFlight, answered, lost, ghosts } = moment
  const since = ms === undefined ? '' : colors.dim(`, ${seconds(ms)} after SIGTERM`)
  const gauge = (value: number) => `  ${bar(value / most, Math.min(40, width - 44), colors)}`
  return [
    ifItFits(`${indent}  ${'state'.padEnd(24)}${colors.bold(state)}`, since, width),
    counter('connections open', open, gauge(open)),
    counter('requests in flight', inFlight, gauge(inFlight)),
    counter('answered', answered),
    faults('lost', lost, colors),
    faults('executed but unanswered', ghosts, colors),
  ]
}
