import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { wrap } from '../src/core/index.ts'
import { Client } from './_client.ts'
import { endLeftovers } from './_leftovers.ts'
import { turns } from './_scenario.ts'
import { BINARY, CLOSE, frame, Peer, simple } from './_websocket.ts'
import { addressOf, createServer, listen } from './_world.ts'
import { dial, OPTIONS, scene, type Seen } from './_ws.ts'

after(endLeftovers)

/** Node's own. */
async function dialNative(url: string): Promise<Seen> {
  const client = new WebSocket(url.replace('localhost', '127.0.0.1'))
  const messages: string[] = []
  client.addEventListener('message', ({ data }) => messages.push(String(data)))
  const closed = new Promise<{ code: number, at: number }>(resolve => {
    client.addEventListener('close', ({ code }) => resolve({ code, at: performance.now() }))
  })
  await new Promise(resolve => client.addEventListener('open', resolve))
  return { messages, closed, send: text => client.send(text) }
}

for (const tls of [false, true]) {
  test(`ws${tls ? ' over TLS' : ''}: its clients get all that was sent, then 1001, and the server hears of the end`, async () => {
    const { duck, url, accepted } = await scene({}, {}, tls)
    const clients = await Promise.all([1, 2, 3].map(() => dial(url)))
    const heard = accepted.map(socket => once(socket, 'close'))
    const big = randomBytes(300_000)
    for (const socket of accepted) {
      socket.send('hello')
      socket.send(big)
      socket.send('a '.repeat(500))
    }
    const report = await duck.drain()
    for (const { messages, closed } of clients) {
      assert.equal((await closed).code, 1_001)
      assert.deepEqual(messages, ['hello', big, 'a '.repeat(500)])
    }
    for (const [code] of await Promise.all(heard)) assert.equal(code, 1_001)
    assert.equal(report.outcome, 'clean')
    assert.deepEqual(report.destroyed, [])
  })
}

test('Node\'s own WebSocket gets all that was sent, then 1001', { skip: typeof WebSocket === 'undefined' && 'this Node has no WebSocket' }, async () => {
  const { duck, url, accepted } = await scene({ websocketCode: 1_001 }, { perMessageDeflate: true })
  const one = await dialNative(url)
  for (let i = 0; i < 50; i++) accepted[0]!.send(`${i} ${'x'.repeat(i * 100)}`)
  const report = await duck.drain()
  assert.equal((await one.closed).code, 1_001)
  assert.deepEqual(one.messages, Array.from({ length: 50 }, (_, i) => `${i} ${'x'.repeat(i * 100)}`))
  assert.equal(report.outcome, 'clean')
})

test('an application that goes on sending: its clients see whole messages without a gap, then 1001, and its callbacks are called', async () => {
  const { duck, url, accepted } = await scene({ quietMs: 20 })
  const clients = await Promise.all(Array.from({ length: 20 }, () => dial(url)))
  let [sent, called] = [0, 0]
  const timer = setInterval(() => {
    sent++
    for (const socket of accepted) if (socket.readyState === socket.OPEN) socket.send(String(sent).padEnd(sent * 10, '.'), () => called++)
  }, 1)
  const report = await duck.drain()
  clearInterval(timer)
  for (const { messages, closed } of clients) {
    assert.equal((await closed).code, 1_001)
    assert.deepEqual(messages, messages.map((_, i) => String(i + 1).padEnd((i + 1) * 10, '.')))
  }
  assert.equal(report.outcome, 'clean')
  assert.ok(called >= sent, `${called} callbacks for ${sent} rounds`)
})

test('a client that closes as the drain begins is closed with its own code', async () => {
  const { duck, url } = await scene()
  const one = await dial(url)
  const drained = duck.drain()
  one.client.close(4_001)
  const { code } = await one.closed
  assert.ok(code === 4_001 || code === 1_001, `code ${code}`)
  assert.equal((await drained).outcome, 'clean')
})

test('a thousand clients are told over the interval, none before its share of it', async () => {
  const spreadMs = 1_000
  const { duck, url, server } = await scene({ spreadMs })
  server.on('connection', socket => socket.setMaxListeners(20))
  const clients: Seen[] = []
  while (clients.length < 1_000) clients.push(...await Promise.all(Array.from({ length: 50 }, () => dial(url, { perMessageDeflate: false }))))
  const began = performance.now()
  const report = await duck.drain()
  const ends = await Promise.all(clients.map(({ closed }) => closed))
  assert.deepEqual([...new Set(ends.map(({ code }) => code))], [1_001])
  assert.equal(report.outcome, 'clean')
  // A busy machine is late, and then tells many at once; but it never tells too many too early.
  const times = ends.map(({ at }) => at - began).sort((a, b) => a - b)
  for (const share of [0.25, 0.5, 0.75, 1]) {
    const early = times.filter(at => at < share * spreadMs).length
    assert.ok(early <= share * 1_000 + 5, `${early} before ${share * spreadMs} ms`)
  }
})

test('a few clients need no long interval: ten are told within a tenth of a second or so', async () => {
  const { duck, url } = await scene({ spreadMs: 60_000, deadlineMs: 120_000 })
  const clients = await Promise.all(Array.from({ length: 10 }, () => dial(url)))
  const report = await duck.drain()
  await Promise.all(clients.map(({ closed }) => closed))
  assert.ok(report.durationMs < 20_000, `${report.durationMs} ms`)
})

test('the interval leaves each client its time before the deadline', async () => {
  const { duck, url } = await scene({ spreadMs: 60_000, deadlineMs: 5_000, upgradedMs: 2_500 })
  const clients = await Promise.all(Array.from({ length: 400 }, () => dial(url)))
  const report = await duck.drain()
  for (const { closed } of clients) assert.equal((await closed).code, 1_001)
  assert.equal(report.outcome, 'clean')
  assert.ok(report.durationMs < 5_000, `${report.durationMs} ms`)
})

test('abort() ends WebSockets at once', async () => {
  const { duck, url } = await scene()
  const clients = await Promise.all(Array.from({ length: 5 }, () => dial(url)))
  void duck.drain()
  const report = await duck.abort()
  assert.equal(report.outcome, 'forced')
  await Promise.all(clients.map(({ closed }) => closed))
  assert.equal(duck.stats().connections.total, 0)
})

/** The names of a socket's own methods. */
const own = (socket: object) => ['write', 'end', 'push'].filter(name => Object.hasOwn(socket, name))

test('unwrap() leaves a WebSocket as it was found, and in use', async () => {
  const { duck, url, accepted, server } = await scene()
  const patched = (socket: Socket) => {
    const { write } = socket
    socket.write = function (this: Socket, ...args: Parameters<Socket['write']>) {
      return write.apply(this, args)
    } as typeof write
  }
  server.prependListener('connection', socket => {
    if (sockets.push(socket) === 2) patched(socket)
  })
  const sockets: Socket[] = []
  const clients = [await dial(url), await dial(url)]
  assert.deepEqual(sockets.map(own), [['write', 'end', 'push'], ['write', 'end', 'push']])
  duck.unwrap()
  assert.deepEqual(sockets.map(own), [[], ['write']])
  for (const [i, socket] of accepted.entries()) {
    socket.send('still here')
    await once(clients[i]!.client, 'message')
    socket.close(1_000)
    assert.equal((await clients[i]!.closed).code, 1_000)
  }
  server.close()
})

test('unwrap() under somebody else\'s patch leaves the socket in use', async () => {
  const { duck, url, accepted, server } = await scene()
  let socket: Socket | undefined
  server.on('connection', one => {
    socket = one
  })
  const one = await dial(url)
  const { write } = socket!
  socket!.write = ((...args: Parameters<Socket['write']>) => write.apply(socket!, args)) as typeof write
  duck.unwrap()
  accepted[0]!.send('still here')
  await once(one.client, 'message')
  one.client.close()
  await one.closed
  server.close()
})

test('nothing is kept of a WebSocket that has ended, nor of its frames', async () => {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const { duck, url, server, accepted, wss } = await scene()
  const refs: WeakRef<Socket>[] = []
  server.on('connection', socket => refs.push(new WeakRef(socket)))
  wss.on('connection', socket => socket.on('message', data => socket.send(data)))
  for (let round = 0; round < 20; round++) {
    const clients = await Promise.all(Array.from({ length: 10 }, () => dial(url)))
    await Promise.all(clients.map(async ({ client, closed }) => {
      for (let i = 0; i < 5; i++) {
        client.send('x'.repeat(i * 1_000))
        await once(client, 'message')
      }
      client.close()
      await closed
    }))
    accepted.length = 0
  }
  await sleep(50)
  gc()
  await turns()
  gc()
  const kept = refs.filter(ref => ref.deref() !== undefined).length
  assert.ok(kept <= 20, `${kept} of ${refs.length} sockets are kept`)
  await duck.drain()
})

/** A conversation of the server's, cut at random: what it writes, with a pause after each piece. */
const talk = fc.record({
  lengths: fc.array(fc.oneof(fc.nat(400), fc.constantFrom(125, 126, 65_535, 65_536)), { minLength: 1, maxLength: 20 }),
  // A large one in each round: a frame that takes longer than upgradedMs is another test's matter.
  pieces: fc.array(fc.integer({ min: 1, max: 40_000 }), { maxLength: 19 }).map(pieces => [...pieces, 40_000]),
  waits: fc.array(fc.nat(12), { minLength: 1, maxLength: 10 }),
  after: fc.nat(60),
})

test('whatever the application writes and whenever the drain comes: whole frames in their order, then 1001', { timeout: 60_000 }, async () => {
  await fc.assert(fc.asyncProperty(fc.array(talk, { minLength: 1, maxLength: 8 }), async talks => {
    const server = createServer(false)
    const duck = wrap(server, { ...OPTIONS, quietMs: 10 })
    let serial = 0
    const socketTimers = new Set<NodeJS.Timeout>()
    server.on('upgrade', simple(socket => {
      const { lengths, pieces, waits } = talks[serial++ % talks.length]!
      const bytes = Buffer.concat(lengths.map((length, i) => frame(BINARY, Buffer.alloc(length, i))))
      const write = (at: number, i: number) => {
        if (at >= bytes.length || socket.destroyed) return
        const end = at + pieces[i % pieces.length]!
        socket.write(bytes.subarray(at, end))
        const timer = setTimeout(() => write(end, i + 1), waits[i % waits.length])
        socketTimers.add(timer)
      }
      write(0, 0)
    }))
    await listen(server)
    const peers: Peer[] = []
    for (const _ of talks) peers.push(await new Peer(await Client.open(addressOf(server))).open())
    await sleep(talks[0]!.after)
    const report = await duck.drain()
    await Promise.all(peers.map(({ client }) => client.ended()))
    for (const timer of socketTimers) clearTimeout(timer)
    for (const [n, peer] of peers.entries()) {
      const { lengths } = talks[n]!
      assert.equal(peer.code, 1_001)
      assert.equal(peer.frames.at(-1)?.opcode, CLOSE)
      const got = peer.frames.slice(0, -1)
      assert.deepEqual(got.map(({ payload }) => payload.length), lengths.slice(0, got.length))
      assert.ok(got.every(({ payload }, i) => payload.every(byte => byte === i)), 'bytes of another frame')
    }
    assert.equal(report.outcome, 'clean')
  }), { numRuns: 30 })
})
