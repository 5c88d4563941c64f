/**
 * What listening to GCs costs: hello world with some garbage per request and a small young generation, so that there are hundreds
 * of minor GCs a second, which is the worst case. As in overhead.ts each row has a bare twin, the two take turns (A B B A, then
 * B A A B), and the control row is a second bare server: what it shows is the error.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build } from 'tsup'
import type { Hit, Shot } from './_cannon.ts'
import type { GCUsage, Hook } from './_gc-server.ts'
import type { Options } from './_options.ts'
import { nextMessage } from './_spawn.ts'
import { median, quantile, shuffled, sum } from './_stats.ts'
import { fixed, progress, publish } from './_table.ts'

interface Sample { perSecond: number, cpuMicros: number, gcsPerSecond: number }
interface Pair extends Sample { perSecondRatio: number, cpuRatio: number, rssMB: number }
interface Row { name: string, hook: Hook, pairs: Pair[] }
interface Server { port: number, child: ChildProcess }

const connections = 50
const requestsPerRun = 2_500
const semiSpaceMB = 1
const warmUpQuads = 3

export async function run({ quick, partial }: Options): Promise<void> {
  const [generations, quads] = quick ? [1, 2] : [6, 4]
  const rows: Row[] = [
    { name: 'bare again (control)', hook: 'bare', pairs: [] },
    { name: 'bare PerformanceObserver', hook: 'counter', pairs: [] },
    { name: 'onGC, perf_hooks', hook: 'perf_hooks', pairs: [] },
    { name: 'endpoint\'s outpost', hook: 'outpost', pairs: [] },
    ...process.versions.node.startsWith('20.') ? [{ name: 'onGC, gc-stats', hook: 'gc-stats' as const, pairs: [] }] : [],
    { name: 'onGC, perf_hooks, exact', hook: 'exact', pairs: [] },
  ]
  const folder = await buildGC()
  const cannon = fork(fileURLToPath(new URL('_cannon.ts', import.meta.url)), { execArgv: ['--import', 'tsx'] })
  try {
    await nextMessage(cannon)
    for (let generation = 1; generation <= generations; generation++) {
      for (const row of shuffled(rows)) {
        progress(`gc ${generation}/${generations} ${row.name}`)
        row.pairs.push(...await twins(row.hook, cannon, quads, generation % 2 === 0))
      }
    }
  } finally {
    cannon.kill()
    rmSync(folder, { recursive: true, force: true })
  }
  progress('')
  show(rows, { generations, quads, connections, requestsPerRun, semiSpaceMB, warmUpQuads }, partial)
}

/** As users get it: tsx gives every function its name by a call at run time. */
async function buildGC(): Promise<string> {
  const outDir = mkdtempSync(join(tmpdir(), 'lameduck-gc-bench-'))
  const at = (file: string) => fileURLToPath(new URL(`../src/ops/gc/${file}.ts`, import.meta.url))
  await build({
    entry: { gc: at('index'), outpost: at('outpost'), link: fileURLToPath(new URL('../src/ops/link.ts', import.meta.url)) },
    outDir, config: false, format: 'esm', target: 'node20', splitting: true, silent: true, outExtension: () => ({ js: '.mjs' }),
  })
  process.env['BENCH_GC'] = pathToFileURL(outDir).href
  return outDir
}

async function spawn(hook: Hook): Promise<Server> {
  const program = fileURLToPath(new URL('_gc-server.ts', import.meta.url))
  const cwd = fileURLToPath(new URL('..', import.meta.url))
  const child = fork(program, [hook], { cwd, execArgv: ['--import', 'tsx', `--max-semi-space-size=${semiSpaceMB}`] })
  return { child, port: (await nextMessage<{ port: number }>(child)).port }
}

async function twins(hook: Hook, cannon: ChildProcess, quads: number, controlFirst: boolean): Promise<Pair[]> {
  const first = await spawn(controlFirst ? 'bare' : hook)
  const second = await spawn(controlFirst ? hook : 'bare')
  const [control, server] = controlFirst ? [first, second] : [second, first]
  try {
    const pairs: Pair[] = []
    for (let i = 0; i < warmUpQuads + quads; i++) {
      const pair = await quad(cannon, control, server, i % 2 === 0)
      if (i >= warmUpQuads) pairs.push(pair)
    }
    return pairs
  } finally {
    first.child.kill()
    second.child.kill()
  }
}

async function quad(cannon: ChildProcess, control: Server, server: Server, controlFirst: boolean): Promise<Pair> {
  const order = controlFirst ? [control, server, server, control] : [server, control, control, server]
  const samples: { of: Server, sample: Sample }[] = []
  for (const next of order) samples.push({ of: next, sample: await measure(cannon, next) })
  const mean = (of: Server, value: (sample: Sample) => number) =>
    sum(samples.filter(entry => entry.of === of).map(({ sample }) => value(sample))) / 2
  const both = (value: (sample: Sample) => number) => [mean(server, value), mean(server, value) / mean(control, value)] as const
  const [perSecond, perSecondRatio] = both(sample => sample.perSecond)
  const [cpuMicros, cpuRatio] = both(sample => sample.cpuMicros)
  const { rss } = await usage(server)
  return { perSecond, cpuMicros, perSecondRatio, cpuRatio, gcsPerSecond: mean(server, sample => sample.gcsPerSecond), rssMB: rss / 2 ** 20 }
}

async function usage({ child }: Server): Promise<GCUsage> {
  child.send('usage')
  return nextMessage<GCUsage>(child)
}

async function measure(cannon: ChildProcess, server: Server): Promise<Sample> {
  const before = await usage(server)
  cannon.send({ port: server.port, requests: requestsPerRun, connections } satisfies Shot)
  const { seconds } = await nextMessage<Hit>(cannon)
  const after = await usage(server)
  return {
    perSecond: requestsPerRun / seconds,
    cpuMicros: (after.cpuMicros - before.cpuMicros) / requestsPerRun,
    gcsPerSecond: (after.gcs - before.gcs) / seconds,
  }
}

function show(rows: Row[], settings: Record<string, unknown>, partial: boolean): void {
  const mid = (row: Row, of: (pair: Pair) => number, digits: number) => fixed(median(row.pairs.map(of)), digits)
  const quartiles = (row: Row, of: (pair: Pair) => number) =>
    `${fixed(quantile(row.pairs.map(of), 0.25), 3)}–${fixed(quantile(row.pairs.map(of), 0.75), 3)}`
  publish<Row>({
    bench: 'gc',
    title: `GC hook: hello world with garbage, ${connections} keep-alive connections, a young generation of ${semiSpaceMB} MB; `
      + `${rows[0]?.pairs.length} paired runs each. Ratios to the bare runs beside them`,
    settings,
    columns: [
      { title: '', cell: ({ name }) => name },
      { title: 'requests/s, ratio', cell: row => mid(row, ({ perSecondRatio }) => perSecondRatio, 3) },
      { title: 'quartiles', cell: row => quartiles(row, ({ perSecondRatio }) => perSecondRatio) },
      { title: 'CPU per request, ratio', cell: row => mid(row, ({ cpuRatio }) => cpuRatio, 3) },
      { title: 'quartiles', cell: row => quartiles(row, ({ cpuRatio }) => cpuRatio) },
      { title: 'requests/s', cell: row => mid(row, ({ perSecond }) => perSecond, 0) },
      { title: 'GCs told/s', cell: row => mid(row, ({ gcsPerSecond }) => gcsPerSecond, 0) },
      { title: 'RSS MB', cell: row => mid(row, ({ rssMB }) => rssMB, 0) },
    ],
    rows,
    partial,
    notes: ['The control row is the error of this run: a difference that is not larger than its distance from 1 is none.'],
  })
}
