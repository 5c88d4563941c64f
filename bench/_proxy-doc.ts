/**
 * Writes the tables of docs/proxies.md from bench/results: `npx tsx bench/_proxy-doc.ts`. A test fails when the page says
 * something else.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Rolling } from './_proxy-rolling.ts'
import type { RatioRun } from './_ratios.ts'
import { median } from './_stats.ts'

interface Result<Row> {
  date: string
  node: string
  machine: { cpu: string, cores: number }
  settings: { restarts?: number, reloads?: number, workers?: number, connections?: number, readyMs?: number, pm2?: string }
  rows: Row[]
}

type Row = Rolling & { name: string, proxy?: string }

const page = new URL('../docs/proxies.md', import.meta.url)

const load = (name: string) => JSON.parse(readFileSync(new URL(`results/${name}.json`, import.meta.url), 'utf8')) as Result<Row>

function table(head: string[], rows: (string | number)[][]): string {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

const circumstances = ({ node, machine, date }: Omit<Result<never>, 'rows'>) =>
  `Node ${node}, ${machine.cores} cores (${machine.cpu}), loopback, ${date.slice(0, 10)}.`

const stop = ({ restarts }: Pick<Row, 'restarts'>) => {
  const killed = restarts.filter((restart) => restart.killed).length
  return `${Math.round(median(restarts.map(({ drainMs }) => drainMs)))}${killed > 0 ? `, ${killed} killed` : ''}`
}

function proxy(name: string): string {
  const result = load('proxy')
  const rows = result.rows.filter((row) => row.proxy === name)
  const body = rows.map((row) => {
    const { post, get, restarts } = row
    return [row.name, (post.failed / restarts.length).toFixed(1), `${post.executed} of ${post.failed}`, get.failed, post.sent, stop(row)]
  })
  const head = ['', 'failed POSTs per restart', 'of them executed', 'failed GETs', 'POSTs', 'stop, median ms']
  return `${table(head, body)}\n\n${rows[0]?.restarts.length ?? 0} restarts each. ${circumstances(result)}`
}

function supervised(): string {
  const result = load('proxy-supervised')
  const body = result.rows.map(({ proxy, name, post, get, restarts }) => [
    `${proxy}: ${name}`, post.failed, post.executed, post.twice, get.failed, post.sent + get.sent, stop({ restarts }),
  ])
  const head = ['', 'failed POSTs', 'of them executed', 'executed twice', 'failed GETs', 'requests', 'reload or stop, median ms']
  return `${table(head, body)}\n\n${result.settings.restarts} of each. ${circumstances(result)}`
}

function reload(): string {
  const result = load('reload') as Result<Row & { least: number, throughput: number[] }>
  const { pm2, reloads, workers, connections } = result.settings
  const body = result.rows.map(({ name, post, get, restarts, least, throughput }) => [
    name, post.failed, post.executed, get.failed, post.sent, least, `${Math.round(100 * median(throughput))} %`, stop({ restarts }),
  ])
  const head = ['', 'failed POSTs', 'of them executed', 'failed GETs', 'POSTs', 'fewest serving', 'throughput while reloading', 'reload, median ms']
  return `${table(head, body)}\n\n${reloads} reloads each of ${workers} workers, ${connections} connections; pm2 ${pm2}. ${circumstances(result)}`
}

interface Killed { what: string, kills: number, fates: Record<'sent' | 'victims' | 'others' | 'unknown' | 'hung', number>, back: number[], gap: number[], left: number }

function kills(): string {
  const result = load('kills') as unknown as Result<Killed>
  const { workers, connections, readyMs } = result.settings
  const body = result.rows.map(({ what, kills, fates, back, gap, left }) => [
    `${kills} ${what}`, fates.sent, fates.victims, fates.others, fates.unknown, fates.hung, Math.round(median(back)), Math.round(Math.max(...back)), Math.round(median(gap)), left,
  ])
  const head = ['SIGKILL to', 'requests', 'failed: of the killed', 'of others', 'of nobody', 'hung', 'back, median ms', 'most', 'a new client waits, median ms', 'left behind']
  return `${table(head, body)}\n\n${workers} workers, ${connections} connections, \`readyMs\` ${readyMs}. ${circumstances(result)} \`npm run bench:kills\``
}

function cluster(): string {
  const result = load('cluster') as unknown as Result<{ name: string, workers: number, runs: RatioRun[] }>
  const body = result.rows.map(({ name, workers, runs }) => [name, workers, ...(['perSecondRatio', 'cpuRatio'] as const).map((of) => median(runs.map((run) => run[of])).toFixed(3))])
  return `${table(['', 'workers', 'requests/s, to the hand-written cluster', 'CPU per request'], body)}\n\nMedians of ${result.rows[0]?.runs.length} runs. ${circumstances(result)} \`npm run bench:cluster\``
}

/** The text of the page with the tables of bench/results. */
export function withProxyTables(text: string): string {
  const tables: Record<string, () => string> = { nginx: () => proxy('nginx'), haproxy: () => proxy('haproxy'), supervised, reload, kills, cluster }
  return text.replaceAll(/(<!-- (\w+) -->\n)[\s\S]*?(\n<!-- \/\2 -->)/g, (whole, open: string, name: string, close: string) => {
    const make = tables[name]
    return make ? `${open}${make()}${close}` : whole
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(page, withProxyTables(readFileSync(page, 'utf8')))
