// WebSockets over HTTP/2 (RFC 8441) in a drain.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http2, { type ServerHttp2Stream } from 'node:http2'
import { test } from 'node:test'
import * as ws from 'ws'
import { KINDS, outcome, until } from './_http2.ts'
import { accept, codes, messages, site, speak, TUNNEL, WEBSOCKET } from './_tunnels.ts'
import { CLOSE, frame, PONG, TEXT } from './_websocket.ts'

const { NGHTTP2_CANCEL } = http2.constants

/** Its types leave this one out. */
const { PerMessageDeflate } = ws as unknown as { PerMessageDeflate: new (options: object) => { accept(offers: object[]): void } }

for (const kind of KINDS) {
  test(`${kind}: a WebSocket gets all that was sent, then 1001, whoever speaks on it; and the stream ends behind both close frames`, async () => {
    const { duck, open } = await site(accept, {}, kind)
    const [[client, stream], [other]] = [await open(WEBSOCKET), await open(TUNNEL)]
    const frames = speak(client)
    const ended = once(client, 'close')
    other.on('data', () => {})
    stream.write(frame(TEXT, 'one'))
    stream.write(frame(TEXT, 'x'.repeat(100_000)))
    const drained = duck.drain()
    await ended
    assert.equal(client.rstCode, 0)
    assert.deepEqual(messages(frames), ['one', 'x'.repeat(100_000)])
    assert.deepEqual(codes(frames), [1_001])
    // The tunnel beside it has its time.
    await until('the tunnel alone', () => duck.stats().inFlight.map(({ path }) => path).join() === 'db:5432')
    other.end()
    other.close(NGHTTP2_CANCEL)
    assert.deepEqual((await drained).destroyed, [])
  })
}

/** A stream in the hands of `ws`, which has no public way to give it one but this. */
function onWs(stream: ServerHttp2Stream, extensions: object = {}): ws.WebSocket {
  const socket = new ws.WebSocket(null as unknown as string, undefined, { autoPong: true }) as ws.WebSocket & { setSocket: (...args: unknown[]) => void, _extensions: object }
  Object.assign(socket, { _extensions: extensions })
  socket.on('error', () => {})
  socket.setSocket(stream, Buffer.alloc(0), { maxPayload: 0, skipUTF8Validation: false, allowSynchronousEvents: true })
  return socket
}

for (const field of ['sec-websocket-extensions', 'Sec-WebSocket-Extensions']) test(`a WebSocket of \`ws\` on a stream, ${field}: what it is still compressing arrives before 1001, and it hears of the end`, async () => {
  const extension = 'permessage-deflate'
  const sent = [1, 2, 3].map(n => String(n).repeat(200_000))
  const heard: Promise<unknown[]>[] = []
  const { duck, open } = await site(stream => {
    stream.respond({ ':status': 200, [field]: extension })
    const deflate = new PerMessageDeflate({ isServer: true, threshold: 0 })
    deflate.accept([{}])
    const socket = onWs(stream, { [extension]: deflate })
    heard.push(once(socket, 'close'))
    for (const text of sent) socket.send(text)
  }, { quietMs: 1 })
  const [client] = await open({ ...WEBSOCKET, 'sec-websocket-extensions': extension })
  const frames = speak(client)
  assert.equal((await duck.drain()).outcome, 'clean')
  assert.deepEqual(frames.map(({ opcode }) => opcode).filter(opcode => opcode !== PONG), [TEXT, TEXT, TEXT, CLOSE])
  assert.ok(frames.some(({ opcode }) => opcode === PONG), 'it was not asked')
  assert.deepEqual(codes(frames), [1_001])
  assert.deepEqual((await heard[0])?.[0], 1_001)
})

test('lameduck/ws is not needed: `ws` may be asked by its owner', async () => {
  const { duck, open } = await site((stream, duck) => {
    stream.respond({ ':status': 200 })
    const socket = onWs(stream)
    duck.track(stream, { close: (_signal, code) => socket.close(code + 2_000) })
  })
  const [client] = await open(WEBSOCKET)
  const frames = speak(client)
  assert.equal((await duck.drain()).outcome, 'clean')
  assert.deepEqual(codes(frames), [3_001])
})

test('a WebSocket that is accepted in the draining phase gets 1001, one that is refused its answer', async () => {
  let accept = () => {}
  const { duck, ask } = await site((stream, _duck, headers) => {
    stream.resume()
    if (headers[':path'] === '/no') setTimeout(() => {
      stream.respond({ ':status': 404 })
      stream.end('no')
    }, 200)
    else accept = () => {
      stream.respond({ ':status': 200 })
      stream.write(frame(TEXT, 'welcome'))
    }
  }, { lameduckMs: 50 })
  const [yes, no] = [ask(WEBSOCKET), ask(WEBSOCKET, '/no')]
  const [frames, refused] = [speak(yes), outcome(no)]
  await until('both there', () => duck.stats().inFlight.length === 2)
  const drained = duck.drain()
  await until('draining', () => duck.state === 'draining')
  accept()
  const { status, text } = await refused
  assert.deepEqual([status, text], [404, 'no'])
  assert.deepEqual((await drained).destroyed, [])
  assert.deepEqual([messages(frames), codes(frames)], [['welcome'], [1_001]])
})

test('a client that never answers the close frame has upgradedMs; one that answers it by the end of its stream is done', async () => {
  const { duck, open } = await site(accept, { upgradedMs: 500 })
  const [[deaf], [brief]] = [await open(WEBSOCKET, '/deaf'), await open(WEBSOCKET, '/brief')]
  const [none, one] = [speak(deaf, false), speak(brief, false)]
  brief.on('data', () => brief.end())
  const report = await duck.drain()
  assert.deepEqual(report.destroyed.map(({ why, state, path }) => [why, state, path]), [['upgraded', 'upgraded', '/deaf']])
  assert.deepEqual([codes(none), codes(one)], [[1_001], [1_001]])
})

test('a WebSocket that is accepted by a list of headers gets 1001', {
  skip: Number(process.versions.node.split('.')[0]) < 24 && 'Node takes lists from 24 on',
}, async () => {
  const { duck, open } = await site(stream => {
    stream.respond([':status', '200'] as unknown as http2.OutgoingHttpHeaders)
    stream.resume()
  })
  const [client] = await open(WEBSOCKET)
  const frames = speak(client)
  assert.deepEqual([(await duck.drain()).destroyed, codes(frames)], [[], [1_001]])
})

test('an application that does not read is waited for as long as its peer is, upgradedMs: both sides have ended, and Node keeps the stream', async () => {
  const { duck, open } = await site((stream, duck, headers) => {
    stream.respond({ ':status': 200 })
    stream.once('data', () => stream.pause())
    if (!headers[':protocol']) duck.track(stream, { close: () => stream.end() })
  }, { upgradedMs: 300 })
  const [[webSocket], [tunnel]] = [await open(WEBSOCKET, '/unread'), await open(TUNNEL)]
  speak(webSocket)
  webSocket.on('data', () => webSocket.end())
  tunnel.resume()
  for (const text of ['one', 'two']) {
    for (const stream of [webSocket, tunnel]) await new Promise(written => stream.write(frame(TEXT, text, { mask: true }), written))
  }
  const report = await duck.drain()
  assert.equal(report.outcome, 'clean')
  assert.deepEqual(report.destroyed.map(({ why, path }) => `${why} ${path}`).sort(), ['upgraded /unread', 'upgraded db:5432'])
})

test('unwrap() leaves a WebSocket as it was found, and in use', async () => {
  let unanswered: ServerHttp2Stream | undefined
  const { duck, open, ask } = await site((stream, duck, headers) => {
    if (headers[':path'] === '/unanswered') unanswered = stream
    else accept(stream, duck, headers)
  })
  ask(WEBSOCKET, '/unanswered')
  const [client, stream] = await open(WEBSOCKET)
  const frames = speak(client)
  const own = (of: object) => Reflect.ownKeys(of).filter(key => /^(respond|write|end|push)$|lameduck/.test(String(key)))
  const [, other] = await open(WEBSOCKET)
  assert.deepEqual(own(stream).filter(key => typeof key === 'string'), ['write', 'end', 'push'])
  duck.unwrap()
  assert.deepEqual([stream, other, unanswered as ServerHttp2Stream].map(own), [[], [], []])
  stream.write(frame(TEXT, 'still here'))
  await until('it came', () => frames.length > 0)
  assert.throws(() => duck.track(stream, { close() {} }), { code: 'ERR_LAMEDUCK_OPTION' })
  stream.session?.destroy()
})
