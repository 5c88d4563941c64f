/**
 * npm run bench:reload              reloads under load: our supervisor, `pm2 reload` and a primary written by hand, with the same app and clients
 *   --row TEXT (may be repeated)    only those whose names begin so, such as `--row pm2`: shown, not kept
 *   --reloads N                     default 10
 *   --think MS                      mean think time of a client, default 20
 *   --quick                         2 workers, 50 connections, 2 reloads: does it run at all
 */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { buildCluster } from '../test/_cluster-build.ts'
import { rollingRestart, type Rolling, type Span } from './_proxy-rolling.ts'
import { median, quantile, sum } from './_stats.ts'
import { fixed, progress, publish } from './_table.ts'
import { contestants, type Contestant } from './_workers-contestants.ts'
import { cpuMsOf } from './_workers-cpu.ts'
import { Serving } from './_workers-serving.ts'

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    reloads: { type: 'string' },
    row: { type: 'string', multiple: true, default: [] },
    think: { type: 'string', default: '20' },
  },
})
const { quick } = values
const reloads = Number(values.reloads ?? (quick ? 2 : 10))
const [workers, connections, paceMs] = quick ? [2, 50, 1_500] : [4, 200, 4_000]
const [thinkMs, handlerMs] = [Number(values.think), 5]

interface Row extends Rolling {
  name: string
  /** The fewest workers that served while it was reloaded. */
  least: number
  /** For each reload: requests per second, to those of the calm before and behind it. */
  throughput: number[]
  /** For each reload: the CPU time that it took beside that of its requests. */
  extraCpuMs: number[]
}

const asked = (name: string) => values.row.length === 0 || values.row.some((text) => name.startsWith(text))
const entrants = Object.entries(contestants).filter(([name]) => asked(name))
if (entrants.length === 0) throw new Error(`no such row: ${Object.keys(contestants).join('; ')}`)
using built = await buildCluster()
const rows: Row[] = []
for (const [name, contestant] of entrants) {
  progress(name)
  rows.push(await measure(name, contestant))
}
progress('')
report()

async function measure(name: string, { start }: Contestant): Promise<Row> {
  const started = await start({ built, workers, handlerMs })
  const serving = new Serving(started.lives)
  try {
    const rolling = await rollingRestart({
      port: started.port, upstream: started, restarts: reloads, clients: connections / 2, thinkMs, paceMs, warmUpMs: paceMs,
      cpuMs: () => cpuMsOf(started.pid),
    })
    const least = serving.least(rolling.calm[0]?.at ?? NaN)
    return { name, least, throughput: throughput(rolling), extraCpuMs: extraCpuMs(rolling), ...rolling }
  } finally {
    serving.stop()
    await started.close()
  }
}

/** The calm on both sides: a machine that becomes slower takes from both. */
function around({ calm }: Rolling, index: number): Pick<Span, 'ms' | 'ok'> & { cpuMs: number } {
  const both = calm.slice(index, index + 2)
  return { ms: sum(both.map(({ ms }) => ms)), ok: sum(both.map(({ ok }) => ok)), cpuMs: sum(both.map(({ cpuMs = NaN }) => cpuMs)) }
}

function throughput(rolling: Rolling): number[] {
  return rolling.restarts.map(({ span }, index) => {
    const calm = around(rolling, index)
    return (span.ok / span.ms) / (calm.ok / calm.ms)
  })
}

function extraCpuMs(rolling: Rolling): number[] {
  return rolling.restarts.map(({ span }, index) => {
    const calm = around(rolling, index)
    return (span.cpuMs ?? NaN) - span.ok * calm.cpuMs / calm.ok
  })
}

function report(): void {
  const { version } = JSON.parse(readFileSync(new URL('../node_modules/pm2/package.json', import.meta.url), 'utf8')) as { version: string }
  const both = ({ get, post }: Row, of: (fates: Row['get']) => number) => of(get) + of(post)
  const percent = (share: number) => fixed(100 * share)
  publish<Row>({
    bench: 'reload',
    title: `${reloads} reloads of ${workers} workers under ${connections} keep-alive connections, GET and POST, think time ${thinkMs} ms`,
    settings: { pm2: version, reloads, workers, connections, thinkMs, handlerMs, paceMs },
    columns: [
      { title: '', cell: ({ name }) => name },
      { title: 'sent', cell: (row) => both(row, ({ sent }) => sent) },
      { title: 'failed', cell: (row) => both(row, ({ failed }) => failed) },
      { title: 'POSTs', cell: ({ post }) => post.failed },
      { title: 'hung', cell: (row) => both(row, ({ hung }) => hung) },
      { title: 'ghosts', cell: (row) => both(row, ({ executed }) => executed) },
      { title: 'twice', cell: (row) => both(row, ({ twice }) => twice) },
      { title: 'fewest serving', cell: ({ least }) => least },
      { title: 'killed', cell: ({ restarts }) => restarts.filter(({ killed }) => killed).length },
      { title: 'reload, s', cell: ({ restarts }) => fixed(median(restarts.map(({ drainMs }) => drainMs)) / 1_000, 1) },
      { title: 'req/s before', cell: ({ calm }) => fixed(median(calm.map(({ ok, ms }) => ok / ms * 1_000))) },
      { title: 'while reloading, %', cell: (row) => percent(median(row.throughput)) },
      { title: 'quartiles', cell: (row) => [0.25, 0.75].map((q) => percent(quantile(row.throughput, q))).join('–') },
      { title: 'CPU s more', cell: (row) => fixed(median(row.extraCpuMs) / 1_000, 1) },
    ],
    rows,
    partial: quick || values.row.length > 0,
    notes: [
      'failed: lost, refused, 503 or another status. hung: of those, never answered, the connection open. ghost: executed, never answered.',
      'fewest serving: workers that listen, live, and were not told to go. killed: reloads in which a worker had to be.',
      'while reloading: requests per second to those of the calm before and behind it. The clients share the cores with the workers.',
      'CPU s more: what a reload takes beside the requests, in the supervisor and all that it starts.',
      ...entrants.flatMap(([name, { what }]) => what === undefined ? [] : [`${name}: ${what}.`]),
    ],
  })
}
