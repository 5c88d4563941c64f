import assert from 'node:assert/strict'
import { once, type EventEmitter } from 'node:events'
import http from 'node:http'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from '../src/core/index.ts'
import { release, app } from './_app.ts'
import { Client } from './_client.ts'
import { assertCloses, assertKeeps, assertLast, quiet, turns } from './_scenario.ts'
import { Stopwatch } from './_stopwatch.ts'
import { until } from './_until.ts'
import { addressOf, createServer, exchange, listen, QUICK, rawWorld } from './_world.ts'

const PROCESS_EVENTS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'message', 'uncaughtException', 'unhandledRejection', 'exit', 'beforeExit']

/** All that an emitter shows of itself: its own properties and the very listeners of each event. */
function portrait(emitter: EventEmitter, events: (string | symbol)[] = emitter.eventNames()) {
  const names = [...Object.getOwnPropertyNames(emitter), ...Object.getOwnPropertySymbols(emitter).map(String)]
  return { names: names.sort(), listeners: new Map(events.map(event => [event, emitter.rawListeners(event)])) }
}

/** The server side of a connection. */
function acceptedSocket(server: http.Server, isTls: boolean): Promise<Socket> {
  return new Promise(resolve => server.once(isTls ? 'secureConnection' : 'connection', resolve))
}

for (const isTls of [false, true]) {
  const name = isTls ? 'https' : 'http'

  test(`${name}: unwrap leaves the server, its sockets and the process as they were`, async () => {
    const server = createServer(isTls, {}, (_req, res) => res.end('hello'))
    await listen(server)
    // A socket that lameduck never saw, for comparison.
    const bare = acceptedSocket(server, isTls)
    const before = await Client.open(addressOf(server))
    before.request('/')
    await before.answer()
    const bareSocket = portrait(await bare)
    const [serverBefore, processBefore] = [portrait(server), portrait(process, PROCESS_EVENTS)]

    const duck = wrap(server, { ...QUICK, signals: ['SIGTERM', 'SIGINT', 'SIGHUP'], drainOnCrash: true, admit: 'reject' })
    duck.onDrain('hook', () => {})
    const tracked = acceptedSocket(server, isTls)
    const client = await Client.open(addressOf(server))
    client.request('/')
    await client.answer()
    duck.lameduck()
    before.request('/livez')
    await before.answer()
    duck.resume()
    duck.unwrap()

    assert.deepEqual(portrait(server), serverBefore)
    assert.deepEqual(portrait(process, PROCESS_EVENTS), processBefore)
    const socket = portrait(await tracked)
    // Node keeps the peer's name once somebody has asked for it.
    assert.deepEqual(socket.names.filter(key => !key.includes('lameduck') && key !== '_peername'), bareSocket.names)
    assert.deepEqual([...socket.listeners].map(([event, all]) => [event, all.length]),
      [...bareSocket.listeners].map(([event, all]) => [event, all.length]))

    // And it is a server like any other.
    client.request('/livez')
    assert.equal((await client.answer()).text, 'hello')
    client.destroy()
    before.destroy()
    await new Promise(resolve => server.close(resolve))
  })
}

test('unwrap after a drain leaves nothing either, and the server can listen and be wrapped again', async () => {
  const server = http.createServer((_req, res) => res.end('hello'))
  const names = portrait(server).names
  const duck = wrap(server, { ...QUICK, signals: ['SIGTERM'] })
  await listen(server)
  const client = await Client.open(addressOf(server))
  client.request('/')
  await client.answer()
  await duck.drain()
  duck.unwrap()
  assert.deepEqual(portrait(server).names.filter(key => /lameduck|^emit$|^listen$|^close$/.test(key)), [])
  assert.equal(process.listenerCount('SIGTERM'), 0)
  assert.deepEqual(Object.getOwnPropertyNames(server).sort(), Object.getOwnPropertyNames(server).sort().filter(key => names.includes(key) || key.startsWith('_')))

  const again = wrap(server, QUICK)
  assert.notEqual(again, duck)
  await listen(server)
  const next = await Client.open(addressOf(server))
  next.request('/')
  assertKeeps(await next.answer())
  assert.equal((await again.drain()).outcome, 'clean')
  again.unwrap()
})

test('unwrap with a request in flight: it is answered, the connection is kept', async () => {
  const site = await rawWorld(false).start(app)
  const client = await Client.open(site.address)
  const id = client.request('/gate')
  while (site.executed.length === 0) await turns(1)
  site.duck!.unwrap()
  release(id)
  assertKeeps(await client.answer())
  client.request('/')
  assertKeeps(await client.answer())
  client.destroy()
  await new Promise(resolve => site.server.close(resolve))
})

test('wrapping twice gives the same duck, with the options of the first', () => {
  const server = http.createServer()
  const before = process.listenerCount('SIGTERM')
  const duck = wrap(server, { ...QUICK, signals: ['SIGTERM'] })
  assert.equal(wrap(server, { quietMs: 1 }), duck)
  assert.equal(wrap(server), duck)
  assert.equal(process.listenerCount('SIGTERM'), before + 1)
  assert.throws(() => wrap(server, { quietMs: -1 }), { code: 'ERR_LAMEDUCK_OPTION' })
  duck.unwrap()
  assert.equal(process.listenerCount('SIGTERM'), before)
})

test('signals: false touches nothing of the process', () => {
  const before = portrait(process, PROCESS_EVENTS)
  const duck = wrap(http.createServer(), { signals: false })
  assert.deepEqual(portrait(process, PROCESS_EVENTS), before)
  duck.unwrap()
})

test('wrapped after listen: the same result as before', async () => {
  const executed: string[] = []
  const server = http.createServer((req, res) => {
    exchange(executed, req, res, undefined)
    setTimeout(() => res.end('slow'), 80)
  })
  await listen(server)
  const duck = wrap(server, QUICK)
  const [busy, idle] = [await Client.open(addressOf(server)), await Client.open(addressOf(server))]
  idle.request('/')
  await idle.answer()
  busy.request('/')
  while (executed.length < 2) await turns(1)
  const drained = duck.drain()
  assert.equal((await assertLast(busy)).text, 'slow')
  assert.equal(await idle.ended(), 'fin')
  const report = await drained
  assert.equal(report.outcome, 'clean')
  assert.equal(report.unknown, 0)
  duck.unwrap()
})

test('wrapped with open sockets: their next request makes them known, and the rest are counted', async () => {
  const executed: string[] = []
  const server = http.createServer((req, res) => {
    exchange(executed, req, res, undefined)
    setTimeout(() => res.end('hello'), req.url === '/slow' ? 80 : 0)
  })
  await listen(server)
  const clients = await Promise.all(Array.from({ length: 3 }, () => Client.open(addressOf(server))))
  for (const client of clients) {
    client.request('/')
    await client.answer()
  }
  const [idle, active, busy] = clients as [Client, Client, Client]
  const duck = wrap(server, QUICK)
  active.request('/')
  await active.answer()
  busy.request('/slow')
  while (executed.length < 5) await turns(1)
  const drained = duck.drain()
  await assertLast(busy)
  for (const client of [idle, active]) assert.equal(await client.ended(), 'fin')
  const report = await drained
  assert.equal(report.unknown, 1)
  assert.equal(report.outcome, 'clean')
  assert.equal(server.listening, false)
  duck.unwrap()
})

test('wrapped with open sockets: the lame duck does not end early, since they may be in use', async () => {
  const server = http.createServer((_req, res) => res.end('hello'))
  await listen(server)
  const client = await Client.open(addressOf(server))
  client.request('/')
  await client.answer()
  const duck = wrap(server, { ...QUICK, lameduckMs: 600 })
  const drained = duck.drain()
  await sleep(150)
  assert.equal(duck.state, 'lameduck')
  client.request('/')
  await assertLast(client)
  assert.equal((await drained).outcome, 'clean')
  duck.unwrap()
})

test('wrapped while a request is in flight that it never saw: the drain ends all the same', async () => {
  const server = http.createServer((_req, res) => setTimeout(() => res.end('late'), 150))
  await listen(server)
  const client = await Client.open(addressOf(server))
  client.request('/')
  await once(server, 'request')
  // Nobody saw it begin, so nobody can say that it ended: Node's own keep-alive timeout would, or the deadline does.
  const duck = wrap(server, { ...QUICK, deadlineMs: 800 })
  const report = await duck.drain()
  assert.equal((await client.answer()).text, 'late', 'what was in flight is answered')
  await client.ended()
  assert.equal(report.unknown, 1)
  duck.unwrap()
})

test('wrapped with a silent open socket and a busy one: nothing outlasts the deadline', async () => {
  const server = http.createServer(() => {})
  let accepted = 0
  server.on('connection', () => accepted++)
  await listen(server)
  const [client, silent] = [await Client.open(addressOf(server)), await Client.open(addressOf(server))]
  const hung = once(server, 'request')
  client.request('/hang')
  await hung
  await until(() => accepted === 2, 'both accepted')
  const duck = wrap(server, { ...QUICK, deadlineMs: 300 })
  const watch = new Stopwatch()
  const report = await duck.drain()
  watch.assertUnder(1_500)
  assert.equal(report.outcome, 'forced')
  assert.equal(report.unknown, 2)
  await Promise.all([client.ended(), silent.ended()])
  duck.unwrap()
})

test('the server emits close once, at the end', async () => {
  const site = await rawWorld(false).start(app)
  const log: string[] = []
  site.server.on('close', () => log.push('close'))
  const client = await Client.open(site.address)
  const id = client.request('/gate')
  while (site.executed.length === 0) await turns(1)
  const drained = site.drain()
  while (site.server.listening) await turns(1)
  await quiet()
  log.push('answer')
  release(id)
  await assertLast(client)
  await drained
  await turns()
  assert.deepEqual(log, ['answer', 'close'])
  await site.close()
})

test('two ducks on two servers do not disturb each other', async () => {
  const [one, two] = [await rawWorld(false).start(app), await rawWorld(false).start(app)]
  const [a, b] = [await Client.open(one.address), await Client.open(two.address)]
  const drained = one.drain()
  b.request('/')
  assertKeeps(await b.answer())
  await drained
  await a.ended()
  b.request('/')
  void two.drain()
  assertCloses(await b.answer())
  await Promise.all([one.close(), two.close()])
})
