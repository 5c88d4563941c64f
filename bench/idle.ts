/**
 * (b) Idle keep-alive connections, each of which did one request: how long until the client saw all of them end, and
 * how; the longest loop iteration meanwhile; and what a connection costs in memory over the bare server.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { startLoad } from './_load.ts'
import type { Options } from './_options.ts'
import { bare, type PeerName } from './_peers.ts'
import { spawnServer, type ServerChild } from './_spawn.ts'
import { median } from './_stats.ts'
import { fixed, progress, publish } from './_table.ts'

interface Round {
  endedMs: number
  drainMs: number
  fin: number
  reset: number
  lost: number
  killed: boolean
  stall: { wallMs: number, cpuMs: number }
  heapPerConnection: number
  rssPerConnection: number
}

interface Row {
  name: PeerName
  connections: number
  rounds: Round[]
}

const idleMs = 1_200

export async function run({ peers, quick, partial }: Options): Promise<void> {
  const plans = quick ? [{ connections: 1_000, rounds: 1 }] : [
    { connections: 1_000, rounds: 3 },
    { connections: 10_000, rounds: 7 },
  ]
  const names = peers.filter((name) => name !== 'process.exit') // it drains nothing: the kernel does
  const rows: Row[] = []

  for (const { connections, rounds } of plans) {
    if (!fits(connections)) continue
    const group = names.map((name): Row => ({ name, connections, rounds: [] }))
    for (let round = 1; round <= rounds; round++) {
      for (const row of group) {
        progress(`idle ${connections} ${round}/${rounds} ${row.name}`)
        row.rounds.push(await drainIdle(row.name, connections))
      }
    }
    rows.push(...group)
  }
  progress('')
  show(rows, plans, partial)
}

function show(rows: Row[], plans: unknown, partial: boolean): void {
  const mid = (row: Row, of: (round: Round) => number) => median(row.rounds.map(of))
  const max = (row: Row, of: (round: Round) => number) => Math.max(...row.rounds.map(of))
  const overBare = (row: Row, of: (round: Round) => number) => {
    const control = rows.find(({ name, connections }) => name === bare && connections === row.connections)
    if (!control || control === row) return undefined
    const percent = (mid(row, of) / mid(control, of) - 1) * 100
    return `${percent < 0 ? '' : '+'}${fixed(percent, 1)} %`
  }
  publish<Row>({
    bench: 'idle',
    title: 'Idle: keep-alive connections with nothing in flight, SIGTERM. Medians of the rounds',
    settings: { plans, idleMs },
    columns: [
      { title: '', cell: ({ name }) => name },
      { title: 'connections', cell: ({ connections }) => connections },
      { title: 'all ended, ms', cell: (row) => fixed(mid(row, ({ endedMs }) => endedMs)) },
      { title: 'min–max', cell: ({ rounds }) => spread(rounds.map(({ endedMs }) => endedMs)) },
      { title: 'FIN', cell: (row) => fixed(mid(row, ({ fin }) => fin)) },
      { title: 'RST', cell: (row) => fixed(max(row, ({ reset }) => reset)) },
      { title: 'longest loop iteration, ms', cell: (row) => fixed(mid(row, ({ stall }) => stall.wallMs), 1) },
      { title: 'max', cell: (row) => fixed(max(row, ({ stall }) => stall.wallMs), 1) },
      { title: 'its CPU, ms', cell: (row) => fixed(mid(row, ({ stall }) => stall.cpuMs), 1) },
      { title: 'max', cell: (row) => fixed(max(row, ({ stall }) => stall.cpuMs), 1) },
      { title: 'heap, bytes per connection', cell: (row) => fixed(mid(row, (round) => round.heapPerConnection)) },
      { title: 'over bare', cell: (row) => overBare(row, (round) => round.heapPerConnection) },
      { title: 'RSS', cell: (row) => fixed(mid(row, (round) => round.rssPerConnection)) },
      { title: 'over bare', cell: (row) => overBare(row, (round) => round.rssPerConnection) },
    ],
    rows,
    partial,
    notes: [
      'all ended: from SIGTERM until the client saw the last connection end. RST: the worst round.',
      'longest loop iteration: between two setImmediate callbacks in the server, from SIGTERM to its end; by the clock,',
      '  and the longest by CPU time, which leaves out what a busy machine took away meanwhile.',
      'lameduck: with its default it serves on for lameduckMs first; the row below it begins to close at once, as the peers do.',
      `heap, RSS: after forced collections, with the connections open, minus before; over bare: against "${bare}".`,
    ],
  })
}

const spread = (values: number[]) => `${fixed(Math.min(...values))}–${fixed(Math.max(...values))}`

async function drainIdle(name: PeerName, connections: number): Promise<Round> {
  const server = await spawnServer({ peer: name, exposeGc: true, stalls: true })
  try {
    await warmUp(server)
    const before = await server.ask('memory')
    const load = await startLoad({ port: server.port, connections, thinkMs: Infinity })
    while (load.counts.ok < connections) await sleep(20)
    await sleep(idleMs)
    const after = await server.ask('memory')

    const { startedAt, drainMs, killed } = await server.terminate()
    await load.stop()
    const { fin, reset, lost } = load.counts
    return {
      endedMs: load.endedAt - startedAt, drainMs, fin, reset, lost, killed,
      stall: server.longestStall(),
      heapPerConnection: (after.heapUsed - before.heapUsed) / connections,
      rssPerConnection: (after.rss - before.rss) / connections,
    }
  } finally {
    await server.dispose()
  }
}

/** What is allocated once, on the first requests, is no connection's cost. */
async function warmUp({ port }: ServerChild): Promise<void> {
  const load = await startLoad({ port, connections: 100, thinkMs: 0 })
  await sleep(200)
  await load.stop()
  await sleep(100)
}

/** Client and server have a file descriptor each per connection, in processes of their own. Node raises soft to hard. */
function fits(connections: number): boolean {
  const { userLimits } = process.report.getReport() as { userLimits?: { open_files?: { hard: number | string } } }
  const limit = Number(userLimits?.open_files?.hard ?? Infinity) // 'unlimited' is NaN
  if (!(limit < connections + 100)) return true
  console.log(`idle: ${connections} connections need a higher limit of open files than ${limit} (ulimit -Hn): left out`)
  return false
}
