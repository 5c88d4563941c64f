/**
 * (c) What a library costs while nothing drains: requests per second and CPU time per request, against the bare server.
 *
 * One per cent is less than what a machine changes its mind by within a second, and than what two identical processes
 * differ by. So: each row's server has a bare twin of the same age, which does the same number of requests; the two take
 * turns (A B B A, then B A A B) in runs of a tenth of a second; several pairs of fresh processes per row, the rows in turn
 * and in an order that is shuffled each time; medians of the ratios of neighbours. The control row is a second bare
 * server: what it shows is the error.
 */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Hit, Shot } from './_cannon.ts'
import type { Options } from './_options.ts'
import { bare, peer, type PeerName } from './_peers.ts'
import { nextMessage, spawnServer, type ServerChild } from './_spawn.ts'
import { shuffled, sum } from './_stats.ts'
import { middle, RATIO_ERROR, ratioColumns } from './_ratios.ts'
import { progress, publish } from './_table.ts'

interface Sample {
  perSecond: number
  cpuMicros: number
  /** How busy the server was: below 1 the client set the pace, and requests per second say little. */
  busy: number
}

interface Pair {
  generation: number
  perSecond: number
  cpuMicros: number
  busy: number
  /** To the bare runs beside it. */
  perSecondRatio: number
  cpuRatio: number
}

interface Row {
  name: string
  peer: PeerName
  pairs: Pair[]
}

type Measure = (server: ServerChild) => Promise<Sample>

const connections = 50
const requestsPerRun = 2_500
/** Two runs each, in all 80,000 requests: V8 has optimised what serves them after some 50,000, and until then the more code there is the more it costs. */
const warmUpQuads = 16
/** No generation is begun that would not end by then; two there are in any case. */
const budgetMs = 480_000

export async function run({ peers, quick, partial }: Options): Promise<void> {
  // Processes differ more than runs of one: many pairs of them, few quads each.
  const [most, quads] = quick ? [1, 4] : [10, 8]
  const libraries = peers.filter((name) => name !== bare && !peer(name).onlyDrains)
  const rows: Row[] = [
    { name: 'bare again (control)', peer: bare, pairs: [] },
    ...libraries.map((name) => ({ name, peer: name, pairs: [] })),
  ]
  const cannon = fork(fileURLToPath(new URL('_cannon.ts', import.meta.url)), { execArgv: ['--import', 'tsx'] })
  try {
    await nextMessage(cannon)
    const measure = measureWith(async (shot) => {
      cannon.send(shot)
      return nextMessage<Hit>(cannon)
    })
    const startedAt = performance.now()
    const fits = (next: number) => next <= 2 || (performance.now() - startedAt) * next / (next - 1) < budgetMs
    for (let generation = 1; generation <= most && fits(generation); generation++) {
      for (const row of shuffled(rows)) {
        progress(`overhead ${generation}/${most} ${row.name}`)
        const pairs = await twins(row.peer, measure, quads, generation % 2 === 0)
        row.pairs.push(...pairs.map((pair) => ({ generation, ...pair })))
      }
    }
  } finally {
    cannon.kill()
  }
  progress('')
  const generations = (rows[0]?.pairs.length ?? 0) / quads
  show(rows, { generations, quads, connections, requestsPerRun, warmUpQuads }, partial)
}

async function twins(name: PeerName, measure: Measure, quads: number, controlFirst: boolean) {
  const first = await spawnServer({ peer: controlFirst ? bare : name })
  const second = await spawnServer({ peer: controlFirst ? name : bare })
  const [control, server] = controlFirst ? [first, second] : [second, first]
  try {
    for (let i = 0; i < warmUpQuads; i++) await quad(measure, control, server, i % 2 === 0)
    const pairs = []
    for (let i = 0; i < quads; i++) pairs.push(await quad(measure, control, server, i % 2 === 0))
    return pairs
  } finally {
    await Promise.all([first.dispose(), second.dispose()])
  }
}

/** A B B A, or B A A B: a drift of the machine takes as much from the one as from the other. */
async function quad(measure: Measure, control: ServerChild, server: ServerChild, controlFirst: boolean) {
  const order = controlFirst ? [control, server, server, control] : [server, control, control, server]
  const samples: { server: ServerChild, sample: Sample }[] = []
  for (const next of order) samples.push({ server: next, sample: await measure(next) })
  const mean = (of: ServerChild, value: (sample: Sample) => number) =>
    sum(samples.filter((entry) => entry.server === of).map(({ sample }) => value(sample))) / 2

  const [perSecond, cpuMicros] = [(sample: Sample) => sample.perSecond, (sample: Sample) => sample.cpuMicros]
  return {
    perSecond: mean(server, perSecond),
    cpuMicros: mean(server, cpuMicros),
    busy: mean(server, ({ busy }) => busy),
    perSecondRatio: mean(server, perSecond) / mean(control, perSecond),
    cpuRatio: mean(server, cpuMicros) / mean(control, cpuMicros),
  }
}

function measureWith(fire: (shot: Shot) => Promise<Hit>): Measure {
  return async (server) => {
    const before = await server.ask('cpu')
    const { seconds } = await fire({ port: server.port, requests: requestsPerRun, connections })
    const after = await server.ask('cpu')
    const cpuMicros = after.cpuMicros - before.cpuMicros
    return {
      perSecond: requestsPerRun / seconds,
      cpuMicros: cpuMicros / requestsPerRun,
      busy: cpuMicros / 1e6 / seconds,
    }
  }
}

function show(rows: Row[], settings: Record<string, unknown>, partial: boolean): void {
  publish<Row>({
    bench: 'overhead',
    title: `Overhead: hello world, ${connections} keep-alive connections, ${rows[0]?.pairs.length} paired runs each. ` +
      'Ratios to the bare runs beside them',
    settings,
    columns: [
      { title: '', cell: ({ name }) => name },
      ...ratioColumns<Row>(({ pairs }) => pairs),
      { title: 'server busy', cell: ({ pairs }) => middle(pairs.map(({ busy }) => busy), 2) },
    ],
    rows,
    partial,
    notes: [
      RATIO_ERROR,
      'Server busy: CPU time over wall time. Below 1 the client sets the pace: then CPU per request is the figure.',
    ],
  })
}
