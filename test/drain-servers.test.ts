import assert from 'node:assert/strict'
import http from 'node:http'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from '../src/core/index.ts'
import { Client } from './_client.ts'
import { assertCloses, assertLast, turns } from './_scenario.ts'
import { Stopwatch } from './_stopwatch.ts'
import { addressOf, createServer, listen, QUICK } from './_world.ts'

/** A server that answers `/` at once, `/hang` never, and anything else after a while, or when it may. */
async function service(name: string, isTls = false, may?: Promise<void>): Promise<http.Server> {
  const server = createServer(isTls, {}, (req, res) => {
    if (req.url !== '/hang') void (req.url === '/' ? sleep(0) : may ?? sleep(100)).then(() => res.end(name))
  })
  await listen(server)
  return server
}

test('several servers: one drain, the lower order first, the same order together, one report', async () => {
  let release = () => {}
  const released = new Promise<void>(resolve => {
    release = resolve
  })
  const [site, twin, ops] = [await service('public', false, released), await service('twin', true, released), await service('ops')]
  const duck = wrap(site, { ...QUICK, lingerMs: 3_000 }).add(ops, { order: 10 }).add(twin)
  const clients = await Promise.all([site, twin, ops].map(server => Client.open(addressOf(server))))
  const [busy, busyTwin, probe] = clients as [Client, Client, Client]
  probe.request('/')
  await probe.answer()
  busy.request('/slow')
  busyTwin.request('/slow')
  while (duck.stats().inFlight.length < 2) await turns(1)
  assert.equal(duck.stats().connections.total, 3)
  const drained = duck.drain()
  await turns(10)
  assert.deepEqual([site.listening, twin.listening, ops.listening], [false, false, true], 'ops is for the end')
  probe.request('/readyz')
  const unready = await probe.answer()
  assert.equal(unready.status, 503)
  assertCloses(unready)
  release()
  await Promise.all([assertLast(busy), assertLast(busyTwin)])
  const report = await drained
  assert.equal(ops.listening, false)
  assert.equal(report.outcome, 'clean')
  assert.equal(report.served, 2)
  assert.equal(report.closed, 3)
  duck.unwrap()
})

test('several servers: the deadline is one for all', async () => {
  const [first, second] = [await service('first'), await service('second')]
  const duck = wrap(first, { ...QUICK, deadlineMs: 800 }).add(second, { order: 1 })
  const clients = [await Client.open(addressOf(first)), await Client.open(addressOf(second))]
  for (const client of clients) client.request('/hang')
  while (duck.stats().inFlight.length < 2) await turns(1)
  const watch = new Stopwatch()
  const report = await duck.drain()
  watch.assertUnder(1_550)
  assert.equal(report.outcome, 'forced')
  assert.equal(report.destroyed.length, 2)
  await Promise.all(clients.map(client => client.ended()))
  assert.deepEqual([first.listening, second.listening], [false, false])
  duck.unwrap()
})

test('several servers: probes know one state on all of them', async () => {
  const [site, ops] = [await service('public'), await service('ops')]
  const duck = wrap(site, QUICK).add(ops, { order: 1 })
  duck.lameduck()
  for (const server of [site, ops]) {
    const client = await Client.open(addressOf(server))
    client.request('/readyz')
    assert.equal((await client.answer()).status, 503)
    client.request('/livez')
    await client.ended()
  }
  await duck.drain()
  duck.unwrap()
})

test('several servers: one that does not listen yet, and one that was closed, hold nothing', async () => {
  const [site, closed] = [await service('public'), await service('closed')]
  const duck = wrap(site, QUICK).add(http.createServer()).add(closed)
  closed.close()
  assert.equal((await duck.drain()).outcome, 'clean')
  duck.unwrap()
})

test('several servers: unwrap frees all of them', async () => {
  const [a, b] = [http.createServer(), http.createServer()]
  const duck = wrap(a, QUICK).add(b)
  assert.equal(wrap(b), duck)
  duck.unwrap()
  const next = wrap(b, QUICK)
  assert.notEqual(next, duck)
  for (const server of [a]) assert.equal(Object.hasOwn(server, 'emit'), false)
  next.unwrap()
})

test('several servers: a connection of the later one is not closed before its turn', async () => {
  const [site, ops] = [await service('public'), await service('ops')]
  const duck = wrap(site, QUICK).add(ops, { order: 1 })
  const [busy, idle] = [await Client.open(addressOf(site)), await Client.open(addressOf(ops))]
  busy.request('/slow')
  idle.request('/')
  await idle.answer()
  const drained = duck.drain()
  await sleep(60)
  assert.equal(idle.end, 'open')
  await assertLast(busy)
  await drained
  assert.equal(await idle.ended(), 'fin')
  duck.unwrap()
})
