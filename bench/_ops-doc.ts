/** The figures of docs/ops.md, out of bench/results. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { median } from './_stats.ts'
import { fixed } from './_table.ts'

interface Result<T> {
  machine: { node: string, cores: number, cpu: string }
  date: string
  settings: Record<string, number>
  rows: T[]
}

const read = <T>(name: string): Result<T> | undefined => {
  const file = new URL(`results/${name}.json`, import.meta.url)
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) as Result<T> : undefined
}

const between = (text: string, mark: string, inner: string) => text.replace(new RegExp(`(<!-- ${mark} -->\n)[\\s\\S]*?(<!-- /${mark} -->)`), (_, a: string, b: string) => `${a}${inner}\n${b}`)

/** What the endpoint costs, and how fast it answers while the main thread is blocked. */
function cost(): string {
  const ops = read<{ name: string, n: number, p50: number, p99: number, max: number }>('ops')
  if (!ops) return 'Not measured yet: `npm run bench -- ops`.'
  const { perSecondRatio = NaN, cpuRatio = NaN, rssIdleMiB = NaN, rssUsedMiB = NaN, auditLines = NaN, burstSeconds = NaN, probeSeconds } = ops.settings
  const probes = probeSeconds === undefined ? '' : ` A burst of probes, which are not, took ${fixed(probeSeconds, 0)} s.`
  return [
    '| answers, ms | asked | p50 | p99 | max |', '|---|--:|--:|--:|--:|',
    ...ops.rows.map(({ name, n, p50, p99, max }) => `| ${name} | ${n} | ${fixed(p50, 1)} | ${fixed(p99, 1)} | ${fixed(max, 1)} |`),
    '',
    `Idle, with the GC hook on, against the same service without it, in turn: ${fixed(perSecondRatio, 3)} of the requests per second, ${fixed(cpuRatio, 3)} of the CPU, `
    + `RSS ${fixed(rssIdleMiB, 1)} MiB more at the start, ${fixed(rssUsedMiB, 1)} MiB after 30,000 requests. The burst took ${fixed(burstSeconds, 0)} s, because refusals of strangers are held back, and left ${auditLines} lines in the audit.${probes} \`npm run bench -- ops\``,
  ].join('\n')
}

interface Snapshot { name: string, pauseMs: number, requests: number, failed: number, ownP99Ms: number, p99Ms: number, worstMs: number, slow: number }

/** What users of two instances notice of a snapshot of one. */
function snapshot(): string {
  const bench = read<Snapshot>('snapshot')
  if (!bench) return 'Not measured yet: `npm run bench -- snapshot`.'
  const { connections, heapMB } = bench.settings
  return [
    '| | pause, s | requests | failed | p99 before, ms | p99 | worst | slower than twice the p99 before |', '|---|--:|--:|--:|--:|--:|--:|--:|',
    ...bench.rows.map(({ name, pauseMs, requests, failed, ownP99Ms, p99Ms, worstMs, slow }) => (
      `| ${name} | ${fixed(pauseMs / 1_000, 1)} | ${requests} | ${failed} | ${fixed(ownP99Ms, 1)} | ${fixed(p99Ms, 1)} | ${fixed(worstMs)} | ${slow} |`
    )),
    '',
    `Two instances with ${heapMB} MB of small objects each under ${connections} keep-alive connections, whose client asks \`/readyz\`; all on ${bench.machine.cores} cores, of which the snapshot takes one. \`npm run bench -- snapshot\``,
  ].join('\n')
}

type Round = Partial<Record<'own' | 'ownMade' | 'ownFetched' | 'rssMade' | 'rssFetched', number>>

/** What the endpoint takes of memory for a snapshot's file, on top of V8's. */
function file(): string {
  const bench = read<{ name: string, rounds: Round[] }>('ops-file')
  if (!bench) return 'Not measured yet: `npm run bench -- ops-file`.'
  const { fileMiB = NaN, slowSeconds = NaN, rounds = NaN } = bench.settings
  const of = (all: Round[], key: keyof Round) => {
    const values = all.flatMap(round => round[key] ?? [])
    return values.length === 0 ? '–' : `${fixed(median(values), 1)} (${fixed(Math.max(...values), 1)})`
  }
  const keys = ['own', 'ownMade', 'ownFetched', 'rssMade', 'rssFetched'] as const
  return [
    '| MiB, median (most) | the thread\'s heap and buffers at rest | more while the file is made | while it is fetched | RSS, more while it is made | while it is fetched |',
    '|---|--:|--:|--:|--:|--:|',
    ...bench.rows.map(({ name, rounds }) => `| ${name} | ${keys.map(key => of(rounds, key)).join(' | ')} |`),
    '',
    `V8's file has ${fixed(fileMiB)} MiB; the reader takes ${slowSeconds} s and rests in the middle. ${rounds} rounds, looked at every 10 ms. RSS: compared with right after V8's pause, `
    + 'where there is one, else with an endpoint at rest. V8 leaves memory free that is used again; so "alone" means a process with next to no heap, in which V8\'s file is copied in its place: '
    + 'whatever that takes is the endpoint\'s, V8\'s compiler included. `npm run bench -- ops-file`',
  ].join('\n')
}

/** docs/ops.md with the figures of this moment. */
export function withFigures(text: string): string {
  return between(between(between(text, 'cost', cost()), 'snapshot', snapshot()), 'file', file())
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const page = new URL('../docs/ops.md', import.meta.url)
  writeFileSync(page, withFigures(readFileSync(page, 'utf8')))
}
