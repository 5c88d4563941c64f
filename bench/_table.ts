/** Results: a table to read, and a JSON file with all that is needed to judge it. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem, type } from 'node:os'
import Table from 'cli-table3'
import { peer, peerNames } from './_peers.ts'

type Cell = string | number | undefined

export interface Column<Row> {
  title: string
  cell: (row: Row) => Cell
}

export interface Result<Row> {
  /** The file's name, too. */
  bench: string
  title: string
  /** What was done, so that another can do it again. */
  settings: Record<string, unknown>
  columns: Column<Row>[]
  rows: Row[]
  notes?: string[]
  /** Only some of the rows, or too little of each: shown, but what bench/results has is kept. Default false. */
  partial?: boolean
}

const results = new URL('results/', import.meta.url)

export function publish<Row>({ bench, title, settings, columns, rows, notes = [], partial = false }: Result<Row>): void {
  const table = new Table({
    head: columns.map((column) => column.title),
    colAligns: columns.map((_, index) => index === 0 ? 'left' : 'right'),
    style: { head: [], border: [], compact: true },
  })
  for (const row of rows) table.push(columns.map(({ cell }) => String(cell(row) ?? '–')))
  console.log([`\n${title}`, table.toString(), ...notes, ''].join('\n'))

  if (partial) return
  mkdirSync(results, { recursive: true })
  const document = { bench, title, ...circumstances(), settings, rows, notes }
  writeFileSync(new URL(`${bench}.json`, results), JSON.stringify(document, undefined, 2) + '\n')
}

export const fixed = (value: number, digits = 0): string => Number.isFinite(value) ? value.toFixed(digits) : '–'

/** What runs now: in a terminal one line that is overwritten ('' clears it); in a pipe nothing, a log needs no dots. */
export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`)
}

function circumstances() {
  const cores = cpus()
  return {
    date: new Date().toISOString(),
    node: process.version,
    machine: {
      cpu: cores[0]?.model.trim() ?? 'unknown',
      cores: cores.length,
      memoryGB: Math.round(totalmem() / 2 ** 30),
      os: `${type()} ${release()}`,
    },
    versions: Object.fromEntries(versions()),
  }
}

function versions(): [string, string][] {
  const packages = new Set(peerNames.flatMap((name) => peer(name).package ?? []))
  return [...packages].map((name) => {
    const file = name === 'lameduck' ? '../package.json' : `../node_modules/${name}/package.json`
    const { version } = JSON.parse(readFileSync(new URL(file, import.meta.url), 'utf8')) as { version: string }
    return [name, version]
  })
}
