import assert from 'node:assert/strict'
import http from 'node:http'
import net, { type AddressInfo, type Socket } from 'node:net'
import { once } from 'node:events'
import { test } from 'node:test'
import { wrap } from '../src/core/index.ts'

// What others patched may throw in the middle of a drain.

const quick = { signals: false, lameduckMs: 0, quietMs: 10, lingerMs: 50, deadlineMs: 1_000 } as const

async function listen(server: http.Server): Promise<number> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return (server.address() as AddressInfo).port
}

test('a close() of somebody else that throws: the drain ends, forced, and says why', async () => {
  const server = http.createServer()
  const duck = wrap(server, quick)
  const faults: string[] = []
  duck.on('fault', ({ where, error }) => faults.push(`${where}: ${(error as Error).message}`))
  await listen(server)
  const { close } = server
  server.close = () => {
    throw new Error('patched')
  }
  const report = await duck.drain()
  assert.equal(report.outcome, 'forced')
  assert.equal(duck.state, 'aborted')
  assert.deepEqual(faults, ['the drain: patched'])
  close.call(server)
})

test('a socket whose end() throws is destroyed after the linger, and the others are closed', async () => {
  const server = http.createServer()
  const sockets: Socket[] = []
  server.on('connection', socket => sockets.push(socket))
  const duck = wrap(server, quick)
  const faults: string[] = []
  duck.on('fault', ({ where }) => faults.push(where))
  const port = await listen(server)
  const clients = await Promise.all([1, 2, 3].map(async () => {
    const client = net.connect(port, '127.0.0.1')
    await once(client, 'connect')
    return client.resume()
  }))
  while (sockets.length < 3) await once(server, 'connection')
  sockets[0]!.end = () => {
    throw new Error('patched')
  }
  const ends = clients.map(client => once(client, 'close'))
  const report = await duck.drain()
  await Promise.all(ends)
  assert.equal(report.closed, 2)
  assert.deepEqual(report.destroyed.map(({ why }) => why), ['linger'])
  assert.deepEqual(faults, ['closing a connection'])
})
