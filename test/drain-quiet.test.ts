import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { app, release } from './_app.ts'
import { Client } from './_client.ts'
import { KINDS, startHttp2, until } from './_http2.ts'
import { assertCloses, assertKeeps, assertLast, quiet, turns } from './_scenario.ts'
import { frame, Peer, simple, TEXT } from './_websocket.ts'
import { rawWorld, type Setup, type Site } from './_world.ts'

/** A site, and clients that each did one request. It ends whatever happens. */
async function within(setup: Setup & { tls?: boolean; idle?: number }, run: (site: Site, idle: Client[]) => Promise<void>): Promise<void> {
  const site = await rawWorld(setup.tls ?? false).start(app, setup)
  try {
    const clients = await Promise.all(Array.from({ length: setup.idle ?? 0 }, () => Client.open(site.address)))
    for (const client of clients) client.request('/')
    for (const client of clients) assertKeeps(await client.answer())
    await run(site, clients)
  } finally {
    await site.close()
  }
}

test('ten thousand times out of rotation and back while a request waits: it is answered as if nothing had been', () => within({}, async site => {
  const client = await Client.open(site.address)
  client.request('/gate')
  while (site.executed.length === 0) await turns(1)
  for (let i = 0; i < 10_000; i++) {
    site.duck!.lameduck()
    site.duck!.resume()
  }
  release(site.executed[0]!)
  assertKeeps(await client.answer())
}))

for (const kind of KINDS) test(`${kind}: ten thousand times out of rotation and back while a request waits: it is answered as if nothing had been`, async () => {
  const site = await startHttp2(kind)
  const { duck } = site
  try {
    const client = await site.connect()
    const answer = client.ask('/gate', { 'x-id': `${kind}-cycles` })
    await until('in flight', () => duck.stats().inFlight.length === 1)
    for (let i = 0; i < 10_000; i++) {
      duck.lameduck()
      duck.resume()
    }
    release(`${kind}-cycles`)
    assert.ok((await answer).answered)
  } finally {
    await site.close()
  }
})

/** A new client is served, and its connection kept. */
async function serves(site: Site): Promise<void> {
  const client = await Client.open(site.address)
  for (let i = 0; i < 2; i++) {
    client.request('/')
    assertKeeps(await client.answer())
  }
}

for (const tls of [false, true]) {
  test(`quiet(), ${tls ? 'https' : 'http'}: idle clients see a FIN, what is in flight and what comes is served, and resume() is as before`, () => within({ tls, idle: 20 }, async (site, idle) => {
    const duck = site.duck!
    const busy = await Client.open(site.address)
    const held = busy.request('/gate')
    await until('in flight', () => duck.stats().inFlight.length === 1)
    duck.lameduck()
    let settled = false
    const left = duck.quiet().finally(() => {
      settled = true
    })
    for (const client of idle) assert.equal(await client.ended(), 'fin')
    const late = await Client.open(site.address)
    late.request('/readyz')
    assert.equal((await assertLast(late, 503)).status, 503)
    assert.equal(settled, false, 'a request is in flight')
    release(held)
    assert.equal((await assertLast(busy)).text, 'gate')
    assert.equal((await left).connections.total, 0)
    assert.equal(duck.state, 'lameduck')
    duck.resume()
    assert.equal(duck.state, 'running')
    await serves(site)
    assert.equal((await duck.drain()).outcome, 'clean')
  }))
}

test('quiet(): a client that opens a connection and sends nothing, or half a head, does not hold it up', () => within({}, async site => {
  const [silent, half] = [await Client.open(site.address), await Client.open(site.address)]
  half.write('GET / HTTP/1.1\r\nHost')
  await turns()
  site.duck!.lameduck()
  assert.equal((await site.duck!.quiet()).connections.total, 0)
  assert.equal(await silent.ended(), 'fin')
  assert.equal((await half.answer()).status, 408)
}))

test('quiet(): a client that is in the middle of its work gets an answer to each request, the last one says close', () => within({ idle: 1 }, async (site, [client]) => {
  site.duck!.lameduck()
  const left = site.duck!.quiet()
  client!.request('/')
  await assertLast(client!)
  assert.equal((await left).connections.total, 0)
}))

test('quiet() again: connections that came after resume() are closed by the second one', () => within({ idle: 3 }, async (site, first) => {
  const duck = site.duck!
  for (const round of [1, 2]) {
    const clients = round === 1 ? first : await Promise.all([1, 2, 3].map(() => Client.open(site.address)))
    for (const client of clients) client.request('/')
    for (const client of clients) assertKeeps(await client.answer())
    await quiet()
    assert.ok(clients.every(({ end }) => end === 'open'), `closed in rotation, round ${round}`)
    duck.lameduck()
    assert.equal((await duck.quiet()).connections.total, 0)
    for (const client of clients) assert.equal(await client.ended(), 'fin')
    duck.resume()
  }
  await serves(site)
}))

test('quiet() while it goes on: what becomes idle later is closed, too, and two callers are both told', () => within({ idle: 2 }, async (site, idle) => {
  const duck = site.duck!
  duck.lameduck()
  await Promise.all([duck.quiet(), duck.quiet()])
  for (const client of idle) assert.equal(await client.ended(), 'fin')
  const late = await Client.open(site.address)
  assert.equal(await late.ended(), 'fin')
}))

test('resume() in the middle of quiet(): who was told to go goes, the others are kept', () => within({ idle: 300, options: { quietMs: 0 } }, async (site, idle) => {
  const duck = site.duck!
  duck.lameduck()
  const left = duck.quiet()
  while (duck.stats().connections.closing === 0) await turns(1)
  duck.resume()
  assert.equal((await left).state, 'running')
  await until('the ends of those that were told', () => duck.stats().connections.closing === 0)
  const kept = idle.filter(({ end }) => end === 'open')
  assert.ok(kept.length > 0 && kept.length < idle.length, `${kept.length} of ${idle.length} kept`)
  assert.equal(duck.stats().connections.total, kept.length)
  await sleep(50)
  for (const client of kept) {
    client.request('/')
    assertKeeps(await client.answer())
  }
}))

test('quiet({ timeoutMs }): says what is left when the time is over', () => within({}, async site => {
  const duck = site.duck!
  const client = await Client.open(site.address)
  const held = client.request('/gate?secret')
  await until('in flight', () => duck.stats().inFlight.length === 1)
  duck.lameduck()
  const { state, connections, inFlight } = await duck.quiet({ timeoutMs: 50 })
  assert.deepEqual([state, connections.total, inFlight.map(({ path }) => path)], ['lameduck', 1, ['/gate']])
  release(held)
  await assertLast(client)
}))

test('a drain in the middle of quiet() is complete: what is in flight is answered, quiet() is over', () => within({ idle: 5 }, async (site, idle) => {
  const duck = site.duck!
  const busy = await Client.open(site.address)
  const held = busy.request('/gate')
  await until('in flight', () => duck.stats().inFlight.length === 1)
  duck.lameduck()
  const left = duck.quiet()
  await turns(2)
  const drained = site.drain()
  assert.equal((await left).state, 'draining')
  for (const client of idle) assert.equal(await client.ended(), 'fin')
  release(held)
  assert.equal((await assertLast(busy)).text, 'gate')
  assert.equal((await drained)?.outcome, 'clean')
  assert.equal(site.server.listening, false)
  assert.equal(duck.stats().connections.total, 0)
}))

test('quiet(): WebSockets stay, also those that begin meanwhile, and work on', () => within({
  prepare: server => server.on('upgrade', simple(socket => socket.on('data', () => socket.write(frame(TEXT, 'pong'))))),
}, async site => {
  const duck = site.duck!
  const before = await new Peer(await Client.open(site.address)).open()
  const client = await Client.open(site.address)
  duck.lameduck()
  const left = duck.quiet()
  const meanwhile = await new Peer(client).open()
  const { connections } = await left
  assert.deepEqual([connections.total, connections.upgraded], [2, 2])
  duck.resume()
  for (const peer of [before, meanwhile]) {
    peer.send(TEXT, 'ping')
    await peer.client.received(peer.client.bytesRead + 6)
    assert.deepEqual([peer.messages, peer.code], [['pong'], undefined])
  }
}))

for (const kind of KINDS) {
  test(`quiet(), ${kind}: sessions get GOAWAY, streams in flight finish, and after resume() a new session stays`, async () => {
    const site = await startHttp2(kind)
    const { duck } = site
    try {
      const [idle, busy] = [await site.connect(), await site.connect()]
      assert.ok((await idle.ask('/')).answered)
      const slow = busy.ask('/slow?ms=300')
      await until('in flight', () => site.executed.length === 2)
      duck.lameduck()
      const left = duck.quiet()
      await idle.ended
      assert.ok(idle.goaways.length > 0)
      assert.ok((await slow).answered)
      await busy.ended
      assert.equal((await left).connections.total, 0)
      duck.resume()
      const after = await site.connect()
      assert.ok((await after.ask('/')).answered)
      await quiet()
      assert.ok((await after.ask('/')).answered)
      assert.deepEqual(after.goaways, [])
    } finally {
      await site.close()
    }
  })
}

test('quiet() in another state, or with an option that is none, is refused', () => within({ idle: 1 }, async (site, [client]) => {
  const duck = site.duck!
  await assert.rejects(duck.quiet(), { code: 'ERR_LAMEDUCK_STATE', message: /quiet\(\) while running; allowed: lameduck/ })
  duck.lameduck()
  await assert.rejects(duck.quiet({ timeoutMs: -1 }), { code: 'ERR_LAMEDUCK_OPTION', message: /timeoutMs/ })
  await assert.rejects(duck.quiet({ timeout: 1 } as object), { code: 'ERR_LAMEDUCK_OPTION', message: /timeout/ })
  await quiet()
  client!.request('/')
  assertCloses(await client!.answer())
  await duck.drain()
  await assert.rejects(duck.quiet(), { code: 'ERR_LAMEDUCK_STATE' })
}))
