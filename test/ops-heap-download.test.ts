import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Artifact } from '../src/ops/heap/artifacts.ts'
import type { JobReport } from '../src/ops/heap/jobs.ts'
import type { SnapshotResult } from '../src/ops/heap/snapshot.ts'
import { takeSnapshot } from '../src/ops/heap/take.ts'
import { heapWorld, takeTiny, type HeapWorld } from './_heap-world.ts'

async function within(run: (world: HeapWorld) => Promise<void>, take: typeof takeSnapshot = takeTiny): Promise<void> {
  const world = await heapWorld({ take })
  try {
    await run(world)
  } finally {
    await world.close()
  }
}

const resultOf = (job: JobReport) => job.result as SnapshotResult

/** The bytes as they come over the wire, and the headers. */
async function fetchRaw(url: string, headers: http.OutgoingHttpHeaders = {}): Promise<{ headers: http.IncomingHttpHeaders; bytes: Buffer }> {
  const request = http.get(url, { headers, agent: false })
  const [response] = await once(request, 'response') as [http.IncomingMessage]
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return { headers: response.headers, bytes: Buffer.concat(chunks) }
}

test('a download has its length, its tag and a file\'s name; as gzip coding for who takes it, as a gzip file for others', async () => {
  await within(async world => {
    const { artifact } = resultOf(await world.snapshot(''))
    const url = `${world.url}/artifacts/${artifact.name}`
    const plain = await fetchRaw(url)
    assert.equal(plain.headers['content-type'], 'application/gzip')
    assert.equal(plain.headers['content-length'], String(artifact.bytes))
    assert.equal(plain.headers.etag, `"${artifact.sha256}"`)
    assert.equal(plain.headers['content-disposition'], `attachment; filename="${artifact.name}"`)
    assert.equal(createHash('sha256').update(plain.bytes).digest('hex'), artifact.sha256)
    const coded = await fetchRaw(url, { 'Accept-Encoding': 'br, gzip;q=0.5' })
    assert.equal(coded.headers['content-encoding'], 'gzip')
    assert.equal(coded.headers['content-type'], 'application/json')
    assert.match(coded.headers['content-disposition'] ?? '', /\.heapsnapshot"$/)
    assert.deepEqual(coded.bytes, plain.bytes)
    assert.equal((await fetchRaw(url, { 'Accept-Encoding': 'gzip;q=0' })).headers['content-encoding'], undefined)
  })
})

test('with once=true a file is gone after it was sent, and stays when the client breaks off', async () => {
  await within(async world => {
    const { artifact } = resultOf(await world.snapshot('compress=false'))
    const list = async () => ((await world.ask('GET', '/artifacts')).json.artifacts as Artifact[]).map(({ name }) => name)
    const request = http.get(`${world.url}/artifacts/${artifact.name}?once=true`, { agent: false })
    request.on('error', () => {})
    const [response] = await once(request, 'response') as [http.IncomingMessage]
    response.pause()
    await sleep(50)
    response.destroy()
    await sleep(100)
    assert.deepEqual(await list(), [artifact.name])
    const { bytes } = await fetchRaw(`${world.url}/artifacts/${artifact.name}?once=true`)
    assert.equal(createHash('sha256').update(bytes).digest('hex'), artifact.sha256)
    for (let i = 0; i < 200 && (await list()).length > 0; i++) await sleep(20)
    assert.deepEqual(await list(), [])
    assert.equal((await world.ask('GET', `/artifacts/${artifact.name}`)).status, 404)
  }, takeSnapshot)
})
