import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from '../src/core/index.ts'
import { app, release } from './_app.ts'
import { Client } from './_client.ts'
import { assertCloses, assertLast, turns } from './_scenario.ts'
import { Stopwatch } from './_stopwatch.ts'
import { until } from './_until.ts'
import { addressOf, listen, QUICK, rawWorld } from './_world.ts'

test('drain() twice, and later: one drain, one promise, one report', async () => {
  const site = await rawWorld(false).start(app)
  const duck = site.duck!
  const [first, second] = [duck.drain({ reason: 'first' }), duck.drain({ reason: 'second' })]
  assert.equal(first, second)
  const report = await first
  assert.equal(report.reason, 'first')
  assert.equal(await duck.drain(), report)
  assert.equal(duck.report, report)
  await site.close()
  assert.equal(duck.state, 'drained', 'abort() after the end changes nothing')
})

test('drain() before listen resolves; listening afterwards is not opened', async () => {
  const server = http.createServer()
  const duck = wrap(server, QUICK)
  const report = await duck.drain()
  assert.equal(report.outcome, 'clean')
  assert.equal(report.reason, 'drain()')
  await once(server.listen(0, '127.0.0.1'), 'listening')
  await until(() => !server.listening, 'the end of listening')
  duck.unwrap()
})

test('drain() between listen() and listening: the listener does not stay', async () => {
  const server = http.createServer()
  const duck = wrap(server, QUICK)
  // With a host name the address is looked up first.
  const listening = once(server.listen(0, 'localhost'), 'listening')
  const report = await duck.drain()
  assert.equal(report.outcome, 'clean')
  await listening
  await until(() => !server.listening, 'the end of listening')
  duck.unwrap()
})

test('drain() after close() by the application resolves, and what is in flight is answered', async () => {
  const site = await rawWorld(false).start(app)
  const client = await Client.open(site.address)
  const id = client.request('/gate')
  while (site.executed.length === 0) await turns(1)
  site.server.close()
  const drained = site.drain()
  await turns()
  release(id)
  await assertLast(client)
  assert.equal((await drained)?.outcome, 'clean')
  await site.close()
})

test('close() by the application in the middle of a drain changes nothing', async () => {
  const site = await rawWorld(false).start(app)
  const client = await Client.open(site.address)
  const id = client.request('/gate')
  while (site.executed.length === 0) await turns(1)
  const drained = site.drain()
  await turns()
  const closed = new Promise(resolve => site.server.close(resolve))
  release(id)
  await assertLast(client)
  assert.equal((await drained)?.outcome, 'clean')
  await closed
  await site.close()
})

test('drain() inside a request: its own response still goes out', async () => {
  const site = await rawWorld(false).start(x => {
    if (x.path === '/stop') void site.drain()
    return { body: 'stopping' }
  })
  const client = await Client.open(site.address)
  client.request('/stop')
  assert.equal((await assertLast(client)).text, 'stopping')
  await site.drain()
  await site.close()
})

test('lameduck() alone stays until it is over: nothing is closed, all is served', async () => {
  const site = await rawWorld(false).start(app, { options: { lameduckMs: 10, deadlineMs: 100 } })
  const duck = site.duck!
  const idle = await Client.open(site.address)
  duck.lameduck()
  duck.lameduck()
  await sleep(150)
  assert.equal(duck.state, 'lameduck')
  assert.equal(duck.report, undefined)
  assert.equal(idle.end, 'open')
  const client = await Client.open(site.address)
  client.request('/')
  assertCloses(await client.answer())
  assert.equal(duck.signal.aborted, false, 'the signal is for the drain')
  assert.equal((await duck.drain({ lameduckMs: 0, deadlineMs: 10_000 })).outcome, 'clean')
  await site.close()
})

test('resume() ends a pending drain with outcome resumed, and gives a fresh signal', async () => {
  const site = await rawWorld(false).start(app, { options: { lameduckMs: 2_000 } })
  const duck = site.duck!
  const client = await Client.open(site.address)
  const drained = duck.drain()
  const { signal } = duck
  assert.equal(signal.aborted, true)
  assert.equal(duck.state, 'lameduck')
  duck.resume()
  const report = await drained
  assert.equal(report.outcome, 'resumed')
  assert.equal(report.forcedBy, undefined)
  assert.equal(duck.report, report)
  assert.equal(duck.state, 'running')
  assert.equal(duck.signal.aborted, false)
  assert.notEqual(duck.signal, signal)
  assert.equal(client.end, 'open')
  const again = await duck.drain({ lameduckMs: 0 })
  assert.notEqual(again, report)
  assert.equal(again.outcome, 'clean')
  assert.equal(duck.signal.aborted, true)
  await site.close()
})

test('resume() while draining is refused', async () => {
  const site = await rawWorld(false).start(app)
  const client = await Client.open(site.address)
  const id = client.request('/gate')
  while (site.executed.length === 0) await turns(1)
  const drained = site.drain()
  await turns(1)
  assert.equal(site.duck!.state, 'draining')
  assert.throws(() => site.duck!.resume(), { code: 'ERR_LAMEDUCK_STATE' })
  release(id)
  await drained
  await site.close()
})

test('the signal is aborted in the same tick as drain()', async () => {
  const { duck, close } = await rawWorld(false).start(app)
  let told = 0
  duck!.signal.addEventListener('abort', () => told++)
  const drained = duck!.drain()
  assert.equal(told, 1)
  await drained
  await close()
})

test('abort() without a drain destroys at once', async () => {
  const site = await rawWorld(false).start(app)
  const [busy, idle] = [await Client.open(site.address), await Client.open(site.address)]
  busy.request('/hang?secret')
  while (site.executed.length === 0) await turns(1)
  const watch = new Stopwatch()
  const report = await site.duck!.abort('operator')
  watch.assertUnder(500)
  assert.equal(report.outcome, 'forced')
  assert.equal(report.forcedBy, 'abort')
  assert.equal(report.reason, 'operator')
  const named = report.destroyed.find(({ path }) => path === '/hang')
  assert.equal(named?.why, 'abort')
  assert.equal(site.duck!.state, 'aborted')
  assert.equal(site.server.listening, false)
  await Promise.all([busy.ended(), idle.ended()])
})

test('abort() in the lame duck ends it', async () => {
  const site = await rawWorld(false).start(app, { options: { lameduckMs: 4_000 } })
  const client = await Client.open(site.address)
  const drained = site.drain()
  const watch = new Stopwatch()
  await site.duck!.abort()
  watch.assertUnder(500)
  assert.equal((await drained)?.outcome, 'forced')
  await client.ended()
})

test('await using: drains without a lame duck, then unwraps', async () => {
  const server = http.createServer((_req, res) => setTimeout(() => res.end('late'), 60))
  let client: Client
  const watch = new Stopwatch()
  {
    await using duck = wrap(server, { ...QUICK, lameduckMs: 4_000 })
    await listen(server)
    client = await Client.open(addressOf(server))
    client.request('/')
    while (duck.stats().inFlight.length === 0) await turns(1)
  }
  watch.assertUnder(2_000)
  assert.equal((await client.answer()).text, 'late')
  assert.equal(server.listening, false)
  assert.equal(Object.hasOwn(server, 'emit'), false)
})

test('the deadline counts from drain(), lame duck included', async () => {
  const site = await rawWorld(false).start(app, { options: { lameduckMs: 1_200, deadlineMs: 1_400 } })
  const client = await Client.open(site.address)
  client.request('/hang')
  while (site.executed.length === 0) await turns(1)
  const watch = new Stopwatch()
  const report = await site.drain()
  watch.assertOver(1_350)
  watch.assertUnder(2_400)
  assert.equal(report?.forcedBy, 'deadline')
  await client.ended()
})

test('a lame duck that was asked for lasts as long as it was asked to, whatever share of the deadline that is', async () => {
  const site = await rawWorld(false).start(app, { options: { lameduckMs: 600, deadlineMs: 800 } })
  const client = await Client.open(site.address)
  const id = client.request('/gate')
  while (site.executed.length === 0) await turns(1)
  const started = performance.now()
  let draining = Number.NaN
  site.duck!.on('state', state => {
    if (state === 'draining') draining = performance.now() - started
  })
  const drained = site.drain()
  await sleep(500)
  release(id)
  await drained
  assert.ok(draining > 490, `lasted ${draining} ms`)
  await client.ended()
  await site.close()
})

test('drain({ deadlineMs, lameduckMs }) overrides the options', async () => {
  const site = await rawWorld(false).start(app, { options: { lameduckMs: 3_000, deadlineMs: 5_000 } })
  const client = await Client.open(site.address)
  client.request('/hang')
  while (site.executed.length === 0) await turns(1)
  const watch = new Stopwatch()
  const report = await site.duck!.drain({ lameduckMs: 0, deadlineMs: 150, reason: 'mine' })
  watch.assertUnder(1_500)
  assert.equal(report.forcedBy, 'deadline')
  assert.equal(report.reason, 'mine')
})

test('a wall clock that jumps changes nothing', async t => {
  const site = await rawWorld(false).start(app, { options: { lameduckMs: 100 } })
  const client = await Client.open(site.address)
  const real = Date.now
  let jump = 0
  t.mock.method(Date, 'now', () => real() + jump)
  const id = client.request('/gate')
  while (site.executed.length === 0) await turns(1)
  const started = performance.now()
  const drained = site.drain()
  jump = 3_600_000
  await sleep(50)
  jump = -7_200_000
  await until(() => site.duck!.state === 'draining', 'the end of the lame duck')
  assert.ok(performance.now() - started >= 95, 'not early either')
  release(id)
  await assertLast(client)
  const report = await drained
  const took = performance.now() - started
  assert.equal(report?.outcome, 'clean')
  assert.ok(Math.abs((report?.durationMs ?? 0) - took) < 60_000, `${report?.durationMs} against ${took} ms`)
  await site.close()
})

test('stats() counts by state, names what is in flight without its query, and ends at zero', async () => {
  const site = await rawWorld(false).start(app)
  const duck = site.duck!
  const [fresh, idle, busy] = [await Client.open(site.address), await Client.open(site.address), await Client.open(site.address)]
  idle.request('/')
  await idle.answer()
  const id = busy.request('/gate?secret', { method: 'POST', body: 'x' })
  while (site.executed.length < 2) await turns(1)
  await turns()
  const { state, connections, inFlight, counters } = duck.stats()
  assert.equal(state, 'running')
  const { total, fresh: freshOnes, idle: idleOnes, active } = connections
  assert.deepEqual({ total, freshOnes, idleOnes, active }, { total: 3, freshOnes: 1, idleOnes: 1, active: 1 })
  assert.deepEqual(inFlight.map(({ method, path }) => [method, path]), [['POST', '/gate']])
  assert.ok(inFlight[0]!.ageMs >= 0)
  assert.deepEqual(counters, { accepted: 3, served: 1, rejected: 0, refused: 0 })
  release(id)
  await busy.answer()
  await turns()
  assert.deepEqual(duck.stats().inFlight, [])
  await duck.drain()
  const after = duck.stats()
  assert.equal(after.connections.total, 0)
  assert.equal(after.counters.served, 2)
  await fresh.ended()
  await site.close()
})
