import assert from 'node:assert/strict'
import type http from 'node:http'
import http2 from 'node:http2'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from '../src/core/index.ts'
import { release } from './_app.ts'
import { connectTo, createHttp2, KINDS, outcome, startHttp2, until } from './_http2.ts'
import { createServer, listen, QUICK } from './_world.ts'

const { NGHTTP2_CANCEL } = http2.constants
const listening = (server: http2.Http2Server, unix = false) => listen(server as unknown as http.Server, unix)

/** Names of listeners, and own properties: what wrap() must give back. */
function fingerprint(of: object, events: { eventNames(): (string | symbol)[]; listenerCount(event: string | symbol): number }): string[] {
  return [...Reflect.ownKeys(of).map(String), ...events.eventNames().map(event => `${String(event)} ${events.listenerCount(event)}`)].sort()
}

for (const kind of KINDS) {
  test(`${kind}: wrap() after listen, twice, and with a session that is open: the same result`, { timeout: 60_000 }, async () => {
    const executed: string[] = []
    const server = createHttp2(kind, executed)
    await listening(server)
    const [early, silent] = [await connectTo(server), await connectTo(server)]
    const duck = wrap(server, QUICK)
    assert.equal(wrap(server), duck)
    const slow = early.ask('/gate', { 'x-id': `${kind}-early` })
    await until('in flight', () => executed.length === 1)
    assert.deepEqual([duck.stats().connections.active, duck.stats().inFlight[0]?.path], [1, '/gate'])
    silent.session.destroy()
    await silent.ended
    const drained = duck.drain()
    release(`${kind}-early`)
    const report = await drained
    assert.equal((await slow).answered, true)
    await early.ended
    assert.deepEqual([report.outcome, report.served], ['clean', 1])
    duck.unwrap()
  })

  test(`${kind}: a session from before wrap() that stays silent is counted, and does not outlast the deadline`, { timeout: 60_000 }, async () => {
    const server = createHttp2(kind, [])
    await listening(server)
    const silent = await connectTo(server)
    const duck = wrap(server, { ...QUICK, deadlineMs: 600 })
    const report = await duck.drain()
    assert.equal(report.unknown, 1)
    // Node 24 ends it by itself, in server.close(); Node 20 and 22 know nothing of it.
    assert.ok(report.durationMs < 5_000, `${report.durationMs} ms`)
    silent.session.destroy()
    await silent.ended
    duck.unwrap()
  })

  test(`${kind}: unwrap() leaves nothing on server, session, stream and socket`, { timeout: 60_000 }, async () => {
    const executed: string[] = []
    const server = createHttp2(kind, executed)
    const before = fingerprint(server, server)
    const sessions: http2.ServerHttp2Session[] = []
    server.on('session', session => void sessions.push(session))
    await listening(server)
    const bare = await connectTo(server)
    const [untouched] = sessions
    assert.ok(untouched)
    const duck = wrap(server, QUICK)
    const peer = await connectTo(server)
    const session = sessions[1]
    assert.ok(session)
    const slow = peer.ask('/slow')
    await until('in flight', () => executed.length === 1)
    await sleep(50)
    duck.lameduck()
    duck.resume()
    duck.unwrap()
    assert.equal((await slow).answered, true, 'what was in flight goes on')
    const socketOf = ({ socket }: http2.ServerHttp2Session) => socket.off('none', () => {})
    assert.deepEqual(fingerprint(session, session), fingerprint(untouched, untouched))
    const ours = (names: string[]) => names.filter(name => /lameduck|destroy|^close|^finish/.test(name))
    assert.deepEqual(ours(fingerprint(socketOf(session), socketOf(session))), ours(fingerprint(socketOf(untouched), socketOf(untouched))).concat(['Symbol(lameduck.holder)']).sort())
    assert.deepEqual(fingerprint(server, server).filter(name => before.includes(name)), before)
    assert.ok((await peer.ask('/')).answered)
    for (const { session: mine, ended } of [bare, peer]) {
      mine.destroy()
      await ended
    }
    server.close()
  })

  test(`${kind}: nothing is kept of sessions and streams that have ended`, { timeout: 60_000 }, async () => {
    const site = await startHttp2(kind)
    for (let i = 0; i < 20; i++) {
      const peer = await site.connect()
      await Promise.all(Array.from({ length: 20 }, () => peer.ask('/')))
      const cut = peer.open('/hang')
      cut.close(NGHTTP2_CANCEL)
      peer.session.destroy()
      await peer.ended
    }
    await until('the end of all', () => site.duck.stats().connections.total === 0)
    const { connections, inFlight, counters } = site.duck.stats()
    assert.deepEqual([connections.total, inFlight, counters.accepted, counters.served], [0, [], 20, 400])
    const report = await site.duck.drain()
    assert.equal(report.outcome, 'clean')
    site.duck.unwrap()
  })

  test(`${kind}: on a unix socket`, { timeout: 60_000 }, async () => {
    const site = await startHttp2(kind, {}, { unix: true })
    const peer = await site.connect()
    const slow = peer.ask('/gate', { 'x-id': `${kind}-unix` })
    await until('in flight', () => site.executed.length === 1)
    assert.equal(site.duck.stats().connections.active, 1)
    const drained = site.duck.drain()
    release(`${kind}-unix`)
    const report = await drained
    assert.ok((await slow).answered)
    await peer.ended
    assert.deepEqual([report.outcome, report.served, site.duck.stats().connections.total], ['clean', 1, 0])
    site.duck.unwrap()
  })

  test(`${kind}: await using drains and unwraps`, { timeout: 60_000 }, async () => {
    const executed: string[] = []
    const server = createHttp2(kind, executed)
    await listening(server)
    let slow: Promise<{ answered: boolean }> | undefined
    const run = async () => {
      await using duck = wrap(server, QUICK)
      const peer = await connectTo(server)
      slow = peer.ask('/gate', { 'x-id': `${kind}-using` })
      await until('in flight', () => duck.stats().inFlight.length === 1)
      duck.signal.addEventListener('abort', () => release(`${kind}-using`))
    }
    await run()
    assert.equal((await slow)?.answered, true)
    assert.equal(server.listening, false)
  })

  test(`${kind}: with an HTTP/1 server in one lifecycle: one report`, { timeout: 60_000 }, async () => {
    const site = await startHttp2(kind)
    const ops = createServer(false, {}, (_req, res) => res.end('ops'))
    await listen(ops)
    site.duck.add(ops, { order: 1 })
    const peer = await site.connect()
    const slow = peer.ask('/gate', { 'x-id': `${kind}-shared` })
    await until('in flight', () => site.executed.length === 1)
    const drained = site.duck.drain()
    release(`${kind}-shared`)
    const report = await drained
    assert.ok((await slow).answered)
    assert.deepEqual([report.outcome, report.served, ops.listening, site.server.listening], ['clean', 1, false, false])
    site.duck.unwrap()
  })

  test(`${kind}: a second drain(), and one before listen(), resolve`, { timeout: 60_000 }, async () => {
    const duck = wrap(createHttp2(kind, []), QUICK)
    const first = duck.drain()
    assert.equal(duck.drain(), first)
    assert.equal((await first).outcome, 'clean')
    duck.unwrap()
  })
}

test('h2c: with stream listeners only, the probes and admit work as well', { timeout: 60_000 }, async () => {
  const server = http2.createServer()
  const executed: string[] = []
  server.on('stream', (stream, headers) => {
    executed.push(String(headers[':path']))
    stream.respond({ ':status': 200 })
    stream.end('hello')
  })
  const duck = wrap(server, { ...QUICK, admit: 'reject', quietMs: 2_500 })
  await listening(server)
  const peer = await connectTo(server)
  assert.deepEqual(JSON.parse((await peer.ask('/readyz')).text), { status: 'ok', state: 'running', checks: {} })
  assert.equal((await peer.ask('/')).text, 'hello')
  const drained = duck.drain()
  assert.equal((await peer.ask('/late', {}, 'body')).status, 503)
  const report = await drained
  assert.deepEqual([report.outcome, report.served, report.rejected], ['clean', 0, 1])
  assert.deepEqual(executed, ['/'])
  assert.equal(duck.stats().counters.served, 1)
  await peer.ended
  duck.unwrap()
})

test('h2c: a reset stream was not served', { timeout: 60_000 }, async () => {
  const executed: string[] = []
  const server = createHttp2('h2c', executed)
  const duck = wrap(server, QUICK)
  await listening(server)
  const peer = await connectTo(server)
  const stream = peer.open('/hang')
  await until('executed', () => executed.length === 1)
  const closed = outcome(stream)
  stream.close(NGHTTP2_CANCEL)
  await closed
  assert.ok((await peer.ask('/')).answered)
  await until('the look at it', () => duck.stats().connections.idle === 1)
  assert.equal(duck.stats().counters.served, 1)
  await duck.drain()
  duck.unwrap()
})
