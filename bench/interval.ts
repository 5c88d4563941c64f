/**
 * How long should the lame duck last? Lost requests and drain time by think time and `lameduckMs`; the default in
 * src/core/options.ts was chosen by it. Once with clients that stay away after their connection ended (a load balancer
 * has taken the instance out), once with clients that come back at once (nobody has told them).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { ghosts, startLoad } from './_load.ts'
import type { Options } from './_options.ts'
import { spawnServer } from './_spawn.ts'
import { median, sum } from './_stats.ts'
import { fixed, progress, publish } from './_table.ts'

interface Round {
  sent: number
  lost: number
  ghosts: number
  reset: number
  drainMs: number
  killed: boolean
}

interface Cell {
  thinkMs: number
  lameduckMs: number
  reconnect: boolean
  rounds: Round[]
}

const connections = 1_000
const handlerMs = 5
const warmMs = 500

export async function run({ quick, partial }: Options): Promise<void> {
  const rounds = quick ? 1 : 3
  const thinkTimes = quick ? [100] : [100, 1_000, 2_000]
  const lameduckTimes = quick ? [0, 500] : [0, 250, 500, 1_000, 2_000, 5_000]
  const cells = [false, true].flatMap((reconnect) => thinkTimes.flatMap((thinkMs) => lameduckTimes.map(
    (lameduckMs): Cell => ({ thinkMs, lameduckMs, reconnect, rounds: [] }),
  )))

  for (let round = 1; round <= rounds; round++) {
    for (const cell of cells) {
      progress(`interval ${round}/${rounds}: think ${cell.thinkMs}, lameduckMs ${cell.lameduckMs}`)
      cell.rounds.push(await drainUnder(cell))
    }
  }
  progress('')

  const total = (cell: Cell, of: (round: Round) => number) => sum(cell.rounds.map(of))
  const per1000 = (cell: Cell, of: (round: Round) => number) =>
    fixed(total(cell, of) * 1000 / (connections * cell.rounds.length), 1)
  publish<Cell>({
    bench: 'interval',
    title: `lameduckMs: ${rounds} × ${connections} keep-alive connections. Lost per 1,000 connections`,
    settings: { rounds, connections, handlerMs, warmMs },
    columns: [
      { title: 'clients come back', cell: ({ reconnect }) => reconnect ? 'yes' : 'no' },
      { title: 'think time, mean ms', cell: ({ thinkMs }) => thinkMs },
      { title: 'lameduckMs', cell: ({ lameduckMs }) => lameduckMs },
      { title: 'lost', cell: (cell) => per1000(cell, ({ lost }) => lost) },
      { title: 'ghost', cell: (cell) => per1000(cell, (round) => round.ghosts) },
      { title: 'ended by RST', cell: (cell) => per1000(cell, ({ reset }) => reset) },
      { title: 'drain, median ms', cell: (cell) => fixed(median(cell.rounds.map(({ drainMs }) => drainMs))) },
    ],
    rows: cells,
    partial,
  })
}

async function drainUnder({ thinkMs, lameduckMs, reconnect }: Cell): Promise<Round> {
  const server = await spawnServer({ peer: 'lameduck', handlerMs, lameduckMs })
  try {
    const load = await startLoad({ port: server.port, connections, thinkMs, reconnect })
    await sleep(warmMs)
    const { drainMs, killed } = await server.terminate(30_000)
    await load.stop()
    const { sent, lost, reset } = load.counts
    return { sent, lost, ghosts: ghosts(server.executed(), load).length, reset, drainMs, killed }
  } finally {
    await server.dispose()
  }
}
