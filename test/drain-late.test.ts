// Who comes while the listener closes, or shows himself behind that.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http2 from 'node:http2'
import type net from 'node:net'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from '../src/core/index.ts'
import { Client } from './_client.ts'
import { endLeftovers, leftover } from './_leftovers.ts'
import { addressOf, createServer, listen, QUICK } from './_world.ts'

after(endLeftovers)

const OPTIONS = { ...QUICK, lameduckMs: 0, upgradedMs: 100, deadlineMs: 10_000 }

test('a client that comes as the last connection ends, while the listener closes, has its answer however long that takes', async () => {
  const server = createServer(false)
  server.on('request', (_req, res) => setTimeout(() => res.end('whole'), 800))
  const duck = wrap(server, OPTIONS)
  await listen(server)
  const accepted = once(server, 'connection') as Promise<[net.Socket]>
  await Client.open(addressOf(server))
  const [socket] = await accepted
  let second: Promise<Client> | undefined
  socket.once('close', () => {
    second = Client.open(addressOf(server))
    void second.then(client => client.request('/'))
  })
  duck.once('state', () => duck.once('state', () => socket.destroy()))
  const report = await duck.drain()
  const answer = await (await second)?.answer()
  assert.deepEqual([answer?.text, answer?.header('connection')], ['whole', 'close'])
  assert.deepEqual([report.outcome, report.served, report.destroyed], ['clean', 1, []])
})

test('one with HTTP/2, too: its session gets GOAWAY, and the drain ends', async () => {
  const server = http2.createServer((_req, res) => void setTimeout(() => res.end('whole'), 300))
  const duck = wrap(server, OPTIONS)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`
  const session = () => {
    const made = http2.connect(url).on('error', () => {})
    leftover(() => made.destroy())
    return made
  }
  const first = session()
  const [socket] = await once(server, 'connection') as [net.Socket]
  await once(first, 'remoteSettings')
  let status: Promise<unknown[]> | undefined
  let goaway: Promise<unknown[]> | undefined
  socket.once('close', () => {
    const second = session()
    goaway = once(second, 'goaway')
    const stream = second.request({ ':path': '/' })
    stream.on('error', () => {}).resume()
    status = once(stream, 'response')
  })
  duck.once('state', () => duck.once('state', () => socket.destroy()))
  const report = await duck.drain()
  const [headers] = await status as [http2.IncomingHttpHeaders]
  assert.equal(headers[':status'], 200)
  assert.equal((await goaway)?.[0], 0)
  assert.deepEqual([report.outcome, report.destroyed], ['clean', []])
})

// Half a head: from Node 26 on `server.close()` takes those that have sent nothing.
test('a client from before wrap() whose first request is whole in the drain has its answer, while one that sends no more goes at upgradedMs', async () => {
  const server = createServer(false)
  server.on('request', (_req, res) => setTimeout(() => res.end('whole'), 800))
  await listen(server)
  const [client, silent] = [await Client.open(addressOf(server)), await Client.open(addressOf(server))]
  const { rest } = client.half('/', { cut: 'head' })
  silent.half('/', { cut: 'head' })
  await sleep(50)
  const duck = wrap(server, { ...OPTIONS, upgradedMs: 400 })
  const drained = duck.drain()
  await sleep(50)
  rest()
  const report = await drained
  const answer = await client.answer()
  assert.deepEqual([answer.text, answer.header('connection')], ['whole', 'close'])
  await silent.ended()
  assert.deepEqual(report.destroyed.map(({ why }) => why), ['unknown'])
  assert.equal(report.served, 1)
})

test('a client from before wrap() whose socket somebody has patched has its answer, too', async () => {
  const server = createServer(false)
  server.on('request', (_req, res) => setTimeout(() => res.end('whole'), 800))
  server.on('connection', (socket: net.Socket) => {
    const { destroy } = socket
    socket.destroy = error => destroy.call(socket, error)
  })
  await listen(server)
  const client = await Client.open(addressOf(server))
  const { rest } = client.half('/', { cut: 'head' })
  await sleep(50)
  const duck = wrap(server, { ...OPTIONS, upgradedMs: 400 })
  const drained = duck.drain()
  await sleep(50)
  rest()
  assert.deepEqual([(await drained).outcome, (await client.answer()).text], ['clean', 'whole'])
})

test('a listener of "state" that resumes at once leaves a running duck, whose signal is not aborted', async () => {
  const server = createServer(false)
  server.on('request', (_req, res) => res.end('hello'))
  const duck = wrap(server, { ...OPTIONS, lameduckMs: 5_000 })
  await listen(server)
  duck.once('state', () => duck.resume())
  const report = await duck.drain()
  assert.deepEqual([report.outcome, duck.state, duck.signal.aborted], ['resumed', 'running', false])
  const client = await Client.open(addressOf(server))
  client.request('/')
  assert.equal((await client.answer()).text, 'hello')
  assert.equal((await duck.drain({ lameduckMs: 0 })).outcome, 'clean')
})

test('a drain ends by its deadline although Node never says how many connections there are', async () => {
  const server = createServer(false)
  server.on('request', (_req, res) => res.end('hello'))
  await listen(server)
  const duck = wrap(server, { ...OPTIONS, lameduckMs: 100, deadlineMs: 400 })
  server.getConnections = () => server
  assert.equal((await duck.drain()).forcedBy, 'deadline')
})
