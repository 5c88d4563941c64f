/** A supervisor and its workers under load, as they are to be seen. */
import type { Status, WorkerStatus } from '../src/cluster/index.ts'
import { number, seconds, type Colors } from './_format.ts'
import { bar, ifItFits, indent, type View } from './_screen.ts'
import { counter, faults } from './_stop-view.ts'

/** A supervisor at one moment. */
export interface Moment {
  status: Status
  /** Of a generation. */
  releaseOf(generation: number): string
  /** Since the reload began. Undefined: there is none. */
  ms: number | undefined
  open: number
  /** Answered requests per second, now and at the most so far. */
  rate: number
  highest: number
  answered: number
  lost: number
  ghosts: number
  twice: number
}

/** @param most Connections of the load: what a full bar means. */
export function reloadView(moment: Moment, most: number): View {
  const { status: { state, ready, wanted }, ms, open, rate, answered, lost, twice } = moment
  return {
    state,
    ms,
    everyMs: 1_000,
    draw: (width, colors) => picture(moment, most, width, colors),
    row: {
      ' ready': `${ready} of ${wanted}`, 'open': number(open), 'per second': number(rate), 'answered': number(answered),
      'lost': number(lost), 'executed twice': number(twice),
    },
  }
}

/** The samples of a count, and how fast it grows. */
export class Rate {
  #samples: { at: number; count: number }[] = []
  highest = 0

  /** @returns Per second, over the last one. */
  next(count: number): number {
    const at = performance.now()
    this.#samples.push({ at, count })
    while (at - (this.#samples[1]?.at ?? at) >= 1_000) this.#samples.shift()
    const [first = { at, count }] = this.#samples
    // Less is too short for a figure.
    if (at - first.at < 300) return 0
    const rate = Math.round((count - first.count) / (at - first.at) * 1_000)
    this.highest = Math.max(this.highest, rate)
    return rate
  }
}

function picture(moment: Moment, most: number, width: number, colors: Colors): string[] {
  const { status: { state, ready, wanted, workers }, ms, open, rate, highest, answered, lost, ghosts, twice } = moment
  const since = ms === undefined ? '' : colors.dim(`, ${seconds(ms)} after the deploy`)
  const gauge = (share: number) => `  ${bar(share, Math.min(40, width - 44), colors)}`
  return [
    ifItFits(`${indent}  ${'state'.padEnd(24)}${colors.bold(state)}, ${ready} of ${wanted} ready`, since, width),
    colors.dim(`${indent}  ${columns('worker', 'pid', 'release', 'state', width < 72 ? '' : 'connections')}`),
    ...workers.map((worker) => row(worker, moment, most, width, colors)),
    counter('connections open', open, gauge(open / most)),
    counter('requests per second', rate, gauge(rate / Math.max(1, highest))),
    counter('answered', answered),
    faults('lost', lost, colors),
    faults('executed but unanswered', ghosts, colors),
    faults('executed twice', twice, colors),
  ]
}

const columns = (slot: string, pid: string, release: string, state: string, connections: string) =>
  `${slot.padEnd(8)}${pid.padEnd(9)}${release.padEnd(9)}${state.padEnd(10)}${connections}`

const tints: Partial<Record<WorkerStatus['state'], 'green' | 'yellow' | 'dim'>> = { ready: 'green', starting: 'yellow', retiring: 'dim' }

function row(worker: WorkerStatus, { releaseOf }: Moment, most: number, width: number, colors: Colors): string {
  const { slot, pid, generation, state, connections } = worker
  const cells = columns(String(slot), pid === null ? '-' : String(pid), releaseOf(generation), state, '')
  const tint = tints[state]
  const gauge = connections === null || width < 72 ? '' : `${number(connections).padStart(4)} ${bar(connections / most, Math.min(20, width - 64), colors)}`
  return `${indent}  ${tint ? colors[tint](cells) : cells}${gauge}`
}
