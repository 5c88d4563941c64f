// What counts as served: a response of which the last byte has been handed over, whatever becomes of its socket then.
import assert from 'node:assert/strict'
import http, { type RequestListener } from 'node:http'
import net from 'node:net'
import { test } from 'node:test'
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
