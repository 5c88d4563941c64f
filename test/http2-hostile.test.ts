import assert from 'node:assert/strict'
import http2 from 'node:http2'
import type http from 'node:http'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DrainReport } from '../src/core/index.ts'
import { release } from './_app.ts'
import { frame, FRAME, RawPeer, uint32 } from './_http2-raw.ts'
import { KINDS, startHttp2, until, type Site2 } from './_http2.ts'
import { Stopwatch } from './_stopwatch.ts'
import { addressOf } from './_world.ts'

const { NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM } = http2.constants
/** So many frames in a millisecond, and no Node ends the session by itself: a thousand PINGs or SETTINGS in one read, or ten thousand frames of no use, and it may. */
const MODEST = 20

/** A deadline that is not to be reached, and lingers that cost the test no time. */
const UNHURRIED = { deadlineMs: 30_000, lingerMs: 50 }

const ends = ({ destroyed }: DrainReport) => destroyed.map(({ why, state, method, path }) => [why, 'of', state, method, path].filter(word => word !== undefined).join(' '))

const GOAWAY_OR_RST = [undefined, NGHTTP2_REFUSED_STREAM]

for (const kind of KINDS) {
  const scenario = (name: string, run: (site: Site2, peer: RawPeer) => Promise<void>, options: Parameters<typeof startHttp2>[1] = {}, window = 65_535) => {
    test(`${kind}: ${name}`, { timeout: 60_000 }, async () => {
      const site = await startHttp2(kind, options)
      const peer = await RawPeer.open(addressOf(site.server as unknown as http.Server), window)
      try {
        await until('SETTINGS', () => peer.of(FRAME.settings).length > 0)
        await run(site, peer)
        assert.equal(site.duck.stats().connections.total, 0, 'connections left in stats()')
      } finally {
        peer.socket.destroy()
        await site.close()
      }
    })
  }

  /** Sends something again and again until the connection ends: nothing else stops it. */
  const flood = (peer: RawPeer, bytes: () => Buffer, often = MODEST) => {
    const timer = setInterval(() => {
      if (peer.socket.writable && peer.socket.writableLength < 100_000) peer.socket.write(Buffer.concat(Array.from({ length: often }, bytes)))
    }, 1)
    peer.socket.once('close', () => clearInterval(timer))
  }

  /** Sent something that nobody took any more: it went on to the end. */
  const flooded = (peer: RawPeer) => until('the end of the flood', () => peer.end === 'reset')

  scenario('a client that ignores GOAWAY and our FIN is destroyed after lingerMs', async ({ duck }, peer) => {
    const report = await duck.drain()
    assert.deepEqual([report.outcome, report.destroyed[0]?.why], ['clean', 'linger'])
    assert.ok(peer.goaways.length > 0, 'GOAWAY')
    assert.ok(report.durationMs < 4_500, `${report.durationMs} ms`)
  })

  scenario('a client whose flood makes Node give the session up, with a request in flight: the drain was forced, and the report names the request', async ({ duck, executed }, peer) => {
    peer.request('/hang?x=1', { id: `hang-${kind}` })
    await until('in flight', () => executed.length === 1)
    const drained = duck.drain()
    await until('GOAWAY', () => peer.goaways.length > 0)
    peer.socket.write(Buffer.concat(Array.from({ length: 20_000 }, () => frame(FRAME.ping, 0, 0, Buffer.alloc(8)))))
    const report = await drained
    assert.deepEqual([report.outcome, report.forcedBy, ...ends(report)], ['forced', 'data', 'protocol of active GET /hang'])
  }, UNHURRIED)

  scenario('a client that opens streams without end after GOAWAY: none is executed, what was in flight is answered, and it is destroyed in the end', async ({ duck, executed }, peer) => {
    const first = peer.request('/gate', { id: `first-${kind}` })
    await until('in flight', () => executed.length === 1)
    const drained = duck.drain()
    await until('GOAWAY', () => peer.goaways.length > 0)
    let sent = 0
    flood(peer, () => {
      const stream = 3 + 2 * sent++
      return peer.head(stream, '/', { id: `late-${stream}` })
    })
    await until('a flood', () => sent > 2_000)
    release(`first-${kind}`)
    await until('the answer', () => peer.whole(first) || peer.end !== 'open')
    assert.ok(peer.whole(first), `${peer.end} after ${sent} streams, ${peer.frames.map(({ type }) => type).join()}`)
    const report = await drained
    await flooded(peer)
    assert.deepEqual(executed, [`first-${kind}`])
    assert.equal(peer.goaways[0], 1)
    assert.deepEqual([report.outcome, ...ends(report)], ['clean', 'linger of closing'])
  }, UNHURRIED)

  scenario('streams that cross the GOAWAY are behind its last stream id, or refused one by one; what is before it is answered', async ({ duck, executed }, peer) => {
    peer.request('/gate', { id: `held-${kind}` })
    await until('in flight', () => executed.length === 1)
    const drained = duck.drain()
    const ids = new Map<number, string>()
    while (peer.goaways.length === 0) {
      for (let i = 0; i < 5; i++) {
        const id = `crossing-${ids.size}`
        ids.set(peer.request('/', { id }), id)
      }
      await new Promise(resolve => setImmediate(resolve))
    }
    release(`held-${kind}`)
    const report = await drained
    const [last = 0] = peer.goaways
    for (const [stream, id] of ids) {
      assert.equal(peer.whole(stream), executed.includes(id), `stream ${stream}: executed and answered, or neither`)
      if (peer.whole(stream)) continue
      assert.ok(stream > last || peer.reset(stream) === NGHTTP2_REFUSED_STREAM, `stream ${stream} of ${last} may be retried`)
      assert.ok(GOAWAY_OR_RST.includes(peer.reset(stream)))
    }
    assert.equal(report.outcome, 'clean')
  })

  scenario('a head whose second half comes after GOAWAY is refused, and not executed', async ({ duck, executed }, peer) => {
    peer.request('/gate', { id: `open-${kind}` })
    const half = peer.request('/', { id: 'half', more: true })
    await until('in flight', () => executed.length === 1)
    const drained = duck.drain()
    await until('GOAWAY', () => peer.goaways.length > 0)
    peer.continuation(half)
    await until('the refusal', () => peer.reset(half) !== undefined || (peer.goaways[0] ?? 0) < half)
    release(`open-${kind}`)
    await drained
    assert.deepEqual(executed, [`open-${kind}`])
    assert.ok(GOAWAY_OR_RST.includes(peer.reset(half)), `RST ${peer.reset(half)}`)
  })

  for (const [what, often, bytes] of [
    ['PING', MODEST, () => frame(FRAME.ping, 0, 0, Buffer.alloc(8))],
    ['SETTINGS', MODEST, () => frame(FRAME.settings, 0, 0)],
    // Newer Nodes say ENHANCE_YOUR_CALM to this one, and leave what is in flight alone.
    ['HEADERS', 200, (peer: RawPeer, n: number) => peer.head(3 + 2 * n, '/', { id: 'late' })],
  ] as const) {
    scenario(`a ${what} flood in the drain does not outlast the deadline, and what it cuts is named`, async ({ duck, executed }, peer) => {
      peer.request('/hang?x=1', { id: 'hang' })
      await until('in flight', () => executed.length === 1)
      const watch = new Stopwatch()
      const drained = duck.drain({ deadlineMs: 600 })
      await until('GOAWAY', () => peer.goaways.length > 0)
      let sent = 0
      flood(peer, () => bytes(peer, sent++), often)
      const report = await drained
      watch.assertUnder(6_000)
      await flooded(peer)
      assert.deepEqual(executed, ['hang'])
      assert.deepEqual([report.outcome, report.forcedBy, ...ends(report)], ['forced', 'deadline', 'deadline of active GET /hang'])
    })

    // Its streams would be requests: they are as long as there is no GOAWAY.
    if (what === 'HEADERS') continue
    scenario(`a ${what} flood on an idle session is ended by the linger, and named`, async ({ duck }, peer) => {
      flood(peer, bytes)
      await sleep(20)
      const report = await duck.drain()
      await flooded(peer)
      assert.deepEqual([report.outcome, ...ends(report)], ['clean', 'linger of closing'])
    }, UNHURRIED)

    scenario(`a ${what} flood for which Node itself gives the session up: the drain does not wait for what was in flight on it`, async ({ duck, executed }, peer) => {
      peer.request('/hang', { id: 'hang' })
      await until('in flight', () => executed.length === 1)
      const watch = new Stopwatch()
      const drained = duck.drain()
      await until('GOAWAY', () => peer.goaways.length > 0)
      peer.socket.write(Buffer.concat(Array.from({ length: 20_000 }, bytes)))
      const report = await drained
      watch.assertUnder(UNHURRIED.deadlineMs / 2)
      assert.equal(report.destroyed.length, 1)
    }, UNHURRIED)
  }

  /** A well-behaved client's request, in flight beside a hostile client that goes on: it is answered, and its session ends, before the hostile one's. */
  const answeredBeside = async ({ duck, executed, connect }: Site2, peer: RawPeer, sent: () => number, more: number) => {
    const id = `beside-${kind}-${executed[0]}`
    const good = await connect()
    const asked = good.ask('/gate', { 'x-id': id })
    await until('in flight', () => executed.includes(id))
    const drained = duck.drain()
    await until('GOAWAY', () => peer.goaways.length > 0 && good.goaways.length > 0)
    const before = sent()
    await until('hostility', () => sent() > before + more)
    release(id)
    const { answered, text } = await asked
    await good.ended
    assert.deepEqual([answered, text, peer.end, duck.state], [true, 'gate', 'open', 'draining'])
    return { drained }
  }

  scenario('beside a client that floods with PINGs another one is answered, and its session ends first', async (site, peer) => {
    peer.request('/hang', { id: 'flood' })
    await until('in flight', () => site.executed.length === 1)
    let sent = 0
    flood(peer, () => {
      sent++
      return frame(FRAME.ping, 0, 0, Buffer.alloc(8))
    })
    const { drained } = await answeredBeside(site, peer, () => sent, 2_000)
    peer.socket.destroy()
    const { outcome, served } = await drained
    assert.deepEqual([outcome, served], ['clean', 1])
  }, UNHURRIED)

  scenario('beside a client that uploads byte by byte another one is answered, and its session ends first; the upload is answered at its end', async (site, peer) => {
    const upload = peer.request('/body', { id: 'trickle', method: 'POST', ends: false })
    await until('in flight', () => site.executed.length === 1)
    let sent = 0
    const timer = setInterval(() => {
      sent++
      peer.socket.write(frame(FRAME.data, 0, upload, Buffer.from('x')))
    }, 2)
    peer.socket.once('close', () => clearInterval(timer))
    const { drained } = await answeredBeside(site, peer, () => sent, 50)
    clearInterval(timer)
    peer.socket.write(frame(FRAME.data, 1, upload))
    await until('the answer', () => peer.whole(upload))
    assert.equal(Buffer.concat(peer.of(FRAME.data, upload).map(({ payload }) => payload)).toString(), String(sent))
    const { outcome, served } = await drained
    assert.deepEqual([outcome, served], ['clean', 2])
  }, UNHURRIED)

  scenario('rapid resets before the drain leave nothing behind', async ({ duck }, peer) => {
    for (let i = 0; i < 500; i++) {
      const stream = peer.request('/hang', { id: `reset-${i}` })
      peer.socket.write(frame(FRAME.rstStream, 0, stream, uint32(NGHTTP2_CANCEL)))
    }
    // Node itself may end such a session: it takes a thousand a second.
    await until('their end', () => duck.stats().inFlight.length === 0)
    await sleep(60)
    const report = await duck.drain()
    assert.equal(report.outcome, 'clean')
    assert.equal(report.served, 0)
  })

  scenario('a reader with a window of 0 is destroyed at the deadline, and named', async ({ duck, executed }, peer) => {
    peer.request('/big?token=secret', { id: 'big' })
    await until('in flight', () => executed.length === 1)
    const report = await duck.drain({ deadlineMs: 400 })
    assert.equal(report.outcome, 'forced')
    const [entry] = report.destroyed
    assert.deepEqual([entry?.why, entry?.state, entry?.method, entry?.path], ['deadline', 'active', 'GET', '/big'])
    assert.ok((entry?.unsentBytes ?? 0) > 1_000_000, `${entry?.unsentBytes} unsent`)
  }, {}, 0)

  scenario('an upload that never ends is destroyed at the deadline', async ({ duck, executed }, peer) => {
    const stream = peer.request('/body', { id: 'upload', method: 'POST', ends: false })
    await until('in flight', () => executed.length === 1)
    const timer = setInterval(() => peer.socket.write(frame(FRAME.data, 0, stream, Buffer.from('x'))), 20)
    const report = await duck.drain({ deadlineMs: 400 })
    clearInterval(timer)
    assert.deepEqual(report.destroyed.map(({ why, method, path }) => [why, method, path]), [['deadline', 'POST', '/body']])
  })

  scenario('a client that reads its response slowly, after all of it was sent, gets it whole', async ({ duck, server }, peer) => {
    const size = 3 * 1024 * 1024
    server.removeAllListeners('request')
    server.on('request', (_req, res) => void res.end(Buffer.alloc(size)))
    peer.window(0, 8 * 1024 * 1024)
    // Reads bit by bit, 1.3 MB a second, and says so, as clients do: more often than once in lingerMs, be the machine as busy as it may.
    const lingerMs = 1_000
    const began = performance.now()
    let length = 0
    peer.socket.on('data', (chunk: Buffer) => {
      length += chunk.length
      peer.socket.pause()
      setTimeout(() => {
        if (peer.socket.writable) peer.window(stream, 1)
        peer.socket.resume()
      }, Math.max(began + length / 1_300 - performance.now(), 1))
    })
    const stream = peer.request('/')
    await until('the first bytes', () => peer.received(stream) > 0)
    void duck.drain({ deadlineMs: 40_000 })
    await until('the whole of it', () => peer.whole(stream) || peer.end === 'reset', 30_000)
    assert.equal(peer.received(stream), size)
    assert.equal(peer.end === 'reset', false)
    peer.socket.end()
    const { outcome, durationMs } = await duck.drain()
    assert.equal(outcome, 'clean')
    assert.ok(durationMs > lingerMs, `read for ${durationMs} ms: too fast to prove anything`)
  }, { lingerMs: 1_000 }, 8 * 1024 * 1024)
}
