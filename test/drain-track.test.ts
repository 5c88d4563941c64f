import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap, type Duck, type Fault, type LameduckError, type Options } from '../src/core/index.ts'
import { Client } from './_client.ts'
import { endLeftovers } from './_leftovers.ts'
import { turns, until } from './_scenario.ts'
import { closeFrame, Peer, simple } from './_websocket.ts'
import { addressOf, createServer, listen, QUICK } from './_world.ts'

after(endLeftovers)

const OPTIONS = { ...QUICK, deadlineMs: 10_000, upgradedMs: 3_000 }

type Owner = (socket: Duplex, duck: Duck, req: IncomingMessage) => void

interface Scene {
  duck: Duck
  client: Client
  socket: Duplex
  faults: Fault[]
}

/** A client in a tunnel, the server's side of it, and what its owner has done about it. */
async function tunnel(owner: Owner, options: Options = {}, { tls = false, kind = 'upgrade' } = {}): Promise<Scene> {
  const server = createServer(tls)
  const faults: Fault[] = []
  const duck = wrap(server, { ...OPTIONS, ...options })
  duck.on('fault', fault => faults.push(fault))
  const opened = new Promise<Duplex>(resolve => {
    server.on(kind, (req: IncomingMessage, socket: Duplex) => {
      socket.on('error', () => {})
      socket.on('end', () => socket.end())
      socket.write(kind === 'connect' ? 'HTTP/1.1 200 OK\r\n\r\n' : 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
      socket.resume()
      owner(socket, duck, req)
      resolve(socket)
    })
  })
  await listen(server)
  const client = await Client.open(addressOf(server))
  if (kind === 'connect') client.request('example.test:443', { method: 'CONNECT' })
  else client.request('/', { headers: { Connection: 'Upgrade', Upgrade: 'echo' } })
  await client.answer()
  return { duck, client, socket: await opened, faults }
}

for (const kind of ['connect', 'upgrade']) {
  for (const tls of [false, true]) {
    test(`${kind}${tls ? ' over TLS' : ''}: the owner says goodbye in its own way as the draining begins, not before`, async () => {
      const codes: number[] = []
      const { duck, client } = await tunnel((socket, duck) => {
        duck.track(socket, {
          close: (_signal, code) => {
            codes.push(code)
            assert.equal(duck.state, 'draining')
            socket.end('goodbye')
          },
        })
      }, { lameduckMs: 100 }, { kind, tls })
      const report = await duck.drain()
      assert.equal(await client.ended(), 'fin')
      assert.equal(client.tunnelled, 'goodbye')
      assert.deepEqual(codes, [1_001])
      assert.equal(report.outcome, 'clean')
      assert.deepEqual(report.destroyed, [])
    })
  }
}

test('track() after the handler has run, and in the drain itself', async () => {
  const { duck, client, socket } = await tunnel(() => {})
  const drained = duck.drain()
  await turns()
  assert.equal(duck.state, 'draining')
  duck.track(socket, { close: () => socket.end('at last') })
  await drained
  assert.equal(client.tunnelled, 'at last')
  assert.equal(await client.ended(), 'fin')
  assert.equal(typeof duck.track(socket, { close: () => assert.fail('it has ended') }), 'function')
})

test('track() before the upgrade, on a connection that still speaks HTTP', async () => {
  const server = createServer(false)
  const duck = wrap(server, OPTIONS)
  let told = 0
  server.on('connection', socket => duck.track(socket, {
    close: () => {
      told++
      socket.end('told')
    },
  }))
  server.on('request', (_req, res) => res.end())
  server.on('upgrade', (_req, socket) => socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n'))
  await listen(server)
  const [idle, upgraded] = [await Client.open(addressOf(server)), await Client.open(addressOf(server))]
  idle.request('/')
  upgraded.request('/', { headers: { Connection: 'Upgrade', Upgrade: 'x' } })
  await Promise.all([idle.answer(), upgraded.answer()])
  assert.equal((await duck.drain()).outcome, 'clean')
  await idle.ended()
  assert.equal(upgraded.tunnelled, 'told')
  assert.equal(told, 1)
})

test('a close that takes its time has upgradedMs, and then the socket has upgradedMs from its end', async () => {
  const { duck, client } = await tunnel((socket, duck) => duck.track(socket, {
    close: async () => {
      await sleep(300)
      socket.write('done')
    },
  }), { upgradedMs: 500 })
  const { durationMs, destroyed } = await duck.drain()
  assert.equal(client.tunnelled, 'done')
  assert.ok(durationMs > 790, `${durationMs} ms`)
  assert.deepEqual(destroyed.map(({ why, state }) => [why, state]), [['upgraded', 'upgraded']])
})

test('a close that hangs is told by its signal when the socket is destroyed, after upgradedMs', async () => {
  let told = 0
  const { duck, client } = await tunnel((socket, duck) => duck.track(socket, {
    close: async signal => {
      await once(signal, 'abort')
      told++
    },
  }), { upgradedMs: 100 })
  const report = await duck.drain()
  await client.ended()
  await turns()
  assert.equal(told, 1)
  assert.deepEqual(report.destroyed.map(({ why }) => why), ['upgraded'])
})

for (const [how, close] of [['throws', () => { throw new Error('no') }], ['rejects', () => Promise.reject(new Error('no'))]] as const) {
  test(`a close that ${how} is a fault, and the socket has its time all the same`, async () => {
    const { duck, client, faults } = await tunnel((socket, duck) => duck.track(socket, { close }), { upgradedMs: 100 })
    const report = await duck.drain()
    await client.ended()
    assert.deepEqual(faults.map(({ where, error }) => [where, (error as Error).message]), [['close of GET /', 'no']])
    assert.deepEqual(report.destroyed.map(({ why, method, path }) => [why, method, path]), [['upgraded', 'GET', '/']])
  })
}

test('taken back, or taken over: only the last owner is asked', async () => {
  const asked: string[] = []
  const { duck, client } = await tunnel((socket, duck) => {
    const takeBack = duck.track(socket, { close: () => asked.push('first') })
    duck.track(socket, {
      close: () => {
        asked.push('second')
        socket.end()
      },
    })
    takeBack()
    duck.track(socket, { close: () => asked.push('third') })()
  }, { upgradedMs: 100 })
  await duck.drain()
  await client.ended()
  assert.equal(asked.length, 0)

  const two = await tunnel((socket, duck) => {
    duck.track(socket, { close: () => asked.push('first') })
    duck.track(socket, {
      close: () => {
        asked.push('second')
        socket.end()
      },
    })
  })
  await two.duck.drain()
  await two.client.ended()
  assert.deepEqual(asked, ['second'])
})

test('the owner of a WebSocket says goodbye instead of lameduck, and both close frames end the socket', async () => {
  const server = createServer(false)
  const duck = wrap(server, OPTIONS)
  server.on('upgrade', simple((socket, req) => duck.track(req.socket, { close: (_signal, code) => socket.write(closeFrame(code + 2_000)) })))
  await listen(server)
  const peer = await new Peer(await Client.open(addressOf(server))).open()
  const report = await duck.drain()
  assert.equal(await peer.client.ended(), 'fin')
  assert.equal(peer.code, 3_001)
  assert.equal(peer.frames.length, 1)
  assert.equal(report.outcome, 'clean')
  assert.ok(report.durationMs < 2_500)
})

test('an owner that comes while a WebSocket is waited for is the one who says goodbye', async () => {
  const server = createServer(false)
  const duck = wrap(server, { ...OPTIONS, quietMs: 300 })
  let take = () => {}
  server.on('upgrade', simple((socket, req) => {
    take = () => void duck.track(req.socket, { close: () => socket.write(closeFrame(3_000)) })
  }))
  await listen(server)
  const peer = await new Peer(await Client.open(addressOf(server))).open()
  const drained = duck.drain()
  await sleep(50)
  take()
  await drained
  await peer.client.ended()
  assert.equal(peer.code, 3_000)
})

test('bad input is refused at the door', async () => {
  const { duck, client, socket } = await tunnel(() => {})
  const stranger = createServer(false)
  await listen(stranger)
  const accepted = once(stranger, 'connection') as Promise<[Duplex]>
  const other = await Client.open(addressOf(stranger))
  const [foreign] = await accepted
  const refused = (code: string, text: RegExp) => (error: LameduckError) => {
    assert.equal(error.code, code)
    assert.match(error.message, text)
    return true
  }
  const close = () => {}
  const track = duck.track.bind(duck) as (...args: unknown[]) => unknown
  for (const bad of [undefined, null, 'x', 1, {}, foreign]) {
    assert.throws(() => track(bad, { close }), refused('ERR_LAMEDUCK_OPTION', /^socket is .{1,200}; allowed: the socket of a request/))
  }
  for (const bad of [undefined, null, 'x', []]) {
    assert.throws(() => track(socket, bad), refused('ERR_LAMEDUCK_OPTION', /^options is .*; allowed: an object/))
  }
  for (const bad of [{}, { close: 1 }, { close: undefined }]) {
    assert.throws(() => track(socket, bad), refused('ERR_LAMEDUCK_OPTION', /^options\.close is .*; allowed: a function/))
  }
  assert.throws(() => track(socket, { close, timeoutMs: 1 }), refused('ERR_LAMEDUCK_OPTION', /^options\.timeoutMs .* is no option; allowed: close/))
  socket.destroy()
  other.destroy()
  await duck.drain()
  await client.ended()
  stranger.close()
})

test('websocketCode: what says neither "going away" nor "restart" is refused', () => {
  for (const websocketCode of [1_001, 1_012, 3_000, 4_999]) wrap(createServer(false), { signals: false, websocketCode })
  for (const bad of [1_000, 1_005, 1_006, 2_999, 5_000, 3_000.5, NaN, '1001', null]) {
    assert.throws(() => wrap(createServer(false), { signals: false, websocketCode: bad as number }), (error: LameduckError) => {
      assert.equal(error.code, 'ERR_LAMEDUCK_OPTION')
      assert.match(error.message, /^options\.websocketCode is .*; allowed: 1001, 1012, or an integer from 3000 to 4999$/)
      return true
    })
  }
})

test('an upgrade behind a request that still executes: the report names the request, whose answer was lost, and a fault of the tunnel the tunnel', async () => {
  const server = createServer(false)
  const duck = wrap(server, { ...OPTIONS, upgradedMs: 100 })
  const faults: string[] = []
  duck.on('fault', ({ where }) => faults.push(where))
  server.on('request', () => {})
  server.on('upgrade', (_req, socket: Duplex) => duck.track(socket, {
    close: () => {
      throw new Error('no')
    },
  }))
  await listen(server)
  const client = await Client.open(addressOf(server))
  client.pipeline([{ path: '/slow' }, { path: '/tunnel', headers: { Connection: 'Upgrade', Upgrade: 'echo' } }])
  await until(() => duck.stats().connections.upgraded === 1, 'both have come')
  const { destroyed } = await duck.drain()
  await client.ended()
  assert.deepEqual(destroyed.map(({ why, path }) => [why, path]), [['upgraded', '/slow']])
  assert.deepEqual(faults, ['close of GET /tunnel'])
})

test('an upgrade that one wrapped server hands on to another is a WebSocket once, and gets its close frame', async () => {
  const [main, front] = [createServer(false), createServer(false)]
  const duck = wrap(front, OPTIONS)
  duck.add(main)
  main.on('upgrade', simple(() => {}))
  front.on('upgrade', (...args) => main.emit('upgrade', ...args))
  await listen(front)
  const peer = await new Peer(await Client.open(addressOf(front))).open()
  assert.equal((await duck.drain()).outcome, 'clean')
  await peer.client.ended()
  assert.equal(peer.code, 1_001)
})
