// What counts as served: a response of which the last byte has been handed over, whatever becomes of its socket then.
import assert from 'node:assert/strict'
import http, { type RequestListener, type ServerResponse } from 'node:http'
import net from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from '../src/core/index.ts'
import { until } from './_until.ts'
import { addressOf, listen } from './_world.ts'

/** More than any kernel takes at once. */
const much = Buffer.alloc(64 << 20)

const answers: Record<string, [served: number, RequestListener]> = {
  'that was sent': [1, (_, res) => res.end('hello')],
  'that was sent before res.destroy()': [1, (_, res) => res.end('hello', () => res.destroy())],
  'that was sent before socket.destroy()': [1, (req, res) => res.end('hello', () => req.socket.destroy())],
  'of which the end was sent, and res.destroy() called in the same turn': [1, (_, res) => {
    res.end('hello')
    res.destroy()
  }],
  'whose end has not come': [0, (req, res) => res.write('hello', () => req.socket.destroy())],
  'most of which waits to be sent when its socket is destroyed': [0, (req, res) => {
    res.end(much)
    setImmediate(() => req.socket.destroy())
  }],
  'of nothing': [0, req => req.socket.destroy()],
}

for (const [what, [served, answer]] of Object.entries(answers)) test(`a response ${what} counts ${served === 1 ? 'as served' : 'as none'}`, async () => {
  const server = http.createServer(answer)
  const duck = wrap(server, { signals: false, lameduckMs: 0 })
  await listen(server)
  const client = net.connect(addressOf(server) as net.NetConnectOpts)
  client.on('error', () => {})
  // It reads nothing of what does not fit.
  if (served === 1) client.resume()
  client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  const gone = () => duck.stats().counters.accepted === 1 && duck.stats().connections.total === 0
  await until(() => duck.stats().counters.served === 1 || gone(), 'it has been sent, or its connection is gone')
  assert.equal(duck.stats().counters.served, served)
  client.destroy()
  const report = await duck.drain()
  assert.deepEqual([report.outcome, report.served], ['clean', 0])
})

test('responses that wait behind another one when their socket is destroyed count as none', async () => {
  const server = http.createServer((req, res) => {
    if (req.url === '/') return
    res.end('hello')
    setImmediate(() => req.socket.destroy())
  })
  const duck = wrap(server, { signals: false, lameduckMs: 0 })
  await listen(server)
  const client = net.connect(addressOf(server) as net.NetConnectOpts)
  client.on('error', () => {}).resume()
  client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\nHEAD /next HTTP/1.1\r\nHost: a\r\n\r\n')
  await until(() => duck.stats().counters.accepted === 1 && duck.stats().connections.total === 0, 'the connection is gone')
  assert.equal(duck.stats().counters.served, 0)
  await duck.drain()
})

/** A client of a server whose idle connections are closed soon, and what it got so far. */
async function talk(server: http.Server) {
  const duck = wrap(server, { signals: false, lameduckMs: 0, quietMs: 100, deadlineMs: 5_000 })
  await listen(server)
  const client = net.connect(addressOf(server) as net.NetConnectOpts).setEncoding('utf8')
  let text = ''
  client.on('error', () => {}).on('data', (chunk: string) => {
    text += chunk
  })
  return { duck, client, got: () => text }
}

for (const begins of ['in rotation', 'before a drain', 'in a drain']) test(`a response that is destroyed ${begins} while it waits behind another one: that one comes all the same, and counts`, async () => {
  const pending: ServerResponse[] = []
  const server = http.createServer((req, res) => {
    if (req.url === '/proxied') res.destroy(new Error('upstream failed')).on('error', () => {})
    else pending.push(res)
  })
  const { duck, client, got } = await talk(server)
  client.write('GET /slow HTTP/1.1\r\nHost: a\r\n\r\n')
  await until(() => pending.length === 1, 'the first request is there')
  let drained = begins === 'in a drain' ? duck.drain() : undefined
  if (drained) await until(() => duck.stats().state === 'draining', 'the drain has begun')
  client.write('GET /proxied HTTP/1.1\r\nHost: a\r\n\r\n')
  await sleep(300)
  if (begins === 'before a drain') drained = duck.drain()
  // Longer than an idle connection is left open.
  await sleep(300)
  const { connections, inFlight } = duck.stats()
  assert.deepEqual([connections.active, inFlight[0]?.path], [1, '/slow'])
  pending[0]?.end('hello')
  await until(() => got().endsWith('hello'), 'the answer is there')
  // Node 20 and 22 destroy the socket when the turn of the other one comes.
  if (begins === 'before a drain' && Number(process.versions.node.split('.')[0]) >= 24) assert.match(got(), /^connection: close/im)
  await until(() => duck.stats().counters.served === 1, 'it counts')
  const report = await (drained ?? duck.drain())
  assert.equal(report.outcome, 'clean')
  await until(() => client.destroyed, 'the connection has ended')
})

test('behind a response that was destroyed while it waited nothing can come: its connection ends as its turn comes, and holds no drain', async () => {
  for (const begins of ['in rotation', 'before a drain', 'in a drain']) for (const destroyed of [[1], [2], [1, 3], [3]]) {
    const pending: ServerResponse[] = []
    const server = http.createServer((_, res) => void pending.push(res))
    const { duck, client, got } = await talk(server)
    client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    await until(() => pending.length === 1, 'the first request is there')
    let drained = begins === 'in a drain' ? duck.drain() : undefined
    client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(3))
    await until(() => pending.length === 4, 'all requests are there')
    for (const at of destroyed) pending[at]?.destroy()
    if (begins === 'before a drain') drained = duck.drain()
    await sleep(50)
    pending.forEach((res, at) => destroyed.includes(at) ? undefined : res.end(`answer ${at}`))
    await until(() => client.destroyed, 'the connection has ended')
    const report = await (drained ?? duck.drain())
    const what = `${destroyed.join()} ${begins}`
    assert.deepEqual([report.outcome, report.destroyed], ['clean', []], what)
    const answers = [0, 1, 2, 3].slice(0, destroyed[0]).map(at => `answer ${at}`)
    assert.deepEqual(got().match(/answer \d/g), answers, what)
    assert.equal(duck.stats().counters.served, answers.length, what)
  }
})
