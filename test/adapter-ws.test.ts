import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type http from 'node:http'
import { after, test } from 'node:test'
import { WebSocket, WebSocketServer, type ServerOptions } from 'ws'
import { drainWebSockets } from '../src/adapters/ws.ts'
import { wrap, type Duck, type Options } from '../src/core/index.ts'
import { Client } from './_client.ts'
import { endLeftovers } from './_leftovers.ts'
import { turns } from './_scenario.ts'
import { HANDSHAKE, Peer } from './_websocket.ts'
import { addressOf, createServer, listen, QUICK } from './_world.ts'

after(endLeftovers)

const OPTIONS = { ...QUICK, deadlineMs: 10_000, upgradedMs: 5_000 }

interface Scene {
  server: http.Server
  wss: WebSocketServer
  duck: Duck
  undo: () => void
  accepted: WebSocket[]
  connect(): Promise<Dialled>
}

interface Dialled {
  client: WebSocket
  messages: Buffer[]
  code: Promise<number>
}

async function scene(options: Options = {}, ws: ServerOptions & { bare?: true } = {}): Promise<Scene> {
  const server = createServer(false)
  const { bare, ...rest } = ws
  const wss = new WebSocketServer(rest.noServer ? rest : { server, ...rest })
  const accepted: WebSocket[] = []
  const took = (socket: WebSocket) => accepted.push(socket.on('error', () => {}))
  wss.on('connection', took)
  if (rest.noServer) {
    // With `bare` nobody hears of a `connection`.
    server.on('upgrade', (req, socket, head) => wss.handleUpgrade(req, socket, head, client => bare ? took(client) : wss.emit('connection', client, req)))
  }
  const duck = wrap(server, { ...OPTIONS, ...options })
  const undo = drainWebSockets(wss, duck)
  await listen(server)
  const connect = async () => {
    const client = new WebSocket(`ws://127.0.0.1:${addressOf(server).port}`, { perMessageDeflate: Boolean(rest.perMessageDeflate) })
    const messages: Buffer[] = []
    client.on('message', data => messages.push(data as Buffer))
    const code = once(client, 'close').then(([code]) => code as number)
    await once(client, 'open')
    return { client, messages, code }
  }
  return { server, wss, duck, undo, accepted, connect }
}

for (const [name, ws] of [['server', {}], ['noServer', { noServer: true }], ['noServer, without an event', { noServer: true, bare: true }],
  ['without clientTracking', { clientTracking: false }]] as const) {
  test(`${name}: its clients are closed by ws itself, and the WebSocketServer closes behind the last of them`, async () => {
    const { duck, wss, accepted, connect } = await scene({ websocketCode: 1_012 }, ws)
    const clients = await Promise.all([1, 2, 3].map(connect))
    const heard: string[] = []
    wss.on('close', () => heard.push('server'))
    for (const socket of accepted) socket.on('close', () => heard.push('client'))
    for (const socket of accepted) socket.send('hello')
    const drained = duck.drain()
    while (accepted.some(socket => socket.readyState === WebSocket.OPEN)) await turns(1)
    const report = await drained
    for (const { code, messages } of clients) {
      assert.equal(await code, 1_012)
      assert.deepEqual(messages.map(String), ['hello'])
    }
    assert.deepEqual(heard, ['client', 'client', 'client', 'server'])
    assert.equal(report.outcome, 'clean')
    assert.deepEqual(report.hooks.map(({ name, outcome }) => [name, outcome]), [['ws server.close()', 'ok']])
  })
}

test('permessage-deflate: everything that was sent arrives, whatever is still being compressed', async () => {
  const { duck, accepted, connect } = await scene({ quietMs: 0 }, { perMessageDeflate: true })
  const clients = await Promise.all([1, 2, 3].map(connect))
  const text = randomBytes(500_000).toString('hex')
  for (const socket of accepted) for (let i = 0; i < 4; i++) socket.send(text + i)
  const report = await duck.drain()
  for (const { code, messages } of clients) {
    assert.equal(await code, 1_001)
    assert.ok(messages.every((message, i) => message.toString() === text + i))
    assert.equal(messages.length, 4)
  }
  assert.equal(report.outcome, 'clean')
})

test('a client that never answers is destroyed after upgradedMs, and named', async () => {
  const { duck, server } = await scene({ upgradedMs: 150 })
  const peer = await new Peer(await Client.open(addressOf(server)), false).open()
  const report = await duck.drain()
  await peer.client.ended()
  assert.equal(peer.code, 1_001)
  assert.deepEqual(report.destroyed.map(({ why }) => why), ['upgraded'])
})

test('no new clients in the drain: 503, not the application\'s 404', async () => {
  const { duck, server, wss, connect } = await scene({ quietMs: 3_000 })
  const one = await connect()
  const late = await Client.open(addressOf(server))
  const drained = duck.drain()
  await turns()
  late.request('/', { headers: HANDSHAKE })
  assert.equal((await late.answer()).status, 503)
  await drained
  assert.equal(await one.code, 1_001)
  assert.equal(wss.clients.size, 0)
})

test('a handshake that is still being verified as the drain begins becomes a client that is closed', async () => {
  const ws: ServerOptions = {}
  let verify: (verified: boolean) => void = () => {}
  const asked = new Promise<void>(resolve => {
    ws.verifyClient = (_info: unknown, done: (verified: boolean) => void) => {
      verify = done
      resolve()
    }
  })
  const { duck, connect } = await scene({}, ws)
  const dialled = connect()
  await asked
  const drained = duck.drain()
  await turns()
  verify(true)
  assert.equal(await (await dialled).code, 1_001)
  assert.equal((await drained).outcome, 'clean')
})

test('undone: ws is as it was, and the core says goodbye', async () => {
  const { duck, wss, undo, connect } = await scene()
  assert.ok(Object.hasOwn(wss, 'handleUpgrade'))
  undo()
  assert.ok(!Object.hasOwn(wss, 'handleUpgrade'))
  const one = await connect()
  let closed = false
  wss.on('close', () => {
    closed = true
  })
  const report = await duck.drain()
  assert.equal(await one.code, 1_001)
  assert.deepEqual(report.hooks, [])
  assert.equal(closed, false)
})

test('something that is no WebSocketServer, or no duck, is refused before anything has changed', () => {
  const server = createServer(false)
  const [wss, duck] = [new WebSocketServer({ noServer: true }), wrap(server, { signals: false })]
  for (const bad of [undefined, null, 5, {}, server, duck, { handleUpgrade() {} }]) {
    assert.throws(() => drainWebSockets(bad as never, duck), { code: 'ERR_LAMEDUCK_SERVER', message: /^cannot wrap .*; allowed: a WebSocketServer of ws$/ })
  }
  for (const bad of [undefined, null, 5, {}, server, wss, { track() {} }]) {
    assert.throws(() => drainWebSockets(wss, bad as never), { code: 'ERR_LAMEDUCK_OPTION', message: /^duck is .*; allowed: a duck, the result of wrap\(\)$/s })
    assert.ok(!Object.hasOwn(wss, 'handleUpgrade'))
  }
  duck.unwrap()
})

test('after unwrap() new clients are nobody\'s to drain, and work', async () => {
  const { duck, connect, server } = await scene()
  duck.unwrap()
  const one = await connect()
  one.client.close(4_000)
  assert.equal(await one.code, 4_000)
  server.close()
})

test('the application has closed the WebSocketServer itself: its clients are closed, and the hook is done', async () => {
  const { duck, wss, connect } = await scene()
  const one = await connect()
  let closed = 0
  wss.close(() => closed++)
  const report = await duck.drain()
  assert.equal(await one.code, 1_001)
  assert.equal(closed, 1)
  assert.deepEqual(report.hooks.map(({ outcome }) => outcome), ['ok'])
})

test('a WebSocketServer with a port of its own is refused at the door: nobody would tell its clients', async () => {
  const duck = wrap(createServer(false), OPTIONS)
  const wss = new WebSocketServer({ port: 0 })
  await once(wss, 'listening')
  const { handleUpgrade } = wss
  wss.close()
  assert.throws(() => drainWebSockets(wss, duck), { code: 'ERR_LAMEDUCK_OPTION', message: /^port of the WebSocketServer is 0; allowed: none: make an http.Server/ })
  assert.equal(wss.handleUpgrade, handleUpgrade)
})
