// The endpoint reads, redacts, compresses and sends snapshots piece by piece: what it takes of memory does not grow with them.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { buildOps } from '../bench/_build.ts'
import { FileSite, type Fetched } from '../bench/_ops-file.ts'
import { HeapSnapshot } from './_heap-snapshot.ts'

const HEAP_MB = 25
const MiB = 2 ** 20
const folder = mkdtempSync(join(tmpdir(), 'lameduck-file-memory-'))
const [raw, got] = [join(folder, 'raw'), join(folder, 'got')]
let built: Awaited<ReturnType<typeof buildOps>>
const sites: FileSite[] = []

async function start(options: { heapMB: number, endpoint: boolean, standIn?: string }): Promise<FileSite> {
  const site = new FileSite({ built: built.folder, ...options })
  sites.push(site)
  return site.start()
}

before(async () => {
  built = await buildOps()
  // V8's part, in a process of its own: its memory is not to be in the figures.
  await (await start({ heapMB: HEAP_MB, endpoint: false })).write(raw)
})

after(async () => {
  await Promise.all(sites.map(site => site.close()))
  built?.[Symbol.dispose]()
  rmSync(folder, { recursive: true, force: true })
})

/** Whoever held the file as a whole would need all of its size: V8's snapshot has some 40 MiB here, and what is usual is a tenth of it. */
function assertStreamed({ idle, making, fetching }: Fetched): void {
  const size = statSync(raw).size
  assert.ok(size > 28 * MiB, `V8's file has ${size} bytes: too few to tell`)
  for (const [when, { ownMost, rssMost }] of Object.entries({ making, fetching })) {
    const [own, rss] = [ownMost - idle.own, rssMost - idle.rss].map(bytes => bytes / MiB) as [number, number]
    assert.ok(own < size / MiB / 2, `while ${when} the file the endpoint's thread took ${own.toFixed(1)} MiB more`)
    // The compiler's own memory is in it, some 8 MiB.
    assert.ok(rss < size / MiB, `while ${when} the file the process took ${rss.toFixed(1)} MiB more`)
  }
}

test('a snapshot is redacted, compressed and sent to a slow reader without the endpoint ever holding it as a whole; the file is complete', async () => {
  const site = await start({ heapMB: 0, endpoint: true, standIn: raw })
  await site.rest(2)
  assertStreamed(await site.fetch('', got, 2))
  const snapshot = new HeapSnapshot(gunzipSync(readFileSync(got)))
  assert.deepEqual(snapshot.faults(), [])
  assert.ok(snapshot.raw.snapshot.node_count > 100_000)
})

test('a snapshot that is not compressed is sent to a slow reader piece by piece, too', async () => {
  const site = await start({ heapMB: 0, endpoint: true, standIn: raw })
  await site.rest(2)
  assertStreamed(await site.fetch('compress=false', got, 3))
})
