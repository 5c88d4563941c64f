import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { constants, deflateRaw } from 'node:zlib'
import { wrap } from '../src/core/index.ts'
import { endLeftovers } from './_leftovers.ts'
import { frame, switching, TEXT } from './_websocket.ts'
import { addressOf, createServer, listen } from './_world.ts'
import { dial, OPTIONS, scene } from './_ws.ts'

// What an application has sent, and a library still has in hand as the drain begins.

after(endLeftovers)

test('permessage-deflate: large messages that are compressed in the background arrive before 1001', async () => {
  // Half of `upgradedMs` is the patience with what is compressed, which takes a machine that does other things, too, more than its 2.5 s.
  const { duck, url, accepted } = await scene({ quietMs: 10, upgradedMs: 60_000, deadlineMs: 120_000 }, { perMessageDeflate: true })
  const clients = await Promise.all([1, 2, 3].map(() => dial(url, { perMessageDeflate: true })))
  const text = randomBytes(500_000).toString('hex')
  for (const socket of accepted) for (let i = 0; i < 3; i++) socket.send(text)
  await duck.drain()
  for (const { messages, closed } of clients) {
    assert.equal((await closed).code, 1_001)
    assert.deepEqual(messages.map(message => message.length), [1_000_000, 1_000_000, 1_000_000])
  }
})

for (const autoPong of [true, false]) {
  test(`permessage-deflate, each message sent when the one before it is out${autoPong ? '' : ', and nobody answers a ping'}: all arrive before 1001`, async () => {
    // Who answers no ping is waited for, for half of `upgradedMs`.
    const { duck, url, accepted } = await scene({ quietMs: 50, upgradedMs: 10_000, deadlineMs: 60_000 }, { perMessageDeflate: { threshold: 0 }, autoPong })
    const one = await dial(url, { perMessageDeflate: true })
    const text = randomBytes(150_000).toString('hex')
    let sent = 0
    const next = () => {
      if (sent < 10) accepted[0]!.send(`${sent++} ${text}`, next)
    }
    next()
    const report = await duck.drain()
    assert.equal((await one.closed).code, 1_001)
    assert.deepEqual(one.messages.map(message => String(message).split(' ')[0]), Array.from({ length: 10 }, (_, n) => String(n)))
    assert.deepEqual(report.destroyed, [])
  })
}

test('permessage-deflate by hand: what an upgrade handler is still compressing arrives before 1001', async () => {
  const server = createServer(false)
  const duck = wrap(server, { ...OPTIONS, upgradedMs: 6_000, deadlineMs: 60_000 })
  server.on('upgrade', (req, socket) => {
    socket.on('error', () => {})
    socket.resume()
    socket.write(switching(req).replace(/\r\n$/, 'Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n'))
    for (let n = 0; n < 5; n++) {
      setTimeout(() => deflateRaw(`message ${n}`, { finishFlush: constants.Z_SYNC_FLUSH }, (_error, bytes) => {
        // RSV1, and without the end that is always the same (RFC 7692 §7.2.1).
        const compressed = frame(TEXT, bytes.subarray(0, -4))
        compressed[0]! |= 0x40
        socket.write(compressed)
      }), n * 300)
    }
  })
  await listen(server)
  const one = await dial(`ws://localhost:${addressOf(server).port}`, { perMessageDeflate: true })
  const report = await duck.drain()
  assert.equal((await one.closed).code, 1_001)
  assert.deepEqual(one.messages, Array.from({ length: 5 }, (_, n) => `message ${n}`))
  assert.equal(report.outcome, 'clean')
})

test('a client that is slow to read: what the application sends when the last message is out comes before 1001', async () => {
  const { duck, url, accepted } = await scene({ quietMs: 200, upgradedMs: 20_000, deadlineMs: 60_000 }, { perMessageDeflate: false })
  const one = await dial(url)
  const big = randomBytes(30_000_000)
  one.client.pause()
  accepted[0]!.send(big, () => accepted[0]!.send('and this'))
  const drained = duck.drain()
  await sleep(1_000)
  one.client.resume()
  await drained
  assert.equal((await one.closed).code, 1_001)
  assert.deepEqual(one.messages.map(String).slice(1), ['and this'])
})
