import assert from 'node:assert/strict'
import type http from 'node:http'
import net from 'node:net'
import { test } from 'node:test'
import tls from 'node:tls'
import { release } from './_app.ts'
import { Client } from './_client.ts'
import { RawPeer } from './_http2-raw.ts'
import { connectTo, createHttp2, startHttp2, until } from './_http2.ts'
import { assertLast } from './_scenario.ts'
import { addressOf, listen, QUICK } from './_world.ts'
import { wrap } from '../src/core/index.ts'

const addressOfHttp2 = (server: net.Server) => addressOf(server as http.Server)

/** A TLS connection that offers these protocols, or none. */
async function secure(server: net.Server, protocols?: string[]): Promise<tls.TLSSocket> {
  const { ca, ...at } = addressOfHttp2(server)
  const socket = tls.connect({ ...at, ca: ca as string, servername: 'localhost', ...(protocols && { ALPNProtocols: protocols }) } as tls.ConnectionOptions)
  await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject))
  return socket
}

test('allowHTTP1: clients of both kinds in flight are answered, idle ones go, each in its own way', { timeout: 60_000 }, async () => {
  const site = await startHttp2('h2', { lingerMs: 10_000, deadlineMs: 20_000 }, { server: { allowHTTP1: true } })
  const [modern, idle] = [await site.connect(), await site.connect()]
  const [classic, kept] = [await Client.open(addressOfHttp2(site.server)), await Client.open(addressOfHttp2(site.server))]
  const stream = modern.ask('/gate', { 'x-id': 'modern' })
  classic.request('/gate', { id: 'classic' })
  kept.request('/')
  await kept.answer()
  await until('in flight', () => site.duck.stats().inFlight.length === 2)
  assert.deepEqual({ ...site.duck.stats().connections }, { total: 4, handshake: 0, fresh: 1, active: 2, idle: 1, upgraded: 0, closing: 0 })
  const drained = site.duck.drain()
  for (const id of ['modern', 'classic']) release(id)
  const report = await drained
  assert.equal((await stream).answered, true)
  await assertLast(classic)
  assert.equal(await kept.ended(), 'fin')
  await Promise.all([modern.ended, idle.ended])
  assert.ok(idle.goaways.length > 0)
  assert.deepEqual([report.outcome, report.served, report.closed], ['clean', 2, 4])
  site.duck.unwrap()
})

test('allowHTTP1: the probes answer clients of both kinds', { timeout: 60_000 }, async () => {
  const site = await startHttp2('h2', {}, { server: { allowHTTP1: true } })
  site.duck.lameduck()
  const [modern, classic] = [await site.connect(), await Client.open(addressOfHttp2(site.server))]
  assert.equal((await modern.ask('/readyz')).status, 503)
  classic.request('/readyz')
  await assertLast(classic, 503)
  assert.deepEqual(site.executed, [])
  await site.duck.drain()
  site.duck.unwrap()
})

test('allowHTTP1: a client without ALPN speaks HTTP/1, one with http/1.1 as well', { timeout: 60_000 }, async () => {
  const site = await startHttp2('h2', {}, { server: { allowHTTP1: true } })
  for (const protocols of [undefined, ['http/1.1'], ['h2', 'http/1.1']]) {
    const socket = await secure(site.server, protocols)
    assert.equal(socket.alpnProtocol, protocols?.[0] ?? false)
    socket.destroy()
  }
  const client = await Client.open(addressOfHttp2(site.server))
  client.request('/gate', { id: 'without-alpn' })
  await until('in flight', () => site.duck.stats().inFlight.length === 1)
  void site.duck.drain()
  release('without-alpn')
  await assertLast(client)
  assert.equal((await site.duck.drain()).outcome, 'clean')
  site.duck.unwrap()
})

test('allowHTTP1: an idle HTTP/1 connection from before wrap() is counted, and does not outlast the drain', { timeout: 60_000 }, async () => {
  const server = createHttp2('h2', [], undefined, { allowHTTP1: true })
  await listen(server as unknown as http.Server)
  const silent = await Client.open(addressOfHttp2(server))
  silent.request('/')
  await silent.answer()
  const duck = wrap(server, { ...QUICK, deadlineMs: 10_000 })
  const report = await duck.drain()
  await silent.ended()
  assert.equal(report.unknown, 1)
  assert.ok(report.durationMs < 6_000, `${report.durationMs} ms`)
  duck.unwrap()
})

test('h2: a client that speaks neither protocol is refused by Node as ever, and does not hold the drain', { timeout: 60_000 }, async () => {
  const site = await startHttp2('h2')
  const socket = await secure(site.server)
  let text = ''
  socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk)).on('error', () => {})
  socket.write('GET / HTTP/1.1\r\nHost: test\r\n\r\n')
  await until('the refusal', () => text.includes('403 Forbidden'))
  const report = await site.duck.drain()
  assert.ok(report.durationMs < 4_500, `${report.durationMs} ms`)
  socket.destroy()
  assert.deepEqual(site.executed, [])
  site.duck.unwrap()
})

test('h2: a protocol of the application\'s own gets upgradedMs', { timeout: 60_000 }, async () => {
  const server = createHttp2('h2', [])
  server.on('unknownProtocol', (socket: net.Socket) => void socket.on('data', chunk => socket.write(chunk)).on('error', () => {}))
  const duck = wrap(server, QUICK)
  await listen(server as unknown as http.Server)
  const socket = await secure(server)
  socket.on('error', () => {})
  const echo = new Promise(resolve => socket.once('data', resolve))
  socket.write('anything')
  await echo
  assert.equal(duck.stats().connections.upgraded, 1)
  const report = await duck.drain()
  assert.deepEqual(report.destroyed.map(({ why }) => why), ['upgraded'])
  socket.destroy()
  duck.unwrap()
})

test('h2: a handshake that never begins, and one that is never finished, end at their limits', { timeout: 60_000 }, async () => {
  const site = await startHttp2('h2')
  const { host, port } = addressOfHttp2(site.server)
  const sockets = [0, 1].map(() => net.connect({ host: host as string, port: port as number }).on('error', () => {}).resume())
  await until('both accepted', () => site.duck.stats().connections.handshake === 2)
  sockets[1]?.write(Buffer.from([22, 3, 1, 2, 0, 1]))
  await new Promise(resolve => setTimeout(resolve, 20))
  const report = await site.duck.drain()
  assert.deepEqual(report.destroyed.map(({ why }) => why), ['handshake'])
  assert.ok(report.durationMs < 4_500, `${report.durationMs} ms`)
  for (const socket of sockets) socket.destroy()
  site.duck.unwrap()
})

test('h2c: a client that speaks HTTP/1, and one that sends half a preface, hold nothing up', { timeout: 60_000 }, async () => {
  const site = await startHttp2('h2c')
  const { host, port } = addressOfHttp2(site.server)
  const [classic, half] = ['GET / HTTP/1.1\r\nHost: test\r\n\r\n', 'PRI * HTTP/2.0'].map(bytes => {
    const socket = net.connect({ host: host as string, port: port as number }).on('error', () => {}).resume()
    socket.write(bytes)
    return socket
  })
  const good = await RawPeer.open(addressOfHttp2(site.server))
  await until('the good one', () => site.duck.stats().connections.fresh >= 1 && good.frames.length > 0)
  const report = await site.duck.drain()
  assert.ok(report.durationMs < 4_500, `${report.durationMs} ms`)
  assert.deepEqual(site.executed, [])
  for (const socket of [classic, half, good.socket]) socket?.destroy()
  site.duck.unwrap()
})

test('allowHTTP1: an upgraded HTTP/1 socket beside a session gets upgradedMs', { timeout: 60_000 }, async () => {
  const server = createHttp2('h2', [], undefined, { allowHTTP1: true })
  server.on('upgrade', (_req: http.IncomingMessage, socket: net.Socket) => {
    socket.on('error', () => {})
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
    socket.pipe(socket)
  })
  const duck = wrap(server, QUICK)
  await listen(server as unknown as http.Server)
  const client = await Client.open(addressOfHttp2(server))
  const modern = await connectTo(server)
  client.request('/', { headers: { Connection: 'Upgrade', Upgrade: 'echo' } })
  await until('the upgrade', () => duck.stats().connections.upgraded === 1)
  const report = await duck.drain()
  assert.deepEqual(report.destroyed.map(({ why }) => why), ['upgraded'])
  await client.ended()
  await modern.ended
  duck.unwrap()
})
