import assert from 'node:assert/strict'
import { once } from 'node:events'
import http2 from 'node:http2'
import net from 'node:net'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from '../src/core/index.ts'
import { Client } from './_client.ts'
import { connectTo, until } from './_http2.ts'
import { turns } from './_scenario.ts'
import { addressOf, listen, QUICK, rawWorld } from './_world.ts'

test('an event stream that was begun by writeHead with an object is ended, whatever its client accepts', async () => {
  const site = await rawWorld(false).start(({ res }) => {
    res.writeHead(200, { 'Content-Type': 'text/event-stream' })
    res.write('data: 1\n\n')
    return 'raw'
  })
  const client = await Client.open(site.address)
  client.request('/', { headers: { Accept: '*/*' } })
  await client.received(60)
  const report = await site.drain()
  assert.deepEqual([report?.outcome, report?.destroyed], ['clean', []])
  assert.equal((await client.answer()).text, 'data: 1\n\n')
})

test('a POST that is answered by an event stream comes to its own end: its client would not ask again', async () => {
  const site = await rawWorld(false).start(async ({ res, path }) => {
    if (path !== '/stream') return { body: 'hello' }
    res.writeHead(200, { 'Content-Type': 'text/event-stream' })
    for (let i = 0; i < 5; i++) {
      res.write(`data: ${i}\n\n`)
      await sleep(30)
    }
    res.end()
    return 'raw'
  }, { options: { quietMs: 3_000 } })
  const [client, late] = [await Client.open(site.address), await Client.open(site.address)]
  late.request('/')
  await late.answer()
  const ask = { method: 'POST', body: 'question', headers: { Accept: 'text/event-stream' } }
  client.request('/stream', ask)
  await client.received(60)
  const drained = site.drain()
  await turns()
  late.request('/stream', ask)
  const whole = Array.from({ length: 5 }, (_, i) => `data: ${i}\n\n`).join('')
  assert.equal((await client.answer()).text, whole)
  // It was not told to, and is in no hurry.
  client.halfClose()
  assert.equal((await late.answer()).text, whole)
  assert.equal((await drained)?.outcome, 'clean')
})

test('a response whose end() throws, by a patch, is a fault: what else is in flight is answered, and the listener closes', async () => {
  const faults: string[] = []
  const site = await rawWorld(false).start(({ res, path }) => {
    if (path === '/slow') return sleep(150).then(() => ({ body: 'slow' }))
    res.setHeader('Content-Type', 'text/event-stream')
    res.write('data: 1\n\n')
    res.end = () => {
      throw new Error('patched')
    }
    return 'raw'
  }, { options: { deadlineMs: 600 } })
  site.duck!.on('fault', ({ where }) => faults.push(where))
  const [broken, other] = [await Client.open(site.address), await Client.open(site.address)]
  broken.request('/stream')
  await broken.received(60)
  other.request('/slow')
  await sleep(20)
  const report = await site.drain()
  assert.equal((await other.answer()).text, 'slow')
  assert.deepEqual(faults, ['ending an event stream'])
  assert.deepEqual(report?.destroyed.map(({ path }) => path), ['/stream'])
  assert.equal(site.server.listening, false)
})

for (const begun of ['before', 'in'] as const) {
  test(`over HTTP/2, too, a POST that is answered by an event stream, begun ${begun} the drain, comes to its own end`, async () => {
    const server = http2.createServer(async (req, res) => {
      if (req.url === '/stream') {
        res.writeHead(200, { 'Content-Type': 'text/event-stream' })
        for (let i = 0; i < 5; i++) {
          res.write(`data: ${i}\n\n`)
          await sleep(30)
        }
      }
      res.end()
    })
    const duck = wrap(server, { ...QUICK, quietMs: 3_000 })
    await listen(server as never)
    const session = http2.connect(`http://127.0.0.1:${addressOf(server as never).port}`)
    const ask = (path: string, method: string) => text(session.request({ ':path': path, ':method': method }, { endStream: true }))
    await ask('/', 'GET')
    const early = begun === 'before' ? ask('/stream', 'POST') : undefined
    await sleep(40)
    const drained = duck.drain()
    await turns()
    const whole = Array.from({ length: 5 }, (_, i) => `data: ${i}\n\n`).join('')
    assert.equal(await (early ?? ask('/stream', 'POST')), whole)
    session.close()
    assert.equal((await drained).outcome, 'clean')
  })
}

test('half a head that came right behind an answer, long before the drain, has its time to become whole', async () => {
  const site = await rawWorld(false).start(() => ({ body: 'hello' }), { options: { headMs: 3_000 } })
  const client = await Client.open(site.address)
  client.request('/')
  await client.answer()
  const { rest } = client.half('/', { cut: 'head' })
  await sleep(60)
  const drained = site.drain()
  await sleep(200)
  rest()
  assert.equal((await client.answer()).status, 200)
  assert.equal((await drained)?.outcome, 'clean')
})

test('what is answered because of the drain signal says close', async () => {
  const site = await rawWorld(false).start(({ res }) => {
    site.duck!.signalFor(res).addEventListener('abort', () => res.end('over'))
    return 'raw'
  })
  const client = await Client.open(site.address)
  client.request('/')
  await sleep(30)
  const report = await site.drain()
  const answer = await client.answer()
  assert.deepEqual([answer.text, answer.all('connection')], ['over', ['close']])
  assert.equal(report?.outcome, 'clean')
})

for (const of of ['the response', 'the stream'] as const) {
  test(`over HTTP/2 signalFor(${of}) is aborted when the client resets its stream or goes away, as the drain begins, and not by an answer`, async () => {
    const reasons = new Map<string, string>()
    const server = http2.createServer((req, res) => {
      const signal = duck.signalFor(of === 'the stream' ? res.stream : res)
      signal.addEventListener('abort', () => reasons.set(req.url, (signal.reason as Error).message))
      if (req.url === '/answered') res.end('hello')
      if (req.url === '/draining') signal.addEventListener('abort', () => res.end('over'))
      if (req.url === '/half') res.write('hello')
    })
    const duck = wrap(server, QUICK)
    await listen(server as never)
    const [one, two] = [await connectTo(server), await connectTo(server)]
    assert.equal((await one.ask('/answered')).text, 'hello')
    const last = one.ask('/draining')
    for (const path of ['/reset', '/half']) {
      const stream = one.open(path)
      await until('there', () => duck.stats().inFlight.some(request => request.path === path))
      stream.close(path === '/half' ? http2.constants.NGHTTP2_NO_ERROR : http2.constants.NGHTTP2_CANCEL)
      await until('reset', () => reasons.has(path))
    }
    two.open('/gone')
    await until('there', () => duck.stats().inFlight.some(request => request.path === '/gone'))
    two.session.destroy()
    await until('gone', () => reasons.has('/gone'))
    await duck.drain()
    assert.equal((await last).text, 'over')
    assert.deepEqual(Object.fromEntries(reasons), {
      '/reset': 'the client has gone away',
      '/half': 'the client has gone away',
      '/gone': 'the client has gone away',
      '/draining': 'the server is draining: drain()',
    })
  })
}

test('over HTTP/2 a request that `admit` turns away does not reach a listener of `stream` beside that of `request`', async () => {
  const executed: string[] = []
  const server = http2.createServer((_req, res) => res.end('hello'))
  server.on('stream', (_stream, headers) => executed.push(String(headers[':path'])))
  const duck = wrap(server, { ...QUICK, quietMs: 3_000, admit: 'reject' })
  await listen(server as never)
  const session = http2.connect(`http://127.0.0.1:${addressOf(server as never).port}`)
  const status = async (path: string) => {
    const stream = session.request({ ':path': path })
    const [headers] = await once(stream, 'response') as [http2.IncomingHttpStatusHeader]
    await text(stream)
    return headers[':status']
  }
  assert.equal(await status('/before'), 200)
  const drained = duck.drain()
  assert.equal(await status('/late'), 503)
  session.close()
  await drained
  assert.deepEqual(executed, ['/before'])
})

test('track() of the socket of an HTTP/2 request is refused: it belongs to all streams of its session', async () => {
  let refused: unknown
  const server = http2.createServer((req, res) => {
    try {
      duck.track(req.stream.session!.socket, { close() {} })
    } catch (error) {
      refused = error
    }
    res.end('hello')
  })
  const duck = wrap(server, QUICK)
  await listen(server as never)
  const session = http2.connect(`http://127.0.0.1:${addressOf(server as never).port}`)
  await text(session.request({ ':path': '/' }))
  session.close()
  await duck.drain()
  assert.equal((refused as { code?: string } | undefined)?.code, 'ERR_LAMEDUCK_OPTION')
})

test('when the drain itself fails, by a patch, what is in flight is cut, the listener is closed, and a report says so', async () => {
  const site = await rawWorld(false).start(() => new Promise(() => {}))
  const client = await Client.open(site.address)
  client.request('/')
  await sleep(20)
  let fault: unknown
  site.duck!.on('fault', ({ where, error }) => {
    if (where === 'the drain') fault = error
  })
  const { close } = net.Server.prototype
  net.Server.prototype.close = () => {
    net.Server.prototype.close = close
    throw new Error('patched')
  }
  const report = await site.drain()
  assert.equal((fault as Error | undefined)?.message, 'patched')
  assert.equal(report?.outcome, 'forced')
  assert.notEqual(await client.ended(), 'open')
  assert.equal(site.server.listening, false)
  assert.equal(site.duck!.stats().connections.total, 0)
})
