/**
 * What the endpoint takes of the process's memory, on top of V8's, while a heap snapshot is redacted, compressed and fetched by a slow reader. The
 * reader checks the SHA-256, and one file is parsed whole. In each round, each in a process of its own:
 *
 * - the controls: V8 alone writes a snapshot, and the process rests for as long; an endpoint that is at rest and is asked the same questions;
 * - V8 and the endpoint in one process: what RSS grows by after the pause. V8 leaves much there that may be used again, so this is the least;
 * - the endpoint alone: a process with next to no heap, in which V8's file of the control is copied in V8's place. Here whatever RSS grows by is
 *   the endpoint's: its heap, its buffers, compiled code, the compiler's own memory.
 */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { HeapSnapshot } from '../test/_heap-snapshot.ts'
import { buildOps } from './_build.ts'
import { FileSite, type Fetched, type Look } from './_ops-file.ts'
import type { Options } from './_options.ts'
import { median } from './_stats.ts'
import { fixed, progress, publish } from './_table.ts'

/** Of one round, in MiB. */
interface Round {
  /** Of the endpoint's thread, heap with external memory, at rest; and what it was more at most. */
  own?: number
  ownMade?: number
  ownFetched?: number
  /** What RSS was more at most, than right after the pause or at rest. */
  rssMade: number
  rssFetched?: number
  /** Of the whole process, ever. */
  peak: number
}

interface Row {
  name: string
  fetchedMiB?: number
  rounds: Round[]
}

const MiB = 2 ** 20
const restSeconds = 5

const roundOf = ({ idle, making, fetching }: Fetched, rssBefore: number): Round => ({
  own: idle.own / MiB,
  ownMade: (making.ownMost - idle.own) / MiB,
  ownFetched: (fetching.ownMost - idle.own) / MiB,
  rssMade: (making.rssMost - rssBefore) / MiB,
  rssFetched: (fetching.rssMost - rssBefore) / MiB,
  peak: (fetching.peak ?? NaN) / MiB,
})

const rested = (before: Look, after: Look): Round => ({
  own: before.own / MiB, ownMade: (after.ownMost - before.own) / MiB, rssMade: (after.rssMost - before.rss) / MiB, peak: (after.peak ?? NaN) / MiB,
})

async function within<T>(site: FileSite, run: (site: FileSite) => Promise<T>): Promise<T> {
  try {
    return await run(await site.start())
  } finally {
    await site.close()
  }
}

/** @throws Unless the file is a heap snapshot from its beginning to its end. */
function parseWhole(file: string): { nodes: number, edges: number } {
  const snapshot = new HeapSnapshot(gunzipSync(readFileSync(file)))
  const faults = snapshot.faults()
  if (faults.length > 0) throw new Error(`the file is not whole: ${faults.slice(0, 3).join('; ')}`)
  return { nodes: snapshot.raw.snapshot.node_count, edges: snapshot.raw.snapshot.edge_count }
}

export async function run({ quick, partial }: Options): Promise<void> {
  const heapMB = quick ? 25 : 200
  const slowSeconds = quick ? 3 : 15
  const rounds = quick ? 1 : 3
  using built = await buildOps()
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-bench-file-'))
  const [raw, got] = [join(folder, 'raw'), join(folder, 'got')]
  const rows: [Row, Row, Row, Row, Row] = [
    { name: 'control: V8 alone writes the file', rounds: [] },
    { name: 'V8 and the endpoint in one process, redacted and compressed', rounds: [] },
    { name: 'control: the endpoint at rest', rounds: [] },
    { name: 'the endpoint alone, redacted and compressed', rounds: [] },
    { name: 'the endpoint alone, redacted', rounds: [] },
  ]
  const [v8Alone, both, resting, compressed, plain] = rows
  let parsed = { nodes: 0, edges: 0 }
  try {
    for (let round = 1; round <= rounds; round++) {
      progress(`ops-file ${round}/${rounds}`)
      rmSync(raw, { force: true })
      await within(new FileSite({ built: built.folder, heapMB, endpoint: false }), async site => {
        const { rss } = await site.write(raw)
        const { rssMost, peak } = (await site.rest(restSeconds + slowSeconds)).after
        v8Alone.rounds.push({ rssMade: (rssMost - rss) / MiB, peak: (peak ?? NaN) / MiB })
      })
      await within(new FileSite({ built: built.folder, heapMB, endpoint: true }), async site => {
        await site.rest(restSeconds)
        const fetched = await site.fetch('', got, slowSeconds)
        both.rounds.push(roundOf(fetched, fetched.taken.rssAfter))
        both.fetchedMiB = fetched.artifact.bytes / MiB
        if (round === 1) parsed = parseWhole(got)
      })
      for (const [row, query] of [[compressed, ''], [plain, 'compress=false']] as const) {
        await within(new FileSite({ built: built.folder, heapMB: 0, endpoint: true, standIn: raw }), async site => {
          const { before, after } = await site.rest(restSeconds)
          if (row === compressed) resting.rounds.push(rested(before, after))
          const fetched = await site.fetch(query, got, slowSeconds)
          row.rounds.push(roundOf(fetched, fetched.idle.rss))
          row.fetchedMiB = fetched.artifact.bytes / MiB
        })
      }
    }
    progress('')
    const of = (pick: (round: Round) => number | undefined) => ({ rounds: all }: Row) => {
      const values = all.map(round => pick(round) ?? NaN)
      return `${fixed(median(values), 1)} (${fixed(Math.max(...values), 1)})`
    }
    publish<Row>({
      bench: 'ops-file',
      title: `A heap snapshot of ${fixed(statSync(raw).size / MiB)} MiB, made into a file and fetched by a slow reader: MiB, median of ${rounds} (most)`,
      settings: { heapMB, fileMiB: statSync(raw).size / MiB, slowSeconds, rounds, lookMs: 10, ...parsed },
      columns: [
        { title: '', cell: ({ name }) => name },
        { title: 'fetched', cell: ({ fetchedMiB }) => fixed(fetchedMiB ?? NaN, 1) },
        { title: 'thread at rest', cell: of(({ own }) => own) },
        { title: 'more while made', cell: of(({ ownMade }) => ownMade) },
        { title: 'more while fetched', cell: of(({ ownFetched }) => ownFetched) },
        { title: 'RSS, more while made', cell: of(({ rssMade }) => rssMade) },
        { title: 'RSS, more while fetched', cell: of(({ rssFetched }) => rssFetched) },
        { title: 'peak of the process', cell: of(({ peak }) => peak) },
      ],
      rows,
      partial,
      notes: [`Fetched in ${slowSeconds} s with a rest in the middle; every SHA-256 was right, and one file parsed whole: ${parsed.nodes} nodes, ${parsed.edges} edges.`],
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
