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
  settings?: object
  rows: Row[]
}

interface RaceRow {
  name: string
  rounds: { connections: number; lost: number; ghosts: number; rejected: number; drainMs: number; killed: boolean }[]
}

interface IdleRow {
  name: string
  connections: number
  rounds: { endedMs: number; reset: number; stall: { cpuMs: number }; heapPerConnection: number }[]
}

interface OverheadRow {
  name: string
  pairs: { perSecondRatio: number; cpuRatio: number }[]
}

interface WebSocketRow {
  name: string
  rounds: { codes: Record<string, number>; cpuMs: number; spreadMs: number }[]
}

interface IntervalRow {
  thinkMs: number
  lameduckMs: number
  reconnect: boolean
  rounds: { lost: number; ghosts: number }[]
}

const readmeFile = new URL('../README.md', import.meta.url)

function load<Row>(name: string): Result<Row> {
  return JSON.parse(readFileSync(new URL(`results/${name}.json`, import.meta.url), 'utf8')) as Result<Row>
}

function table(head: string[], rows: (string | number)[][]): string {
  return [head, head.map(() => '---'), ...rows].map(cells => `| ${cells.join(' | ')} |`).join('\n')
}

const circumstances = ({ node, machine, date }: Result<unknown>) => {
  return `Node ${node}, ${machine.cores} cores (${machine.cpu}), loopback, ${date.slice(0, 10)}.`
}

function race(): string {
  const result = load<RaceRow>('race')
  const body = result.rows.map(({ name, rounds }) => {
    const perThousand = (of: (round: RaceRow['rounds'][number]) => number) => {
      return Math.round((sum(rounds.map(of)) / sum(rounds.map(({ connections }) => connections))) * 1_000)
    }
    const drain = rounds.some(({ killed }) => killed) ? 'killed after 10 s' : `${Math.round(median(rounds.map(({ drainMs }) => drainMs)))}`
    return [name, perThousand(({ lost }) => lost), perThousand(({ ghosts }) => ghosts), perThousand(({ rejected }) => rejected), drain]
  })
  return `${table(['', 'lost', 'executed, never answered', '503', 'drain, median ms'], body)}\n\n${circumstances(result)}`
}

function idle(): string {
  const result = load<IdleRow>('idle')
  const most = Math.max(...result.rows.map(({ connections }) => connections))
  const rows = result.rows.filter(({ connections }) => connections === most)
  const middle = (row: IdleRow, of: (round: IdleRow['rounds'][number]) => number) => median(row.rounds.map(of))
  const bare = rows.find(({ name }) => name === 'server.close()')
  const body = rows.map(row => {
    const heap = middle(row, ({ heapPerConnection }) => heapPerConnection)
    const over = bare && bare !== row ? `${((heap / middle(bare, ({ heapPerConnection }) => heapPerConnection) - 1) * 100).toFixed(1)} %` : '–'
    return [
      row.name, Math.round(middle(row, ({ endedMs }) => endedMs)), Math.max(...row.rounds.map(({ reset }) => reset)),
      Math.round(middle(row, ({ stall }) => stall.cpuMs)), Math.round(heap), over,
    ]
  })
  const head = ['', 'all ended, ms', 'by RST', 'longest block of the event loop, CPU ms', 'heap, bytes per connection', 'over bare']
  return `${most.toLocaleString('en').replace(',', ' ')} connections:\n\n${table(head, body)}\n\n${circumstances(result)}`
}

function overhead(): string {
  const result = load<OverheadRow>('overhead')
  const ratio = (values: number[]) => median(values).toFixed(3)
  const body = result.rows.map(({ name, pairs }) => {
    return [name, ratio(pairs.map(({ perSecondRatio }) => perSecondRatio)), ratio(pairs.map(({ cpuRatio }) => cpuRatio))]
  })
  const pairs = result.rows[0]?.pairs.length ?? 0
  return `${table(['', 'requests/s, to bare', 'CPU per request, to bare'], body)}\n\nMedians of ${pairs} pairs. ${circumstances(result)}`
}

function websockets(): string {
  const result = load<WebSocketRow>('websockets')
  const sockets = result.rows[0]?.rounds[0]?.codes['1001'] ?? 0
  const body = result.rows.map(({ name, rounds: all }) => {
    const middle = (of: (round: WebSocketRow['rounds'][number]) => number) => Math.round(median(all.map(of)))
    return [name, Math.min(...all.map(({ codes }) => codes['1001'] ?? 0)), middle(({ cpuMs }) => (cpuMs * 1_000) / sockets), middle(({ spreadMs }) => spreadMs)]
  })
  return `${table(['', 'saw 1001', 'CPU µs per socket', 'first to last, ms'], body)}\n\n${circumstances(result)}`
}

function interval(): string {
  const result = load<IntervalRow>('interval')
  const { connections } = result.settings as { connections: number }
  const columns = [...new Set(result.rows.map(({ lameduckMs }) => lameduckMs))]
  const name = ({ reconnect, thinkMs }: IntervalRow) => `${thinkMs} ms | ${reconnect ? 'come back at once' : 'stay away'}`
  const body = [...new Set(result.rows.map(name))].map(each => [each, ...columns.map(column => {
    const rounds = result.rows.find(row => name(row) === each && row.lameduckMs === column)?.rounds ?? []
    return (sum(rounds.map(({ lost }) => lost)) * 1_000 / (connections * rounds.length)).toFixed(1)
  })])
  const executed = sum(result.rows.flatMap(({ rounds }) => rounds.map(({ ghosts }) => ghosts)))
  const head = ['mean think time', 'clients whose connection ended', ...columns.map(column => `lameduckMs ${column}`)]
  return `${table(head, body)}\n\nRequests lost per 1 000 connections; of all of them ${executed} were executed. ${circumstances(result)}`
}

/** The README with its tables filled in. */
export function withTables(readme: string): string {
  let filled = readme
  for (const [name, text] of Object.entries({ race: race(), idle: idle(), overhead: overhead(), interval: interval(), websockets: websockets() })) {
    const between = new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*?(\\n<!-- /${name} -->)`)
    if (!between.test(filled)) throw new Error(`the README has no place for the table "${name}"`)
    filled = filled.replace(between, (_, begin: string, end: string) => `${begin}${text}${end}`)
  }
  return filled
}

if (process.argv[1]?.endsWith('readme.ts')) writeFileSync(readmeFile, withTables(readFileSync(readmeFile, 'utf8')))
