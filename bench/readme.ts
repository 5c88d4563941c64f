/**
 * Writes the README's tables from bench/results, so that no figure in it is typed by hand: `npx tsx bench/readme.ts`.
 * A test fails when the README says something else.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { median, sum } from './_stats.ts'

interface Result<Row> {
  date: string
  node: string
  machine: { cpu: string; cores: number }
  versions: Record<string, string>
  rows: Row[]
}

interface RaceRow {
  name: string
  rounds: { connections: number; lost: number; ghosts: number; rejected: number; drainMs: number; killed: boolean }[]
}

const readmeFile = new URL('../README.md', import.meta.url)

function load<Row>(name: string): Result<Row> {
  return JSON.parse(readFileSync(new URL(`results/${name}.json`, import.meta.url), 'utf8')) as Result<Row>
}

function table(head: string[], rows: (string | number)[][]): string {
  return [head, head.map(() => '---'), ...rows].map(cells => `| ${cells.join(' | ')} |`).join('\n')
}

function race(): string {
  const { rows, node, machine, date } = load<RaceRow>('race')
  const body = rows.map(({ name, rounds }) => {
    const perThousand = (of: (round: RaceRow['rounds'][number]) => number) => {
      return Math.round((sum(rounds.map(of)) / sum(rounds.map(({ connections }) => connections))) * 1_000)
    }
    const drain = rounds.some(({ killed }) => killed) ? 'killed after 10 s' : `${Math.round(median(rounds.map(({ drainMs }) => drainMs)))}`
    return [name, perThousand(({ lost }) => lost), perThousand(({ ghosts }) => ghosts), perThousand(({ rejected }) => rejected), drain]
  })
  return `${table(['', 'lost', 'executed, never answered', '503', 'drain, median ms'], body)}

Node ${node}, ${machine.cores} cores (${machine.cpu}), loopback, ${date.slice(0, 10)}.`
}

/** The README with its tables filled in. */
export function withTables(readme: string): string {
  let filled = readme
  for (const [name, text] of Object.entries({ race: race() })) {
    const between = new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*?(\\n<!-- /${name} -->)`)
    if (!between.test(filled)) throw new Error(`the README has no place for the table "${name}"`)
    filled = filled.replace(between, (_, begin: string, end: string) => `${begin}${text}${end}`)
  }
  return filled
}

if (process.argv[1]?.endsWith('readme.ts')) writeFileSync(readmeFile, withTables(readFileSync(readmeFile, 'utf8')))
