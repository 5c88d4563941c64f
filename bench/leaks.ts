/**
 * npx tsx bench/leaks.ts            false alarms and detections of three rules on generated heap series, into docs/leak-watch.md
 *   --seeds N                       so many series per family, 200 unless told otherwise
 *   --tune                          on the tuning seeds, and nothing is written: what the thresholds may be chosen on
 *   --family TEXT                   only families with this in their names; nothing is written
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { SeriesWatch } from '../src/ops/watch/series-watch.ts'
import { tau, theilSen } from '../src/ops/watch/trend.ts'
import { FAMILIES, series, TEST, TUNING } from '../test/_leak-series.ts'
import { quantile } from './_stats.ts'
import { publish } from './_table.ts'

/** The GC at which a rule calls a series a leak, or undefined. */
type Rule = (values: readonly number[]) => number | undefined

/** The rule of node-memwatch: each of five GCs in a row left more than the one before it. */
const memwatch: Rule = values => {
  let growths = 0
  for (const [n, value] of values.entries()) {
    growths = n > 0 && value > (values[n - 1] as number) ? growths + 1 : 0
    if (growths === 5) return n + 1
  }
  return undefined
}

/**
 * The rule of DESIGN.md: the minimum of every 5 GCs; over 12 of them τ ≥ 0.6 and growth (Theil-Sen) of 16 MB and 8 % at least, above the
 * highest minimum before; confirmed by the 12 that follow.
 */
const twoStages: Rule = values => {
  const low = Array.from({ length: Math.floor(values.length / 5) }, (_, n) => Math.min(...values.slice(n * 5, n * 5 + 5)))
  const grows = (end: number) => {
    const window = low.slice(end - 12, end)
    const gain = theilSen(window) * 11
    return gain >= Math.max(16 * 2 ** 20, 0.08 * (window[0] as number)) && tau(window) >= 0.6 && (window[11] as number) > Math.max(0, ...low.slice(0, end - 12))
  }
  for (let end = 24; end <= low.length; end++) if (grows(end) && grows(end - 12)) return end * 5
  return undefined
}

const ours: Rule = values => {
  const watch = new SeriesWatch(4_144 * 2 ** 20)
  for (const [n, value] of values.entries()) {
    watch.add(value, n * 30_000)
    if (watch.verdict === 'suspected') return n + 1
  }
  return undefined
}

const RULES = { memwatch, twoStages, ours }

/** Of one rule on one family. */
export interface Rate {
  called: number
  by150: number
  /** Of the GC at which it was called. */
  median: number | null
  p95: number | null
}

export interface Row {
  family: string
  what: string
  leaks: boolean
  series: number
  rates: Record<keyof typeof RULES, Rate>
}

function rate(rule: Rule, all: readonly (readonly number[])[]): Rate {
  const found = all.map(values => rule(values)).filter(at => at !== undefined)
  const at = (q: number) => found.length > 0 ? quantile(found, q) : null
  return { called: found.length, by150: found.filter(n => n <= 150).length, median: at(0.5), p95: at(0.95) }
}

export function rates(family: string, first: number, seeds: number): Row {
  const { what, leaks } = FAMILIES[family] as (typeof FAMILIES)[string]
  const all = Array.from({ length: seeds }, (_, n) => series(family, first + n).values)
  return {
    family, what, leaks, series: seeds,
    rates: { memwatch: rate(memwatch, all), twoStages: rate(twoStages, all), ours: rate(ours, all) },
  }
}

const percent = (part: number, all: number) => `${((part / all) * 100).toFixed(part === 0 || part === all ? 0 : 1)} %`

const docFile = new URL('../docs/leak-watch.md', import.meta.url)
const resultFile = new URL('results/leaks.json', import.meta.url)

/** The document with its tables filled in from bench/results/leaks.json. */
export function withRates(doc: string): string {
  const { rows } = JSON.parse(readFileSync(resultFile, 'utf8')) as { rows: Row[] }
  const table = (head: string[], body: (string | number)[][]) => {
    return [head, head.map((_, n) => n < 2 ? '---' : '--:'), ...body].map(cells => `| ${cells.join(' | ')} |`).join('\n')
  }
  const called = (row: Row, rule: keyof typeof RULES) => percent(row.rates[rule].called, row.series)
  const clean = rows.filter(row => !row.leaks).map(row => [row.family, row.what, called(row, 'memwatch'), called(row, 'twoStages'), called(row, 'ours')])
  const leaks = rows.filter(row => row.leaks).map(row => {
    const { by150, median, p95 } = row.rates.ours
    return [row.family, row.what, called(row, 'memwatch'), called(row, 'twoStages'), called(row, 'ours'), percent(by150, row.series), median ?? '–', p95 ?? '–']
  })
  const tables = {
    'false alarms': table(['no leak', 'what', 'memwatch', 'two-stage', 'lameduck'], clean),
    detections: table(['leak', 'what', 'memwatch', 'two-stage', 'lameduck', 'by GC 150', 'median GC', '95 % by GC'], leaks),
  }
  return Object.entries(tables).reduce((text, [name, content]) => {
    const between = new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*?(\\n<!-- /${name} -->)`)
    if (!between.test(text)) throw new Error(`docs/leak-watch.md has no place for the table "${name}"`)
    return text.replace(between, (_, begin: string, end: string) => `${begin}${content}${end}`)
  }, doc)
}

function main(): void {
  const { values: { seeds, tune, family } } = parseArgs({
    options: { seeds: { type: 'string', default: '200' }, tune: { type: 'boolean', default: false }, family: { type: 'string', default: '' } },
  })
  const first = tune ? TUNING : TEST
  const rows = Object.keys(FAMILIES).filter(name => name.includes(family)).map(name => rates(name, first, Number(seeds)))
  if (tune || family) {
    for (const { family: name, series: all, rates: { ours: { called, by150, median, p95 } } } of rows) {
      console.log(name.padEnd(26), percent(called, all).padStart(7), percent(by150, all).padStart(7), median ?? '–', p95 ?? '–')
    }
    return
  }
  publish<Row>({
    bench: 'leaks',
    title: 'Leak watch: series called a leak',
    settings: { seeds: Number(seeds), first, gcs: 600 },
    columns: [
      { title: '', cell: row => row.family },
      ...(['memwatch', 'twoStages', 'ours'] as const).map(rule => ({ title: rule, cell: (row: Row) => percent(row.rates[rule].called, row.series) })),
      { title: 'by GC 150', cell: row => percent(row.rates.ours.by150, row.series) },
      { title: 'median GC', cell: row => row.rates.ours.median ?? undefined },
    ],
    rows,
  })
  writeFileSync(docFile, withRates(readFileSync(docFile, 'utf8')))
}

if (process.argv[1]?.endsWith('leaks.ts')) main()
