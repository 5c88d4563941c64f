import assert from 'node:assert/strict'
import http2 from 'node:http2'
import type { Writable } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { BIG, release } from './_app.ts'
import { KINDS, outcome, startHttp2, until, type Peer, type Site2 } from './_http2.ts'
import { QUICK } from './_world.ts'

const { NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM } = http2.constants

for (const kind of KINDS) {
  /** One test with a site and a client, which are closed at its end; what was executed must have been answered, but for what is forgiven. */
  const scenario = (name: string, run: (site: Site2, peer: Peer) => Promise<void>, ...how: [Parameters<typeof startHttp2>[1]?, Parameters<typeof startHttp2>[2]?]) => {
    test(`${kind}: ${name}`, { timeout: 60_000 }, async () => {
      const site = await startHttp2(kind, ...how)
      const peer = await site.connect()
      try {
        await run(site, peer)
        assert.equal(site.duck.stats().connections.total, 0, 'connections left in stats()')
      } finally {
        peer.session.destroy()
        await site.close()
      }
    })
  }

  scenario('an idle session gets GOAWAY and is closed at once', async ({ duck, executed }, peer) => {
    const first = await peer.ask('/')
    await until('idle', () => duck.stats().connections.idle === 1)
    const report = await duck.drain()
    await peer.ended
    assert.ok(peer.goaways.length > 0, 'GOAWAY')
    assert.equal(peer.goaways[0], 1, 'the first stream was the last that was served')
    assert.equal(report.outcome, 'clean')
    assert.deepEqual([report.closed, report.destroyed], [1, []])
    assert.ok(report.durationMs < 8_000, `took ${report.durationMs} ms`)
    assert.deepEqual(executed, [first.id])
  }, { lingerMs: 10_000, deadlineMs: 20_000 })

  scenario('a session without any stream is closed, too', async ({ duck }, peer) => {
    assert.equal(duck.stats().connections.fresh, 1)
    const report = await duck.drain()
    await peer.ended
    assert.ok(peer.goaways.length > 0, 'GOAWAY')
    assert.equal(report.outcome, 'clean')
  })

  scenario('streams in flight finish, whatever their number', async ({ duck, executed }, peer) => {
    const waiting = Array.from({ length: 50 }, (_, i) => peer.ask('/gate', { 'x-id': `${kind}-many-${i}` }, 'body'))
    await until('in flight', () => executed.length === 50)
    assert.equal(duck.stats().connections.active, 1)
    assert.equal(duck.stats().inFlight.length, 50)
    const [first] = duck.stats().inFlight
    assert.deepEqual([first?.method, first?.path], ['POST', '/gate'])
    assert.match(first?.remote ?? '', /^127\.0\.0\.1:\d+$/)
    assert.ok((first?.bytesRead ?? 0) > 0)
    const drained = duck.drain()
    for (const id of [...executed]) {
      release(id)
      await sleep(1)
    }
    for (const { answered, text } of await Promise.all(waiting)) assert.deepEqual([answered, text], [true, 'gate'])
    const report = await drained
    await peer.ended
    assert.equal(report.outcome, 'clean')
    assert.equal(report.served, 50)
    assert.equal(peer.goaways[0], 99)
  })

  scenario('a stream that crosses the GOAWAY is refused with REFUSED_STREAM, and not executed', async ({ duck, executed }, peer) => {
    const gate = peer.ask('/gate')
    await until('in flight', () => executed.length === 1)
    const drained = duck.drain()
    // Sent in the very turn in which the server says GOAWAY: it cannot have arrived here.
    const racing: Promise<unknown>[] = []
    const outcomes: Awaited<typeof gate>[] = []
    while (peer.goaways.length === 0 && !peer.session.closed) {
      racing.push(peer.ask('/').then(result => outcomes.push(result)))
      await new Promise(resolve => setImmediate(resolve))
    }
    release(await idOf(executed))
    assert.equal((await gate).answered, true)
    await Promise.all(racing)
    for (const { id, answered, code } of outcomes) {
      assert.equal(executed.includes(id), answered, 'executed and answered, or neither')
      if (!answered) assert.equal(code, NGHTTP2_REFUSED_STREAM)
    }
    assert.equal((await drained).outcome, 'clean')
  })

  scenario('one stream after the other: the client learns of the end with an answer, and nothing is refused', async ({ duck, executed }, peer) => {
    let last: Awaited<ReturnType<Peer['ask']>> | undefined
    const client = (async () => {
      while (!peer.session.closed && !peer.session.destroyed) {
        last = await peer.ask('/slow?ms=2')
        assert.ok(last.answered, `code ${last.code}`)
      }
    })()
    await until('under way', () => executed.length > 20)
    assert.equal((await duck.drain()).outcome, 'clean')
    await client
    assert.equal(executed.at(-1), last?.id)
    // It is told with its next stream; a session on which none comes for so long is told without.
  }, { quietMs: 2_500 })

  scenario('in the lame duck everything is served', async ({ duck, executed }, peer) => {
    const drained = duck.drain({ lameduckMs: 1_500 })
    for (let i = 0; i < 5; i++) {
      assert.ok((await peer.ask('/')).answered)
      await sleep(10)
    }
    assert.equal(duck.state, 'lameduck')
    assert.deepEqual(peer.goaways, [])
    assert.equal((await drained).outcome, 'clean')
    assert.equal(executed.length, 5)
    await peer.ended
  })

  scenario('resume() from the lame duck: the session goes on as if nothing had been', async ({ duck }, peer) => {
    const slow = peer.ask('/slow')
    const drained = duck.drain({ lameduckMs: 4_000 })
    await sleep(30)
    duck.resume()
    assert.equal((await drained).outcome, 'resumed')
    assert.ok((await slow).answered)
    assert.ok((await peer.ask('/')).answered)
    assert.deepEqual(peer.goaways, [])
    await duck.drain()
  })

  scenario('the deadline destroys what is left, and names it without its query', async ({ duck, executed }, peer) => {
    const hanging = peer.ask('/hang?token=secret', {}, 'body')
    await until('in flight', () => executed.length === 1)
    const report = await duck.drain({ deadlineMs: 300 })
    assert.equal(report.outcome, 'forced')
    assert.equal(report.forcedBy, 'deadline')
    const [entry] = report.destroyed
    assert.deepEqual([entry?.why, entry?.state, entry?.method, entry?.path], ['deadline', 'active', 'POST', '/hang'])
    assert.equal((await hanging).answered, false)
    await peer.ended
  })

  scenario('abort() destroys at once', async ({ duck, executed }, peer) => {
    const hanging = peer.ask('/hang')
    await until('in flight', () => executed.length === 1)
    const report = await duck.abort()
    assert.equal(report.outcome, 'forced')
    assert.equal(report.destroyed[0]?.why, 'abort')
    await hanging
    await peer.ended
  })

  scenario('20 MB to a slow reader arrive whole', async ({ duck }, peer) => {
    const stream = peer.open('/big')
    let length = 0
    stream.on('data', (chunk: Buffer) => {
      length += chunk.length
      stream.pause()
      setTimeout(() => stream.resume(), length < 2 ** 18 ? 20 : 0)
    })
    const closed = new Promise(resolve => stream.once('close', resolve))
    await until('the first bytes', () => length > 0)
    const report = await duck.drain({ deadlineMs: 40_000 })
    await closed
    assert.equal(length, BIG)
    assert.equal(report.outcome, 'clean')
  })

  scenario('an upload under way, trailers and a pushed stream finish', async ({ duck, server }, peer) => {
    server.removeAllListeners('request').removeAllListeners('stream')
    server.on('stream', (stream, headers) => {
      let length = 0
      stream.on('data', (chunk: Buffer) => (length += chunk.length))
      stream.on('end', () => {
        stream.respond({ ':status': 200, 'x-path': headers[':path'] }, { waitForTrailers: true })
        stream.on('wantTrailers', () => stream.sendTrailers({ 'x-checksum': String(length) }))
        stream.end('done')
      })
      if (stream.pushAllowed) {
        stream.pushStream({ ':path': '/pushed' }, (_error, push) => {
          push.respond({ ':status': 200 })
          setTimeout(() => push.end('pushed'), 150)
        })
      }
    })
    const pushed = new Promise<Awaited<ReturnType<typeof outcome>>>(resolve => {
      peer.session.once('stream', stream => {
        void outcome(stream).then(resolve)
      })
    })
    const upload = peer.open('/upload', { ':method': 'POST' })
    const uploaded = outcome(upload)
    upload.write('first')
    await until('in flight', () => duck.stats().inFlight.length === 1)
    const drained = duck.drain()
    await sleep(100)
    upload.end('-last')
    const result = await uploaded
    assert.deepEqual([result.status, result.text, result.trailers?.['x-checksum']], [200, 'done', '10'])
    assert.equal((await pushed).text, 'pushed')
    assert.equal((await drained).outcome, 'clean')
    await peer.ended
  })

  scenario('an event stream ends cleanly, one that begins in the drain, too', async ({ duck, server }, peer) => {
    server.removeAllListeners('request')
    const written: boolean[] = []
    const events = (stream: Writable) => {
      stream.write('data: 1\n\n')
      const timer = setInterval(() => written.push(stream.write('data: 2\n\n')), 20)
      stream.on('close', () => clearInterval(timer))
    }
    server.on('request', (req, res) => {
      const begin = () => {
        res.writeHead(200, { 'content-type': 'text/event-stream' })
        events(res)
      }
      if (req.url === '/late') setTimeout(begin, 100)
      else if (req.url === '/capitals') {
        // Node sends the names of the stream API in lower case, and keeps them as they are.
        res.stream.respond({ ':status': 200, 'Content-Type': 'text/event-stream' })
        events(res.stream)
      } else begin()
    })
    const asked = ['/events', '/late', '/capitals'].map(path => peer.ask(path))
    await until('all in flight', () => duck.stats().inFlight.length === 3 && written.length > 0)
    const report = await duck.drain()
    for (const result of await Promise.all(asked)) {
      assert.ok(result.answered, `code ${result.code}`)
      assert.match(result.text, /^data: 1\n\n/)
    }
    assert.equal(report.outcome, 'clean')
    assert.equal(report.served, 3)
  })

  scenario('a CONNECT tunnel gets upgradedMs', async ({ duck, server }, peer) => {
    server.on('connect', (_req, res) => res.writeHead(200))
    const tunnel = peer.open('', { ':method': 'CONNECT', ':authority': 'db:5432', ':path': undefined }, { endStream: false })
    const ended = outcome(tunnel)
    await new Promise(resolve => tunnel.once('response', resolve))
    const report = await duck.drain()
    const { code } = await ended
    assert.equal(code, NGHTTP2_CANCEL)
    assert.deepEqual(report.destroyed.map(({ why, method, path }) => [why, method, path]), [['upgraded', 'CONNECT', 'db:5432']])
    assert.ok(report.durationMs >= QUICK.upgradedMs - 20, `${report.durationMs} ms`)
  })

  scenario('two CONNECT tunnels beside a request that never ends: each is named, the request at the deadline', async ({ duck, server }, peer) => {
    server.on('connect', (_req, res) => res.writeHead(200))
    peer.open('/hang')
    const tunnels = ['db:5432', 'cache:6379'].map(at => peer.open('', { ':method': 'CONNECT', ':authority': at, ':path': undefined }, { endStream: false }))
    await Promise.all(tunnels.map(tunnel => new Promise(resolve => tunnel.once('response', resolve))))
    const { outcome: how, forcedBy, closed, destroyed } = await duck.drain({ deadlineMs: 1_000 })
    assert.deepEqual([how, forcedBy, closed], ['forced', 'deadline', 0])
    assert.deepEqual(destroyed.map(({ why, path }) => `${why} ${path}`), ['upgraded db:5432', 'upgraded cache:6379', 'deadline /hang'])
  })

  scenario('the probes are answered before the application, and readiness fails in the lame duck', async ({ duck, executed }, peer) => {
    assert.equal((await peer.ask('/readyz?x=1')).status, 200)
    const head = await peer.ask('/livez', { ':method': 'HEAD' })
    assert.deepEqual([head.status, head.text], [200, ''])
    duck.lameduck()
    const unready = await peer.ask('/readyz')
    assert.equal(unready.status, 503)
    assert.equal(unready.headers.connection, undefined)
    assert.equal((await peer.ask('/livez')).status, 200)
    assert.deepEqual(executed, [])
    assert.equal(duck.stats().counters.served, 0)
    await duck.drain()
  })

  scenario('admit: reject: a stream that arrives in the drain before its GOAWAY gets 503', async ({ duck, executed }, peer) => {
    await peer.ask('/')
    const drained = duck.drain()
    const result = await peer.ask('/', {}, 'body')
    assert.equal(result.status, 503)
    assert.equal(result.headers['retry-after'], '1')
    const report = await drained
    assert.equal(report.rejected, 1)
    assert.equal(report.served, 0)
    assert.equal(executed.length, 1)
  }, { admit: 'reject', quietMs: 2_500 })

  scenario('admit: reject, and an asynchronous reject that fails: the default 503', async ({ duck }, peer) => {
    const faults: string[] = []
    duck.on('fault', ({ where }) => faults.push(where))
    await peer.ask('/')
    const drained = duck.drain()
    assert.equal((await peer.ask('/')).status, 503)
    assert.equal((await drained).rejected, 1)
    assert.deepEqual(faults, ['reject'])
  }, { admit: 'reject', reject: () => Promise.reject(new Error('of reject')), quietMs: 2_500 })

  scenario('admit as a function, and reject that hands on to the application', async ({ duck, executed }, peer) => {
    await peer.ask('/')
    const drained = duck.drain()
    const [vip, other] = await Promise.all([peer.ask('/vip'), peer.ask('/other')])
    assert.deepEqual([vip.status, other.status], [200, 418])
    assert.equal((await drained).rejected, 1)
    assert.deepEqual(executed.slice(1), [vip.id])
  }, { admit: req => req.url === '/vip', reject: (_req, res) => void res.writeHead(418).end(), quietMs: 2_500 })
}

/** The id of the first request that was executed. */
async function idOf(executed: readonly string[]): Promise<string> {
  await until('executed', () => executed.length > 0)
  return executed[0] ?? ''
}
