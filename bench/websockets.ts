/**
 * WebSockets, each of which is told to go: which close code its client saw, over what time, and what one cost the server in CPU
 * time, beside what the documentation of `ws` recommends.
 */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Options } from './_options.ts'
import { nextMessage } from './_spawn.ts'
import { median } from './_stats.ts'
import { fixed, progress, publish } from './_table.ts'
import type { Seen } from './_websocket-clients.ts'
import { ways, type Ending, type Way } from './_websocket-server.ts'

interface Row {
  name: Way
  rounds: (Ending & Seen)[]
}

const spreadMs = 2_000

function start(name: string, ...args: string[]) {
  return fork(fileURLToPath(new URL(name, import.meta.url)), args, { execArgv: ['--import', 'tsx'] })
}

async function round(way: Way, sockets: number): Promise<Ending & Seen> {
  const server = start('_websocket-server.ts', way, String(spreadMs))
  try {
    const { port } = await nextMessage<{ port: number }>(server)
    const clients = start('_websocket-clients.ts', String(port), String(sockets))
    try {
      await nextMessage<'connected'>(clients)
      const seen = nextMessage<Seen>(clients)
      server.send('end')
      return { ...await nextMessage<Ending>(server), ...await seen }
    } finally {
      clients.kill()
    }
  } finally {
    server.kill()
  }
}

export async function run({ quick, partial }: Options): Promise<void> {
  const [sockets, rounds] = quick ? [500, 1] : [5_000, 3]
  const rows = ways.map((name): Row => ({ name, rounds: [] }))
  for (let i = 1; i <= rounds; i++) {
    for (const row of rows) {
      progress(`websockets ${i}/${rounds} ${row.name}`)
      row.rounds.push(await round(row.name, sockets))
    }
  }
  progress('')
  const middle = (row: Row, of: (round: Ending & Seen) => number) => fixed(median(row.rounds.map(of)))
  publish<Row>({
    bench: 'websockets',
    title: `WebSockets: ${sockets} that are told to go. Medians of ${rounds} rounds`,
    settings: { sockets, rounds, spreadMs },
    columns: [
      { title: '', cell: ({ name }) => name },
      { title: 'saw 1001', cell: (row) => Math.min(...row.rounds.map(({ codes }) => codes['1001'] ?? 0)) },
      { title: 'clean', cell: ({ rounds: all }) => all.every(({ clean }) => clean) ? 'yes' : 'no' },
      { title: 'CPU µs per socket', cell: (row) => middle(row, ({ cpuMs }) => cpuMs * 1_000 / sockets) },
      { title: 'first to last, ms', cell: (row) => middle(row, (one) => one.spreadMs) },
      { title: 'most in 100 ms', cell: (row) => middle(row, ({ mostPer100Ms }) => mostPer100Ms) },
    ],
    rows,
    partial,
    notes: [`saw 1001: the worst round. lameduck spreads the goodbyes over spreadMs, here ${spreadMs} ms; ws alone has nothing of the kind.`],
  })
}
