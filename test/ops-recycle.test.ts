// `recycle`: the process goes when the file was fetched, or nobody comes for it.
import assert from 'node:assert/strict'
import http from 'node:http'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { MessageChannel } from 'node:worker_threads'
import { wrap } from '../src/core/index.ts'
import { actor } from '../src/ops/actor.ts'
import { Downloads, type DownloadNews } from '../src/ops/heap/downloads.ts'
import type { JobReport } from '../src/ops/heap/jobs.ts'
import type { SnapshotResult } from '../src/ops/heap/snapshot.ts'
import { ops } from '../src/ops/index.ts'
import { Link } from '../src/ops/link.ts'
import { checkRule } from '../src/ops/watch/rule.ts'
import { ask, askUntil, freshToken } from './_ops.ts'
import { folder, until } from './_ops-door.ts'
import { heapWorld, takeTiny, type HeapWorld, type HeapWorldOptions } from './_heap-world.ts'

async function within(heap: HeapWorldOptions['heap'], run: (world: HeapWorld, exits: string[]) => Promise<void>): Promise<void> {
  const exits: string[] = []
  const world = await heapWorld({ take: takeTiny, exit: ({ outcome }) => exits.push(outcome), heap: heap ?? {} })
  try {
    await run(world, exits)
  } finally {
    await world.close()
  }
}

const nameOf = ({ result }: JobReport) => (result as SnapshotResult).artifact.name

for (const how of ['fetched', 'deleted'] as const) {
  test(`with recycle the process goes when the file was ${how}, not before`, () => within({ downloadMs: 600_000 }, async (world, exits) => {
    const name = nameOf(await world.snapshot('recycle=true'))
    await sleep(100)
    // A look at its size is no download.
    assert.equal((await world.ask('HEAD', `/artifacts/${name}?once=true`)).status, 200)
    await sleep(100)
    assert.deepEqual([world.duck.state, exits], ['lameduck', []])
    const { status } = await world.ask(how === 'fetched' ? 'GET' : 'DELETE', `/artifacts/${name}`)
    assert.equal(status, how === 'fetched' ? 200 : 204)
    await until('its end', () => exits.length === 1)
    assert.deepEqual(exits, ['clean'])
  }))
}

test('with recycle and nobody who fetches the file the process goes all the same', () => within({ downloadMs: 50 }, async (world, exits) => {
  assert.equal((await world.snapshot('recycle=true')).state, 'done')
  await until('its end', () => exits.length === 1)
}))

test('with recycle a caller who is refused the file keeps the process for nobody', () => within({ downloadMs: 300 }, async (world, exits) => {
  const name = nameOf(await world.snapshot('recycle=true&redact=false', ['diag', 'control', 'secrets']))
  assert.equal((await world.ask('GET', `/artifacts/${name}`, ['diag'])).status, 403)
  await until('its end', () => exits.length === 1)
}))

test('with recycle a process that somebody puts back into rotation meanwhile stays there', () => within({ downloadMs: 2_000 }, async (world, exits) => {
  await world.snapshot('recycle=true')
  world.duck.resume()
  // Its place is free again when the wait for a download is over.
  let next = await world.ask('POST', '/heap/snapshots')
  for (let i = 0; i < 200 && next.json.code === 'ERR_LAMEDUCK_OPS_BUSY'; i++) {
    await sleep(50)
    next = await world.ask('POST', '/heap/snapshots')
  }
  assert.equal((await world.jobs.ended(next.json.id as string)).state, 'done')
  assert.deepEqual([world.duck.state, exits], ['running', []])
}))

test('with recycle a drain that somebody begins does not wait for a download', () => within({ downloadMs: 600_000 }, async (world, exits) => {
  await world.snapshot('recycle=true')
  await sleep(50)
  assert.equal(world.duck.state, 'lameduck')
  assert.equal((await world.duck.drain({ lameduckMs: 0 })).outcome, 'clean')
  // It goes by whoever began the drain, and the job's place is free again.
  assert.deepEqual(exits, [])
  assert.equal((await world.snapshot('')).state, 'done')
}))

test('a download that has begun is waited for; one that broke off gives others the time to begin', async () => {
  const { port1, port2 } = new MessageChannel()
  const [main, endpoint] = [new Link(port1), new Link(port2)]
  const downloads = new Downloads(main)
  const tell = (what: DownloadNews['what'], name = 'mine') => endpoint.tell('heap.download', { name, what } satisfies DownloadNews)
  // News go before an answer, be it that there is no such method.
  const heard = () => endpoint.call('none').catch(() => {})
  const { signal } = new AbortController()
  const within = (waited: Promise<void>, ms: number) => Promise.race([waited.then(() => 'over'), sleep(ms, 'waits')])
  try {
    tell('begun')
    await heard()
    const waited = downloads.whole('mine', 100, 600_000, signal)
    tell('whole', 'another')
    assert.equal(await within(waited, 400), 'waits')
    tell('broken')
    assert.equal(await within(waited, 10_000), 'over')
    tell('begun')
    await heard()
    assert.equal(await within(downloads.whole('mine', 100, 200, signal), 10_000), 'over')
    tell('whole')
    assert.equal(await within(downloads.whole('mine', 600_000, 600_000, signal), 10_000), 'over')
    assert.equal(await within(downloads.whole('other', 600_000, 600_000, AbortSignal.abort()), 10_000), 'over')
  } finally {
    downloads.end()
    main.close()
    endpoint.close()
  }
})

test('how long a snapshot waits is an option, and one that is no time is refused', async () => {
  const token = freshToken()
  const endpoint = await ops({
    listen: { port: 0 }, thread: false, audit: false, files: { dir: folder(), freeBytes: 0 }, heap: { afterGcMs: 60 },
    auth: { tokens: [{ name: 'ann', scopes: ['read', 'diag'], token }] },
  }).ready
  try {
    const { json } = await ask(endpoint.address, '/heap/snapshots?when=after-gc&force=true', { method: 'POST', token })
    const { json: job } = await askUntil(endpoint.address, `/jobs/${String(json.id)}`, { token }, ({ json }) => json.state !== 'running')
    const { code, detail } = job.problem as { code: string; detail: string }
    assert.deepEqual([code, detail], ['ERR_LAMEDUCK_OPS_NO_GC', 'no major GC came within 60 ms'])
  } finally {
    await endpoint.close()
  }
  for (const name of ['afterGcMs', 'downloadMs', 'inFlightMs', 'lameduckMs', 'recycleMs']) {
    for (const value of [-1, Number.NaN, '1000', 2 ** 31]) {
      assert.throws(() => ops({ heap: { [name]: value } }), { code: 'ERR_LAMEDUCK_OPTION', message: new RegExp(`options\\.heap\\.${name}`) })
    }
  }
  assert.throws(() => ops({ heap: { quick: true } as never }), { code: 'ERR_LAMEDUCK_OPTION', message: /options\.heap/ })
})

test('a rule of the code isolates though nobody has scope control, and is listed as the code\'s; over HTTP nobody arms one without it', async () => {
  const armed = { name: 'leak', when: { leak: 'suspected' }, action: 'snapshot', params: { isolate: true, compress: false } } as const
  await within({}, async world => {
    const states: string[] = []
    world.duck.on('state', state => states.push(state))
    const { act } = actor(world.bench)
    const { job } = await act(checkRule(armed), { reason: 'a test', sample: {} as never, verdict: 'suspected' })
    assert.equal((await world.jobs.ended(job)).state, 'done')
    assert.deepEqual(states, ['lameduck', 'running'])
    // Whoever armed it had the scope for that.
    const raw = checkRule({ ...armed, params: { redact: false } })
    const { job: next } = await act(raw, { reason: 'a test', sample: {} as never, verdict: 'suspected' })
    const { state, result } = await world.jobs.ended(next)
    assert.deepEqual([state, (result as SnapshotResult).artifact.secret], ['done', true])
  })
  const [weak, strong] = [freshToken(), freshToken()]
  const endpoint = await ops({
    listen: { port: 0 }, thread: false, audit: false, files: { dir: folder() }, rules: [armed],
    auth: { tokens: [{ name: 'ann', scopes: ['read', 'diag'], token: weak }, { name: 'bob', scopes: ['read', 'diag', 'control'], token: strong }] },
  }).ready
  try {
    const { name: _name, ...body } = armed
    const refused = await ask(endpoint.address, '/rules/mine', { method: 'PUT', token: weak, body })
    assert.deepEqual([refused.status, refused.json.code, refused.json.scope], [403, 'ERR_LAMEDUCK_OPS_SCOPE', 'control'])
    assert.equal((await ask(endpoint.address, '/rules/mine', { method: 'PUT', token: strong, body })).status, 200)
    const { json } = await ask(endpoint.address, '/rules', { token: weak })
    const rules = json.rules as { name: string; by: string; params: { isolate?: boolean } }[]
    assert.deepEqual(rules.map(({ name, by, params }) => [name, by, params.isolate]), [['leak', 'code', true], ['mine', 'bob', true]])
  } finally {
    await endpoint.close()
  }
})

test('a duck whose drain is over is refused: nothing would close the endpoint', async () => {
  const before = process.listenerCount('exit')
  for (const end of ['drain', 'abort'] as const) {
    const duck = wrap(http.createServer(), { signals: false })
    await (end === 'drain' ? duck.drain({ lameduckMs: 0 }) : duck.abort())
    assert.throws(() => ops({ duck, listen: { port: 0 }, audit: false }), { name: 'LameduckError', code: 'ERR_LAMEDUCK_STATE' })
  }
  assert.equal(process.listenerCount('exit'), before)
})
