/** The figures of docs/ops.md, out of bench/results. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
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
  const { perSecondRatio = NaN, cpuRatio = NaN, rssIdleMiB = NaN, rssUsedMiB = NaN, auditLines = NaN, burstSeconds = NaN } = ops.settings
  return [
    '| answers, ms | asked | p50 | p99 | max |', '|---|--:|--:|--:|--:|',
    ...ops.rows.map(({ name, n, p50, p99, max }) => `| ${name} | ${n} | ${fixed(p50, 1)} | ${fixed(p99, 1)} | ${fixed(max, 1)} |`),
    '',
    `Idle, with the GC hook on, against the same service without it, in turn: ${fixed(perSecondRatio, 3)} of the requests per second, ${fixed(cpuRatio, 3)} of the CPU, `
    + `RSS ${fixed(rssIdleMiB, 1)} MiB more at the start, ${fixed(rssUsedMiB, 1)} MiB after 30,000 requests. The burst took ${fixed(burstSeconds, 0)} s, because refusals of strangers are held back, and left ${auditLines} lines in the audit. \`npm run bench -- ops\``,
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

/** docs/ops.md with the figures of this moment. */
export function withFigures(text: string): string {
  return between(between(text, 'cost', cost()), 'snapshot', snapshot())
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const page = new URL('../docs/ops.md', import.meta.url)
  writeFileSync(page, withFigures(readFileSync(page, 'utf8')))
}
