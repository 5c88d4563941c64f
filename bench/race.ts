/**
 * (a) The keep-alive race: hot connections, SIGTERM in the middle. What becomes of the requests that are on their way?
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { ghosts, startLoad } from './_load.ts'
import type { Options } from './_options.ts'
import type { PeerName } from './_peers.ts'
import { spawnServer } from './_spawn.ts'
import { median, sum } from './_stats.ts'
import { fixed, progress, publish } from './_table.ts'

interface Round {
  connections: number
  sent: number
  lost: number
  ghosts: number
  rejected: number
  failed: number
  fin: number
  reset: number
  told: number
  endedMs: number
  drainMs: number
  killed: boolean
}

const connections = 200
const handlerMs = 5
const thinkMs = 2
const warmMs = 700

export async function run({ peers, quick, partial }: Options): Promise<void> {
  const rounds = quick ? 1 : 5
  const rows = peers.map((name) => ({ name, rounds: [] as Round[] }))

  // In turn, not one library after the other: what the machine does besides hits all of them.
  for (let round = 1; round <= rounds; round++) {
    for (const row of rows) {
      progress(`race ${round}/${rounds} ${row.name}`)
      row.rounds.push(await race(row.name))
    }
  }
  progress('')

  const per1000 = (row: { rounds: Round[] }, of: (round: Round) => number) =>
    fixed(sum(row.rounds.map(of)) * 1000 / sum(row.rounds.map((round) => round.connections)))
  publish({
    bench: 'race',
    title: `Race: ${rounds} × ${connections} hot keep-alive connections, POST, ${handlerMs} ms handler, think time ` +
      `${thinkMs} ms, SIGTERM. Per 1,000 connections`,
    settings: { rounds, connections, handlerMs, thinkMs, warmMs },
    columns: [
      { title: '', cell: ({ name }) => name },
      { title: 'lost', cell: (row) => per1000(row, ({ lost }) => lost) },
      { title: 'ghost', cell: (row) => per1000(row, (round) => round.ghosts) },
      { title: '503', cell: (row) => per1000(row, ({ rejected }) => rejected) },
      { title: 'ended by RST', cell: (row) => per1000(row, ({ reset }) => reset) },
      { title: 'last connection, median ms', cell: ({ rounds }) => fixed(median(rounds.map(({ endedMs }) => endedMs))) },
      { title: 'drain, median ms', cell: ({ rounds }) => fixed(median(rounds.map(({ drainMs }) => drainMs))) },
      { title: 'never ended', cell: (row) => `${row.rounds.filter(({ killed }) => killed).length} of ${rounds}` },
    ],
    rows,
    partial,
    notes: [
      'lost: sent before the client saw the connection end, and not answered. ghost: executed, but the answer never came.',
      'last connection, drain: from SIGTERM until the client saw the last connection end, until the process had ended.',
      'never ended: killed after 10 s.',
    ],
  })
}

async function race(name: PeerName): Promise<Round> {
  const server = await spawnServer({ peer: name, handlerMs })
  try {
    const load = await startLoad({ port: server.port, connections, thinkMs })
    await sleep(warmMs)
    const { startedAt, drainMs, killed } = await server.terminate()
    await load.stop() // the process is gone: whatever is open ends now
    const { sent, lost, rejected, failed, fin, reset, told } = load.counts
    const ghostly = ghosts(server.executed(), load).length
    return {
      connections, sent, lost, ghosts: ghostly, rejected, failed, fin, reset, told,
      endedMs: load.endedAt - startedAt, drainMs, killed,
    }
  } finally {
    await server.dispose()
  }
}
