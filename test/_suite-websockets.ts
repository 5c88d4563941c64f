import assert from 'node:assert/strict'
import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Options } from '../src/core/index.ts'
import { reported, scenario, turns, type Scenario, type Stage } from './_scenario.ts'
import { CLOSE, closeFrame, frame, HANDSHAKE, Peer, simple, switching, TEXT } from './_websocket.ts'
import type { World } from './_world.ts'

/** Enough for a peer that answers, on a busy machine too. */
const PATIENT = { upgradedMs: 6_000, lingerMs: 3_000, deadlineMs: 10_000 }

/** How a world is made whose `upgrade` handler is this. */
function by(row: number, handler: (req: IncomingMessage, socket: Duplex) => void, options: Options = PATIENT): Scenario {
  return { row, needs: ['upgrade'], options, prepare: (server: Server) => server.on('upgrade', handler) }
}

async function peer(s: Stage, replies = true): Promise<Peer> {
  return new Peer(await s.open(), replies).open()
}

/** Drained without force, and in far less than a peer without an answer would have got. */
async function endsWell(s: Stage, ...peers: Peer[]): Promise<void> {
  const report = await s.drain()
  for (const { client } of peers) assert.equal(await client.ended(), 'fin')
  reported(report, ({ outcome, destroyed, durationMs }) => {
    assert.equal(outcome, 'clean')
    assert.deepEqual(destroyed, [])
    assert.ok(durationMs < 5_000, `${durationMs} ms`)
  })
}

/** WebSockets as their peers see them, of servers that know nothing of close frames. */
export function webSockets(world: World): void {
  goodbyes(world)
  bytesInFlight(world)
  peers(world)
}

function goodbyes(world: World): void {
  scenario(world, 'WebSocket: an idle one gets 1001, then the server ends TCP', by(25, simple()), async s => {
    const one = await peer(s)
    await endsWell(s, one)
    assert.equal(one.code, 1_001)
    assert.equal(one.frames.length, 1)
  })

  scenario(world, 'WebSocket: 1012, if the options say so', {
    ...by(25, simple()),
    options: { ...PATIENT, websocketCode: 1_012 },
  }, async s => {
    const one = await peer(s)
    await endsWell(s, one)
    assert.equal(one.code, 1_012)
  })

  scenario(world, 'WebSocket: stays in the lame duck, and works on after resume()', {
    ...by(25, simple(socket => socket.on('data', () => socket.write(frame(TEXT, 'pong'))))),
    needs: ['upgrade', 'duck'],
  }, async s => {
    const one = await peer(s)
    const duck = s.site.duck!
    duck.lameduck()
    one.send(TEXT, 'ping')
    await one.client.received(one.client.bytesRead + 6)
    duck.resume()
    one.send(TEXT, 'ping')
    await one.client.received(one.client.bytesRead + 6)
    assert.deepEqual(one.messages, ['pong', 'pong'])
    assert.equal(one.code, undefined)
    await endsWell(s, one)
    assert.equal(one.code, 1_001)
  })

  const late: string[] = []
  scenario(world, 'WebSocket: what the application writes behind our close frame is not sent, and calls back', by(25, simple(socket => {
    socket.on('data', () => {
      // The peer's close frame is the only thing that it sends.
      socket.write(frame(TEXT, 'late'), error => late.push(String(error)))
      socket.write('late, too', 'latin1', error => late.push(String(error)))
      socket.end(frame(TEXT, 'last'), () => late.push('end'))
    })
  })), async s => {
    const one = await peer(s)
    await endsWell(s, one)
    assert.deepEqual(one.frames.map(({ opcode }) => opcode), [CLOSE])
    assert.deepEqual(late.map(error => error.replace('undefined', 'null')), ['null', 'null', 'end'])
  })

  scenario(world, 'WebSocket: the application has said goodbye already: no second one', by(25, simple(socket => {
    socket.write(closeFrame(4_000))
  })), async s => {
    const one = await peer(s)
    await endsWell(s, one)
    assert.equal(one.code, 4_000)
    assert.equal(one.frames.length, 1)
  })

  scenario(world, 'WebSocket: the application answers the close frame itself and ends the socket: one goodbye', by(25, simple(socket => {
    socket.on('data', () => socket.end(closeFrame(1_000)))
  })), async s => {
    const one = await peer(s)
    await endsWell(s, one)
    assert.deepEqual(one.frames.map(({ opcode }) => opcode), [CLOSE])
    assert.equal(one.code, 1_001)
  })
}

function bytesInFlight(world: World): void {
  scenario(world, 'WebSocket: all that was sent before arrives whole, then 1001', by(25, simple(socket => {
    for (const length of [0, 125, 126, 65_535, 65_536, 3_000_000]) socket.write(frame(TEXT, 'x'.repeat(length)))
  })), async s => {
    const one = await peer(s)
    one.client.pause()
    const drained = s.drain()
    await sleep(80)
    one.client.resume()
    await drained
    await endsWell(s, one)
    assert.deepEqual(one.messages.map(({ length }) => length), [0, 125, 126, 65_535, 65_536, 3_000_000])
    assert.equal(one.frames.at(-1)?.opcode, CLOSE)
    assert.equal(one.code, 1_001)
  })

  scenario(world, 'WebSocket: a message that crosses the start of the drain is answered, then 1001', {
    ...by(25, simple(socket => socket.on('data', chunk => {
      if ((chunk[0] & 0x0f) === TEXT) socket.write(frame(TEXT, 'answer'))
    }))),
    options: { ...PATIENT, quietMs: 200 },
  }, async s => {
    const one = await peer(s)
    one.send(TEXT, 'question')
    await endsWell(s, one)
    assert.deepEqual(one.messages, ['answer'])
    assert.equal(one.code, 1_001)
  })

  scenario(world, 'WebSocket: never inside a frame, however the application cuts it', by(25, simple(socket => {
    const bytes = frame(TEXT, 'whole'.repeat(100))
    socket.write(bytes.subarray(0, 3))
    setTimeout(() => socket.write(bytes.subarray(3, 100)), 60)
    setTimeout(() => socket.write(bytes.subarray(100)), 120)
  })), async s => {
    const one = await peer(s)
    await endsWell(s, one)
    assert.deepEqual(one.messages, ['whole'.repeat(100)])
    assert.equal(one.code, 1_001)
  })

  scenario(world, 'WebSocket: a message in fragments is waited for', by(25, simple(socket => {
    socket.write(frame(TEXT, 'one ', { fin: false }))
    setTimeout(() => socket.write(frame(0, 'two', { fin: true })), 80)
  })), async s => {
    const one = await peer(s)
    await endsWell(s, one)
    assert.equal(one.messages.join(''), 'one two')
    assert.equal(one.code, 1_001)
  })

  scenario(world, 'WebSocket: one that never ends does not keep the close frame away, which goes between two fragments', by(25, simple(socket => {
    socket.write(frame(TEXT, 'one ', { fin: false }))
  })), async s => {
    const one = await peer(s)
    await endsWell(s, one)
    assert.deepEqual(one.frames.map(({ opcode }) => opcode), [TEXT, CLOSE])
  })

  scenario(world, 'WebSocket: an application that writes all the time is interrupted between two frames', by(25, simple(socket => {
    const bytes = Buffer.concat(Array.from({ length: 7 }, (_, i) => frame(TEXT, String(i).repeat(40))))
    // Frames of 42 bytes, and each write ends in the middle of one.
    let at = 20
    socket.write(bytes.subarray(0, at))
    const timer = setInterval(() => {
      socket.write(Buffer.concat([bytes, bytes]).subarray(at, at + 42))
      at = (at + 42) % bytes.length
    }, 2)
    socket.on('close', () => clearInterval(timer))
  })), async s => {
    const one = await peer(s)
    await endsWell(s, one)
    assert.ok(one.messages.length > 5)
    assert.deepEqual(one.messages.filter((text, i) => text !== String(i % 7).repeat(40)), [])
    assert.equal(one.frames.at(-1)?.opcode, CLOSE)
    assert.equal(one.code, 1_001)
  })

  scenario(world, 'WebSocket: frames that the application writes as strings are followed, too', by(25, simple(socket => {
    const text = 'ä€𝄞'.repeat(30)
    const bytes = frame(TEXT, text)
    const head = bytes.subarray(0, bytes.length - Buffer.byteLength(text))
    socket.write(frame(TEXT, 'latin').toString('latin1'), 'latin1')
    socket.write(head.toString('hex'), 'hex')
    socket.write(text)
    socket.write(frame(TEXT, Buffer.alloc(200, 'x')).toString('binary'), 'binary')
  })), async s => {
    const one = await peer(s)
    await endsWell(s, one)
    assert.deepEqual(one.messages, ['latin', 'ä€𝄞'.repeat(30), 'x'.repeat(200)])
    assert.equal(one.code, 1_001)
  })
}

function peers(world: World): void {
  // Enough for the peer that answers to be let go first on a machine that stands still for a while.
  const impatient = { upgradedMs: 1_000 }

  const refusesToEnd = (name: string, act: (one: Peer) => void) => {
    scenario(world, `WebSocket: a peer that ${name} is destroyed at its limit, and named`, by(26, simple(), impatient), async s => {
      const one = await peer(s, false)
      const other = await peer(s)
      act(one)
      const report = await s.drain()
      await one.client.ended()
      assert.equal(one.code, 1_001)
      assert.equal(other.code, 1_001)
      reported(report, ({ destroyed, durationMs }) => {
        assert.deepEqual(destroyed.map(({ why, state }) => [why, state]), [['upgraded', 'upgraded']])
        assert.ok(durationMs < 10_000, `${durationMs} ms`)
      })
    })
  }

  const every = (one: Peer, ms: number, act: () => void) => {
    const timer = setInterval(act, ms)
    one.client.socket.once('close', () => clearInterval(timer))
  }

  refusesToEnd('never answers the close frame', () => {})
  refusesToEnd('trickles', one => {
    one.client.write(frame(TEXT, 'a'.repeat(1_000), { mask: true }).subarray(0, 8))
    every(one, 5, () => one.client.write('x'))
  })
  refusesToEnd('floods', one => every(one, 1, () => one.send(TEXT, 'y'.repeat(20_000))))

  scenario(world, 'WebSocket: a peer that closes TCP in place of an answer is let go', by(26, simple()), async s => {
    const one = await peer(s, false)
    const drained = s.drain()
    while (one.code === undefined) await turns()
    one.client.halfClose()
    await drained
    await endsWell(s, one)
  })

  scenario(world, 'WebSocket: a close frame in the segment of the handshake counts', by(25, simple()), async s => {
    const one = await new Peer(await s.open(), false).open('/', closeFrame(1_000, true))
    await endsWell(s, one)
    assert.equal(one.code, 1_001)
  })

  scenario(world, 'WebSocket: a handshake that the application answers in the drain gets its 101, then 1001', by(25, (req, socket) => {
    setTimeout(() => socket.write(switching(req)), 100)
  }), async s => {
    const client = await s.open()
    const one = new Peer(client)
    const opened = one.open()
    await turns()
    const drained = s.drain()
    await opened
    await drained
    await endsWell(s, one)
    assert.equal(one.code, 1_001)
  })

  scenario(world, 'WebSocket: after a handshake that the application refused there is no close frame', by(23, (_req, socket) => {
    socket.write('HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno')
  }, { upgradedMs: 100 }), async s => {
    const client = await s.open()
    client.request('/', { headers: HANDSHAKE })
    assert.equal((await client.answer()).status, 401)
    const read = client.bytesRead
    reported(await s.drain(), ({ destroyed }) => assert.deepEqual(destroyed.map(({ why }) => why), ['upgraded']))
    await client.ended()
    assert.equal(client.bytesRead, read)
  })
}
