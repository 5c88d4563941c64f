import assert from 'node:assert/strict'
import http2 from 'node:http2'
import { describe } from 'node:test'
import { frame, FRAME, RawPeer, uint32 } from './_http2-raw.ts'
import { scenario, until, type Scenario, type Stage } from './_scenario.ts'
import { Stopwatch } from './_stopwatch.ts'
import type { World } from './_world.ts'

const { NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM } = http2.constants

/** Frames in a millisecond: no Node gives a session up for so few. */
const MODEST = 20

/** Whole, or not executed and refused in a way that its client may retry (RFC 9113 §8.7). */
function assertAnsweredOrRefused({ site }: Stage, peer: RawPeer, stream: number, id: string): void {
  if (site.executed.includes(id)) {
    assert.ok(peer.whole(stream), 'executed and never answered')
    return
  }
  const refused = peer.reset(stream) === NGHTTP2_REFUSED_STREAM || peer.goaways.some(last => last < stream)
  assert.ok(refused, 'sent and never answered')
}

/** The conformance suite of HTTP/2: what the client of a session sees. */
export function sessions(world: World): void {
  describe(world.name, { concurrency: 8 }, () => register(world))
}

function register(world: World): void {
  let serial = 0
  const freshId = () => `${world.name}-${++serial}`

  const session = (name: string, how: Scenario, run: (stage: Stage, peer: RawPeer) => Promise<void>) => {
    scenario(world, name, how, async stage => {
      const peer = await RawPeer.open(stage.site.address)
      try {
        await until(() => peer.of(FRAME.settings).length > 0, 'an answer')
        await run(stage, peer)
        // The count at the end knows the clients of HTTP/1 only.
        for (const [stream, id] of peer.asked) if (peer.whole(stream)) stage.forgive(id)
      } finally {
        peer.socket.destroy()
      }
    })
  }
  const ended = (peer: RawPeer) => until(() => peer.end !== 'open', 'the end of the connection', 2_000)
  const answered = (peer: RawPeer, stream: number) => until(() => peer.whole(stream), 'an answer')

  for (const used of [true, false]) {
    session(`an idle session that was ${used ? 'used' : 'never used'}: GOAWAY, and it is closed`, { row: 28 }, async (stage, peer) => {
      if (used) await answered(peer, peer.request('/', { id: freshId() }))
      const watch = new Stopwatch()
      const drained = stage.drain()
      await ended(peer)
      assert.ok(peer.goaways.length > 0, 'no GOAWAY')
      assert.equal(peer.end, 'fin')
      await drained
      watch.assertUnder(2_500)
    })
  }

  session('a stream in flight is answered, and its session ends behind it', { row: 29 }, async (stage, peer) => {
    const id = freshId()
    const stream = peer.request('/slow?ms=200', { id })
    await until(() => stage.site.executed.includes(id), 'the execution')
    const drained = stage.drain()
    await answered(peer, stream)
    await ended(peer)
    assert.ok(peer.goaways.length > 0, 'no GOAWAY')
    await drained
  })

  session('streams that are opened as the drain begins are answered, or refused so that they may be tried again', { row: 29 }, async (stage, peer) => {
    const first = freshId()
    const slow = peer.request('/slow?ms=300', { id: first })
    await until(() => stage.site.executed.includes(first), 'the execution')
    const open = () => peer.request('/', { id: freshId() })
    for (let i = 0; i < 5; i++) open()
    const drained = stage.drain()
    for (let i = 0; i < 5; i++) open()
    await until(() => peer.goaways.length > 0 || [...peer.asked.keys()].every(stream => peer.whole(stream)), 'an answer')
    // Behind GOAWAY.
    open()
    await drained
    assert.ok(peer.whole(slow), 'executed and never answered')
    for (const [stream, id] of peer.asked) assertAnsweredOrRefused(stage, peer, stream, id)
  })

  for (const [what, send] of [
    ['PINGs', ({ socket }: RawPeer) => socket.write(frame(FRAME.ping, 0, 0, Buffer.alloc(8)))],
    ['SETTINGS', ({ socket }: RawPeer) => socket.write(frame(FRAME.settings, 0, 0))],
    ['streams that are reset at once', (peer: RawPeer, stage: Stage) => {
      const id = freshId()
      stage.forgive(id)
      peer.socket.write(frame(FRAME.rstStream, 0, peer.request('/', { id }), uint32(NGHTTP2_CANCEL)))
    }],
  ] as const) {
    session(`a client that sends ${what} without end: what is in flight is answered, and the deadline holds`, { row: 30, options: { deadlineMs: 2_000 } }, async (stage, peer) => {
      const id = freshId()
      const stream = peer.request('/slow?ms=200', { id })
      await until(() => stage.site.executed.includes(id), 'the execution')
      const flood = setInterval(() => {
        if (!peer.socket.writable || peer.socket.writableLength > 100_000) return
        for (let i = 0; i < MODEST; i++) send(peer, stage)
      }, 1)
      try {
        const watch = new Stopwatch()
        const drained = stage.drain()
        await answered(peer, stream)
        await drained
        watch.assertUnder(4_000)
      } finally {
        clearInterval(flood)
      }
    })
  }
}
