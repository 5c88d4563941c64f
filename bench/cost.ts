/**
 * What tracking a request costs, in microseconds of JavaScript: finer than the overhead bench, and steady on a busy
 * machine, but only a part of the truth, because it has no kernel sockets. It says where a change of a tenth of a
 * microsecond comes from; overhead says whether a user can tell.
 */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Cost } from './_memory-sockets.ts'
import type { Options } from './_options.ts'
import { bare, peer, type PeerName } from './_peers.ts'
import { nextMessage } from './_spawn.ts'
import { median } from './_stats.ts'
import { fixed, progress, publish } from './_table.ts'

interface Row {
  name: PeerName
  rounds: Cost[]
}

const program = fileURLToPath(new URL('_memory-sockets.ts', import.meta.url))

export async function run({ peers, quick, partial }: Options): Promise<void> {
  const [rounds, slices] = quick ? [1, 600] : [3, 1_000]
  const rows = peers.filter((name) => name === bare || !peer(name).onlyDrains).map((name): Row => ({ name, rounds: [] }))
  for (let round = 1; round <= rounds; round++) {
    for (const row of rows) {
      progress(`cost ${round}/${rounds} ${row.name}`)
      const child = fork(program, ['--peer', row.name, '--slices', String(slices)], { execArgv: ['--import', 'tsx'] })
      row.rounds.push(await nextMessage<Cost>(child))
    }
  }
  progress('')

  const micros = (row: Row, of: (cost: Cost) => number) => fixed(median(row.rounds.map(of)), 2)
  publish<Row>({
    bench: 'cost',
    title: 'Cost: microseconds of JavaScript per request over a bare server in the same process, sockets in memory',
    settings: { rounds, slices },
    columns: [
      { title: '', cell: ({ name }) => name === bare ? 'bare again (control)' : name },
      { title: 'added, µs', cell: (row) => micros(row, (cost) => cost.peer - cost.bare) },
      { title: 'error, µs', cell: (row) => micros(row, (cost) => cost.again - cost.bare) },
      { title: 'bare, µs', cell: (row) => micros(row, (cost) => cost.bare) },
    ],
    rows,
    partial,
    notes: ['error: a second bare server in the same process.'],
  })
}
