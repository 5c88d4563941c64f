/**
 * npm run bench:cluster             what a supervisor costs while nothing is reloaded: requests per second and CPU time per request
 *   --quick                         few rounds: does it run at all
 *
 * All contestants are there at once and take turns (A B C D, then D C B A, …) in runs of about a second; each run is compared with the
 * hand-written, bare cluster of its own turn, of which there are two: the second one is the control. Processes differ more than runs of one
 * do (by a fifth, for the same code), so all are started anew several times. A worker needs some 50,000 requests until V8 has optimised what serves them, and until then the
 * more code there is the more it costs: that is no cost of a service that lives for days, so as many come before the first run that counts.
 */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { buildCluster } from '../test/_cluster-build.ts'
import type { Hit, Shot } from './_cannon.ts'
import { nextMessage } from './_spawn.ts'
import { RATIO_ERROR, ratioColumns } from './_ratios.ts'
import { progress, publish } from './_table.ts'
import { contestants } from './_workers-contestants.ts'
import { cpuMsOf } from './_workers-cpu.ts'
import type { Workers } from './_workers-host.ts'

const { values: { quick } } = parseArgs({ options: { quick: { type: 'boolean', default: false } } })
const [generations, turns, warmUpTurns] = quick ? [1, 2, 1] : [8, 3, 12]
/** In each run. */
const requestsPerWorker = quick ? 1_000 : 4_000
const connections = 60

const bare = 'cluster, by hand'
const control = `${bare} again (control)`
/** What each row is called, and whose start it has. */
const entrants = {
  [bare]: bare,
  [control]: bare,
  'cluster, by hand, wrap(server)': 'cluster, by hand, wrap(server)',
  'lameduck run': 'lameduck run',
  'lameduck run, no wrap': 'lameduck run, no wrap',
  "pm2's recipe": "pm2's recipe",
}

interface Sample {
  perSecond: number
  /** Of the primary and all workers; NaN where the system does not tell. */
  cpuMicros: number
}

interface Run extends Sample {
  generation: number
  /** To the bare run of the same turn. */
  perSecondRatio: number
  cpuRatio: number
}

interface Row {
  name: string
  workers: number
  runs: Run[]
}

const cannon = fork(fileURLToPath(new URL('_cannon.ts', import.meta.url)), { execArgv: ['--import', 'tsx'] })
try {
  await nextMessage(cannon)
  using built = await buildCluster()
  const rows: Row[] = []
  for (const workers of [2, 4]) {
    const some = Object.keys(entrants).map((name): Row => ({ name, workers, runs: [] }))
    rows.push(...some)
    for (let generation = 1; generation <= generations; generation++) {
      progress(`${workers} workers: ${generation}/${generations}`)
      const started = new Map<Row, Workers>()
      try {
        for (const row of some) {
          const contestant = contestants[entrants[row.name as keyof typeof entrants]]
          if (!contestant) throw new Error(`no such contestant: ${row.name}`)
          started.set(row, await contestant.start({ built, workers, handlerMs: 0, journal: false }))
        }
        for (let turn = 0; turn < warmUpTurns; turn++) await take(started, turn)
        for (let turn = 0; turn < turns; turn++) note(generation, await take(started, turn))
      } finally {
        await Promise.all([...started.values()].map((each) => each.close()))
      }
    }
  }
  progress('')
  report(rows)
} finally {
  cannon.kill()
}

/** One run of each; there and back, so that a drift takes as much from each. */
async function take(started: Map<Row, Workers>, turn: number): Promise<Map<Row, Sample>> {
  const order = turn % 2 === 0 ? [...started] : [...started].toReversed()
  const samples = new Map<Row, Sample>()
  for (const [row, workers] of order) samples.set(row, await measure(workers, requestsPerWorker * row.workers))
  return samples
}

async function measure({ port, pid }: Workers, requests: number): Promise<Sample> {
  const before = cpuMsOf(pid) ?? NaN
  cannon.send({ port, requests, connections } satisfies Shot)
  const { seconds } = await nextMessage<Hit>(cannon)
  return { perSecond: requests / seconds, cpuMicros: ((cpuMsOf(pid) ?? NaN) - before) * 1_000 / requests }
}

function note(generation: number, samples: Map<Row, Sample>): void {
  const base = [...samples].find(([{ name }]) => name === bare)?.[1]
  for (const [{ runs }, sample] of samples) {
    const { perSecond, cpuMicros } = sample
    runs.push({
      generation, ...sample, perSecondRatio: perSecond / (base?.perSecond ?? NaN), cpuRatio: cpuMicros / (base?.cpuMicros ?? NaN),
    })
  }
}

function report(rows: Row[]): void {
  publish<Row>({
    bench: 'cluster',
    title: `Behind one listener: hello world, ${connections} keep-alive connections, ${generations * turns} runs each. ` +
      'Ratios to the hand-written bare cluster in the same turn',
    settings: { generations, turns, warmUpTurns, requestsPerWorker, connections },
    columns: [
      { title: '', cell: ({ name }) => name },
      { title: 'workers', cell: ({ workers }) => workers },
      ...ratioColumns<Row>(({ runs }) => runs),
    ],
    rows,
    partial: quick,
    notes: [
      RATIO_ERROR,
      'The client has one of the cores to itself, and may set the pace: CPU per request is the finer figure. It is that of all processes, the primary included.',
    ],
  })
}
