// CONNECT over HTTP/2 (RFC 9113 §8.5) in a drain, and its owners.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http2, { type ServerHttp2Stream } from 'node:http2'
import type http from 'node:http'
import { test } from 'node:test'
import { wrap, type LameduckError } from '../src/core/index.ts'
import { connectTo, KINDS, outcome, until } from './_http2.ts'
import { FRAME, frame as rawFrame, RawPeer, uint32 } from './_http2-raw.ts'
import { accept, OPTIONS, site, TUNNEL, WEBSOCKET } from './_tunnels.ts'
import { listen } from './_world.ts'

const { NGHTTP2_CANCEL } = http2.constants

for (const kind of KINDS) {
  test(`${kind}: the owner of a CONNECT stream says goodbye in its own way as the draining begins, not before`, async () => {
    const told: [number, string][] = []
    const { duck, open } = await site((stream, duck) => {
      accept(stream, duck, {})
      duck.track(stream, {
        close: (_signal, code) => {
          told.push([code, duck.state])
          stream.end('goodbye')
        },
      })
    }, { lameduckMs: 100 }, kind)
    const [client] = await open(TUNNEL)
    const seen = outcome(client)
    const report = await duck.drain()
    const { text, code } = await seen
    assert.deepEqual([text, code, told], ['goodbye', 0, [[1_001, 'draining']]])
    assert.deepEqual([report.outcome, report.destroyed], ['clean', []])
  })
}

test('a CONNECT that is refused while draining holds nothing up, though its client takes no byte', async () => {
  const { duck, open, address } = await site(accept, { quietMs: 400, lameduckMs: 0 })
  const [client] = await open(TUNNEL)
  const peer = await RawPeer.open(address, 0)
  const first = peer.request('/open')
  await until('there', () => duck.stats().inFlight.length === 2)
  const drained = duck.drain()
  await until('draining', () => duck.state === 'draining')
  const field = (...texts: string[]) => Buffer.concat([Buffer.of(0), ...texts.map(text => Buffer.concat([Buffer.of(text.length), Buffer.from(text)]))])
  peer.socket.write(rawFrame(FRAME.headers, 4, 3, Buffer.concat([field(':method', 'CONNECT'), field(':authority', 'db:1')])))
  peer.socket.on('end', () => peer.socket.end())
  await until('refused', () => peer.frames.some(({ type, stream }) => type === FRAME.headers && stream === 3))
  peer.socket.write(rawFrame(FRAME.rstStream, 0, first, uint32(NGHTTP2_CANCEL)))
  client.close(NGHTTP2_CANCEL)
  const report = await drained
  assert.deepEqual([report.outcome, report.rejected, report.destroyed], ['clean', 1, []])
})

test('track(): without an owner upgradedMs; a close that hangs is told by its signal; one that throws is a fault; taken back it is not asked', async () => {
  const faults: string[] = []
  const asked: string[] = []
  const { duck, open } = await site((stream, duck, headers) => {
    stream.respond({ ':status': 200 })
    stream.resume()
    const path = String(headers[':authority'])
    if (path === 'hangs:1') duck.track(stream, {
      close: async signal => {
        await once(signal, 'abort')
        asked.push('hangs, told')
      },
    })
    if (path === 'throws:1') duck.track(stream, { close: () => { throw new Error('no') } })
    if (path === 'back:1') duck.track(stream, { close: () => asked.push('back') })()
  }, { upgradedMs: 300 })
  duck.on('fault', ({ where }) => faults.push(where))
  const names = ['alone:1', 'hangs:1', 'throws:1', 'back:1']
  for (const name of names) await open({ ...TUNNEL, ':authority': name })
  const report = await duck.drain()
  assert.deepEqual(report.destroyed.map(({ why, path }) => `${why} ${path}`).sort(), names.map(name => `upgraded ${name}`).sort())
  await until('told', () => asked.length > 0)
  assert.deepEqual([asked, faults], [['hangs, told'], ['close of CONNECT throws:1']])
})

test('an owner that ends its side: a client that does not end its own has upgradedMs more, and is named', async () => {
  const { duck, open } = await site((stream, duck, headers) => {
    accept(stream, duck, headers)
    duck.track(stream, { close: () => stream.end('goodbye') })
  }, { upgradedMs: 300 })
  const [client] = await open(TUNNEL)
  client.removeAllListeners('end')
  const seen = outcome(client)
  const report = await duck.drain()
  assert.equal((await seen).text, 'goodbye')
  assert.deepEqual(report.destroyed.map(({ why, path }) => `${why} ${path}`), ['upgraded db:5432'])
})

test('track() in the drain itself', async () => {
  const { duck, open } = await site(accept, { lameduckMs: 0 })
  const [client, stream] = await open(TUNNEL)
  const seen = outcome(client)
  const drained = duck.drain()
  await until('draining', () => duck.state === 'draining')
  duck.track(stream, { close: () => stream.end('at last') })
  assert.deepEqual((await drained).destroyed, [])
  assert.equal((await seen).text, 'at last')
  assert.equal(typeof duck.track(stream, { close: () => assert.fail('it has ended') }), 'function')
})

test('a CONNECT that comes while draining is refused, and not executed', async () => {
  let executed = 0
  const { duck, open, ask } = await site((...args) => {
    executed++
    accept(...args)
  }, { quietMs: 5_000, lameduckMs: 0, retryAfterMs: 2_500 })
  const [client] = await open(TUNNEL)
  const drained = duck.drain()
  await until('draining', () => duck.state === 'draining')
  const late = await Promise.all([outcome(ask(TUNNEL)), outcome(ask(WEBSOCKET))])
  assert.deepEqual(late.map(({ status, headers }) => [status, headers['retry-after']]), [[503, '3'], [503, '3']])
  client.end()
  client.resume()
  client.close(NGHTTP2_CANCEL)
  const report = await drained
  assert.deepEqual([executed, report.rejected, report.served, report.destroyed], [1, 2, 0, []])
})

test('track(): a stream that is no tunnel, or of another duck, is refused at the door', async () => {
  const streams: ServerHttp2Stream[] = []
  const server = http2.createServer()
  const duck = wrap(server, OPTIONS)
  server.on('stream', stream => {
    stream.on('error', () => {})
    streams.push(stream)
  })
  await listen(server as unknown as http.Server)
  const peer = await connectTo(server)
  peer.open('/')
  const { duck: other, open } = await site()
  const [, foreign] = await open(TUNNEL)
  await until('there', () => streams.length > 0)
  for (const stream of [streams[0]!, streams[0]!.session!.socket, foreign]) {
    assert.throws(() => duck.track(stream, { close() {} }), (error: LameduckError) => {
      assert.equal(error.code, 'ERR_LAMEDUCK_OPTION')
      assert.match(error.message, /^socket is .*; allowed: the socket of a request .*, or the stream of a CONNECT over HTTP\/2/s)
      return true
    })
  }
  await Promise.all([duck, other].map(each => each.abort()))
})
