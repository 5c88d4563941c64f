/**
 * Reloads under load: a supervisor with 4 workers, 200 keep-alive connections, GET and POST in turn, 10 reloads.
 * `tsx bench/reload.ts [--quick]`
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { buildCluster, type Cluster } from '../test/_cluster-build.ts'
import { ghosts, startLoad, type Load } from './_load.ts'
import { freePort } from './_ports.ts'
import { median, sum } from './_stats.ts'
import { fixed, progress, publish } from './_table.ts'

const quick = process.argv.includes('--quick')
const reloads = quick ? 2 : 10
const workers = quick ? 2 : 4
const connections = quick ? 50 : 200
const thinkMs = 20
const readyMs = 250
const calmMs = quick ? 2_000 : 5_000

interface Round {
  durationMs: number
  /** Requests per second. */
  rate: number
  readyLeast: number
  outcome: string
}

async function rate(loads: Load[], during: () => Promise<unknown>): Promise<number> {
  const count = () => sum(loads.map(({ counts }) => counts.ok))
  const [before, began] = [count(), performance.now()]
  await during()
  return (count() - before) / ((performance.now() - began) / 1_000)
}

const folder = mkdtempSync(join(tmpdir(), 'lameduck-reload-'))
const journal = join(folder, 'journal')
writeFileSync(journal, '')
using built = await buildCluster()
const { supervise } = await import(pathToFileURL(built.main).href) as Cluster
const port = await freePort()
const app = { port, journal, journalPath: true, options: { deadlineMs: 20_000 } }
const supervisor = supervise({
  script: built.app, workers, execArgv: [], env: { APP: JSON.stringify(app) }, control: false, signals: false, readyMs,
  stdout: new PassThrough().resume(), stderr: process.stderr,
})
try {
  await supervisor.ready
  // The two kinds have ids of their own: even and odd ones.
  const loads = await Promise.all((['GET', 'POST'] as const).map((method, odd) => startLoad({
    port, method, connections: connections / 2, thinkMs, reconnect: true, path: id => `/${2 * id + odd}`,
  })))
  await sleep(1_000)
  const calm = await rate(loads, () => sleep(calmMs))
  const rounds: Round[] = []
  for (let round = 1; round <= reloads; round++) {
    progress(`reload ${round}/${reloads}`)
    let result = { durationMs: 0, readyLeast: 0, outcome: '' }
    const measured = await rate(loads, async () => {
      result = await supervisor.reload()
    })
    rounds.push({ durationMs: result.durationMs, readyLeast: result.readyLeast, outcome: result.outcome, rate: measured })
  }
  progress('')
  const calmAfter = await rate(loads, () => sleep(calmMs))
  await Promise.all(loads.map(load => load.stop(10_000)))
  const executed = readFileSync(journal, 'utf8').split('\n').filter(Boolean).map(Number)
  const executedBy = (odd: number) => executed.filter(id => id % 2 === odd).map(id => (id - odd) / 2)
  const total = (key: 'sent' | 'ok' | 'lost' | 'failed' | 'rejected' | 'refused') => sum(loads.map(({ counts }) => counts[key]))
  const row = {
    sent: total('sent'), ok: total('ok'),
    failed: total('lost') + total('failed') + total('rejected') + total('refused'),
    ghosts: sum(loads.map((load, odd) => ghosts(executedBy(odd), load).length)),
    twice: executed.length - new Set(executed).size,
    outcomes: [...new Set(rounds.map(({ outcome }) => outcome))].join(', '),
    readyLeast: Math.min(...rounds.map(({ readyLeast }) => readyLeast)),
    reloadMs: median(rounds.map(({ durationMs }) => durationMs)),
    calm, calmAfter, during: median(rounds.map(round => round.rate)), rounds,
  }
  publish({
    bench: 'reload',
    title: `${reloads} reloads of ${workers} workers under ${connections} keep-alive connections, GET and POST, think time ${thinkMs} ms`,
    settings: { reloads, workers, connections, thinkMs, readyMs },
    columns: [
      { title: 'sent', cell: ({ sent }) => sent },
      { title: 'failed', cell: ({ failed }) => failed },
      { title: 'ghosts', cell: it => it.ghosts },
      { title: 'executed twice', cell: ({ twice }) => twice },
      { title: 'fewest ready', cell: ({ readyLeast }) => readyLeast },
      { title: 'reload, median s', cell: ({ reloadMs }) => fixed(reloadMs / 1_000, 1) },
      { title: 'req/s before', cell: it => fixed(it.calm) },
      { title: 'while reloading', cell: ({ during }) => fixed(during) },
      { title: 'after', cell: it => fixed(it.calmAfter) },
    ],
    rows: [row],
    notes: ['failed: lost, refused, 503 or another status. ghost: executed, never answered. The clients share the cores with the workers.'],
  })
} finally {
  await supervisor.stop('SIGINT')
  rmSync(folder, { recursive: true, force: true })
}
