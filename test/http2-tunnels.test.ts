import assert from 'node:assert/strict'
import { once } from 'node:events'
import http2, { type ClientHttp2Stream, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type http from 'node:http'
import { after, test } from 'node:test'
import * as ws from 'ws'
import { wrap, type Duck, type LameduckError, type Options } from '../src/core/index.ts'
import { connectTo, KINDS, outcome, until, type Kind } from './_http2.ts'
import { endLeftovers } from './_leftovers.ts'
import { CLOSE, frame, FrameReader, PONG, TEXT, type Frame } from './_websocket.ts'
import { CERTIFICATE, listen, QUICK } from './_world.ts'

after(endLeftovers)

const { NGHTTP2_CANCEL } = http2.constants

/** Its types leave this one out. */
const { PerMessageDeflate } = ws as unknown as { PerMessageDeflate: new (options: object) => { accept(offers: object[]): void } }

const OPTIONS = { ...QUICK, deadlineMs: 20_000, upgradedMs: 10_000 }

const TUNNEL = { ':method': 'CONNECT', ':authority': 'db:5432', ':path': undefined }
const WEBSOCKET = { ':method': 'CONNECT', ':protocol': 'websocket', 'sec-websocket-version': '13' }

interface Site {
  duck: Duck
  /** Opens a stream, and has both its ends. */
  open(headers: object, path?: string): Promise<[client: ClientHttp2Stream, server: ServerHttp2Stream]>
  /** Opens one without waiting for anybody. */
  ask(headers: object, path?: string): ClientHttp2Stream
}

type Owner = (stream: ServerHttp2Stream, duck: Duck, headers: IncomingHttpHeaders) => void

const accept: Owner = stream => {
  stream.respond({ ':status': 200 })
  stream.resume()
}

/** A server whose CONNECT streams have an owner, and one session with it. */
async function site(owner: Owner = accept, options: Options = {}, kind: Kind = 'h2c'): Promise<Site> {
  const settings = { enableConnectProtocol: true }
  const server = kind === 'h2c' ? http2.createServer({ settings }) : http2.createSecureServer({ ...CERTIFICATE, settings })
  const duck = wrap(server, { ...OPTIONS, ...options })
  const opened = new Map<string, ServerHttp2Stream>()
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {})
    if (headers[':method'] === 'CONNECT') owner(stream, duck, headers)
    else stream.respond({ ':status': 200 }, { endStream: true })
    opened.set(String(headers['x-id']), stream)
  })
  await listen(server as unknown as http.Server)
  const peer = await connectTo(server)
  let last = 0
  const ask = (headers: object, path = '/') => {
    const stream = peer.open(path, { 'x-id': ++last, ...headers }, { endStream: false })
    stream.on('end', () => stream.end())
    return stream
  }
  return {
    duck,
    ask,
    async open(headers, path) {
      const stream = ask(headers, path)
      const id = String(last)
      await once(stream, 'response')
      return [stream, opened.get(id) as ServerHttp2Stream]
    },
  }
}

/** The frames that a client gets on a stream; it answers a close frame, and ends the stream, as it is told. */
function speak(stream: ClientHttp2Stream, replies = true): Frame[] {
  const frames: Frame[] = []
  const reader = new FrameReader(one => {
    frames.push(one)
    if (one.opcode === CLOSE && replies) stream.write(frame(CLOSE, one.payload, { mask: true }))
  })
  stream.on('data', chunk => reader.push(chunk as Buffer))
  return frames
}

const messages = (frames: readonly Frame[]) => frames.filter(({ opcode }) => opcode < 8).map(({ payload }) => payload.toString())
const codes = (frames: readonly Frame[]) => frames.filter(({ opcode }) => opcode === CLOSE).map(({ payload }) => payload.readUInt16BE())

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

test('a WebSocket of `ws` on a stream: what it is still compressing arrives before 1001, and it hears of the end', async () => {
  const extension = 'permessage-deflate'
  const sent = [1, 2, 3].map(n => String(n).repeat(200_000))
  const heard: Promise<unknown[]>[] = []
  const { duck, open } = await site(stream => {
    stream.respond({ ':status': 200, 'sec-websocket-extensions': extension })
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
  assert.deepEqual([asked, faults], [['hangs, told'], ['close of a tracked socket']])
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
  assert.deepEqual([executed, report.rejected, report.destroyed], [1, 2, []])
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

test('unwrap() leaves a WebSocket as it was found, and in use', async () => {
  const { duck, open } = await site()
  const [client, stream] = await open(WEBSOCKET)
  const frames = speak(client)
  const own = () => ['write', 'end', 'push'].filter(name => Object.hasOwn(stream, name))
  assert.deepEqual(own(), ['write', 'end', 'push'])
  duck.unwrap()
  assert.deepEqual(own(), [])
  stream.write(frame(TEXT, 'still here'))
  await until('it came', () => frames.length > 0)
  assert.throws(() => duck.track(stream, { close() {} }), { code: 'ERR_LAMEDUCK_OPTION' })
  stream.session?.destroy()
})
