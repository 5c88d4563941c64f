import assert from 'node:assert/strict'
import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { assertCloses, assertLast, reported, scenario, turns, type Stage } from './_scenario.ts'
import { Stopwatch } from './_stopwatch.ts'
import type { Site, World } from './_world.ts'

/** A server that answers CONNECT and `Upgrade: echo` with a tunnel to itself. `obedient` ends them on the drain signal. */
function echoes(seen: string[], obedient = false) {
  return (server: Server, site: () => Site) => {
    const open = (req: IncomingMessage, socket: Duplex, status: string) => {
      seen.push(req.method ?? '')
      socket.on('error', () => {})
      socket.write(`HTTP/1.1 ${status}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`)
      socket.on('data', chunk => socket.write(chunk))
      socket.on('end', () => socket.end())
      if (obedient) site().duck?.signal.addEventListener('abort', () => socket.end('bye'), { once: true })
    }
    server.on('connect', (req, socket) => open(req, socket, '200 OK'))
    server.on('upgrade', (req, socket) => open(req, socket, '101 Switching Protocols'))
  }
}

/** Writes more than the kernel takes. */
function flood(socket: Duplex, status: string): void {
  socket.on('error', () => {})
  socket.write(`HTTP/1.1 ${status}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`)
  socket.write(Buffer.alloc(20 * 1024 * 1024))
}

const UPGRADE = { Connection: 'Upgrade', Upgrade: 'echo' }

async function tunnel(s: Stage, kind: 'CONNECT' | 'upgrade') {
  const client = await s.open()
  if (kind === 'CONNECT') client.request('example.test:443', { method: 'CONNECT' })
  else client.request('/', { headers: UPGRADE })
  const answer = await client.answer()
  assert.equal(answer.status, kind === 'CONNECT' ? 200 : 101)
  return client
}

/** Sockets that left HTTP/1. */
export function tunnels(world: World): void {
  for (const kind of ['CONNECT', 'upgrade'] as const) {
    scenario(world, `${kind}: the tunnel works on until upgradedMs, then it is destroyed and named`, {
      row: 23,
      prepare: echoes([]),
      options: { upgradedMs: 1_000 },
    }, async s => {
      const client = await tunnel(s, kind)
      const watch = new Stopwatch()
      const drained = s.drain()
      await turns()
      const before = client.tunnelled.length
      client.write('still there?')
      await client.received(client.bytesRead + 12)
      assert.equal(client.tunnelled.slice(before), 'still there?')
      const report = await drained
      watch.assertOver(950)
      watch.assertUnder(3_500)
      await client.ended()
      reported(report, ({ destroyed }) => {
        assert.deepEqual(destroyed.map(({ why, state }) => [why, state]), [['upgraded', 'upgraded']])
      })
    })

    scenario(world, `${kind}: an owner that is told by the drain signal ends the tunnel itself`, {
      row: 23,
      needs: ['signal'],
      prepare: echoes([], true),
      options: { upgradedMs: 4_000 },
    }, async s => {
      const client = await tunnel(s, kind)
      const watch = new Stopwatch()
      const report = await s.drain()
      watch.assertUnder(3_000)
      assert.equal(await client.ended(), 'fin')
      assert.equal(client.tunnelled, 'bye')
      reported(report, ({ outcome, destroyed }) => {
        assert.equal(outcome, 'clean')
        assert.deepEqual(destroyed, [])
      })
    })

    scenario(world, `${kind}: a tunnel with unsent bytes that is destroyed is no clean end`, {
      row: 23,
      prepare: server => {
        server.on('connect', (_req, socket) => flood(socket, '200 OK'))
        server.on('upgrade', (_req, socket) => flood(socket, '101 Switching Protocols'))
      },
      options: { upgradedMs: 100 },
    }, async s => {
      const client = await s.open()
      client.request(kind === 'CONNECT' ? 'a:1' : '/', kind === 'CONNECT' ? { method: 'CONNECT' } : { headers: UPGRADE })
      await client.answer()
      client.pause()
      await turns()
      reported(await s.drain(), ({ outcome, forcedBy, destroyed }) => {
        assert.equal(outcome, 'forced')
        assert.equal(forcedBy, 'data')
        assert.ok((destroyed[0]?.unsentBytes ?? 0) > 0)
      })
    })

    const seen: string[] = []
    scenario(world, `${kind}: asked for in the drain gets 503 with close, and its listener is not called`, {
      row: 24,
      prepare: echoes(seen),
      options: { quietMs: 3_000 },
    }, async s => {
      const client = await s.warm()
      const drained = s.drain()
      await turns()
      if (kind === 'CONNECT') client.request('example.test:443', { method: 'CONNECT' })
      else client.request('/', { headers: UPGRADE })
      await assertLast(client, 503)
      assert.deepEqual(seen, [])
      reported(await drained, report => {
        assert.equal(report.rejected, 1)
        assert.equal(report.outcome, 'clean')
      })
    })
  }

  scenario(world, 'without an upgrade listener, a request that offers an upgrade is an ordinary one, in the drain too', {
    row: 24,
    options: { quietMs: 3_000 },
  }, async s => {
    const client = await s.open()
    client.request('/', { headers: { Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AAMAAABkAAQAAP__' } })
    assert.equal((await client.answer()).status, 200)
    void s.drain()
    client.request('/', { headers: { Connection: 'Upgrade', Upgrade: 'h2c' } })
    const answer = await client.answer()
    assert.equal(answer.status, 200)
    assertCloses(answer)
  })

  scenario(world, 'without a connect listener, a CONNECT in the drain just ends its connection', {
    options: { quietMs: 3_000 },
  }, async s => {
    const client = await s.warm()
    const drained = s.drain()
    client.request('example.test:443', { method: 'CONNECT' })
    await client.ended(1_500)
    reported(await drained, report => assert.equal(report.outcome, 'clean'))
  })
}
