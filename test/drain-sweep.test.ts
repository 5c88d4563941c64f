import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { describe, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { Lingering } from '../src/core/lingering.ts'
import { Client } from './_client.ts'
import { blockFor } from './_load.ts'
import { quiet } from './_scenario.ts'
import { rawWorld } from './_world.ts'

// Idle connections are closed a few at a time, with a poll in between. When the loop is blocked right there, by a handler,
// what clients write meanwhile must be read before their connections are closed.
describe('a loop that is blocked while idle connections are being closed loses nothing', () => {
  for (let offset = 0; offset < 8; offset++) {
    test(`blocked ${offset} turns after the start of the drain`, async () => {
      const serverSide = new Map<number, Socket>()
      const owed: string[] = []
      const idle: Client[] = []
      const site = await rawWorld(false).start(({ path }) => {
        if (path !== '/block') return { body: 'hello' }
        blockFor(30)
        for (const client of idle) {
          const { localPort = 0 } = client.socket
          // Once our FIN is queued, nothing more is owed.
          const open = client.end === 'open' && serverSide.get(localPort)?.writableEnded === false
          const id = client.request('/')
          if (open) owed.push(id)
        }
        return { body: 'blocked' }
      }, { prepare: server => server.on('connection', socket => serverSide.set(socket.remotePort ?? 0, socket)) })
      const blocker = await Client.open(site.address)
      for (let i = 0; i < 40; i++) {
        const client = await Client.open(site.address, { polite: false })
        client.request('/')
        await client.answer()
        idle.push(client)
      }
      await quiet()
      blocker.request('/')
      await blocker.answer()
      const drained = site.drain()
      for (let i = 0; i < offset; i++) await turn()
      blocker.request('/block')
      await Promise.all(idle.map(client => client.ended()))
      for (const client of idle) client.halfClose()
      await drained
      const answered = new Set(idle.flatMap(client => client.answered))
      assert.deepEqual(owed.filter(id => !answered.has(id)), [], `of ${owed.length} written before our FIN, lost`)
      await site.close()
    })
  }
})

test('connections that end while others are being closed are closed, and none of them is called half a head', async () => {
  const sockets: Socket[] = []
  const site = await rawWorld(false).start(() => ({ body: 'hello' }), {
    options: { headMs: 0 },
    prepare: server => server.on('connection', socket => sockets.push(socket)),
  })
  for (let i = 0; i < 200; i++) {
    const client = await Client.open(site.address)
    client.request('/')
    await client.answer()
  }
  await quiet()
  const drained = site.drain()
  while (!sockets.some(socket => socket.writableEnded)) await turn()
  const open = sockets.filter(socket => !socket.writableEnded)
  assert.ok(open.length > 50, `${open.length} open`)
  for (const socket of open) socket.destroy()
  const report = await drained
  assert.deepEqual([report?.outcome, report?.closed, report?.destroyed], ['clean', 200, []])
  await site.close()
})

test('clients that never end their connections are given up a few at a time: the event loop goes on in between', async () => {
  const lingering = new Lingering(50, assert.ifError)
  let sinceTurn = 0
  let most = 0
  let left = 1_000
  for (let i = left; i > 0; i--) {
    lingering.add({
      giveUp() {
        left--
        most = Math.max(most, ++sinceTurn)
      },
    })
  }
  while (left > 0) {
    await turn()
    sinceTurn = 0
  }
  assert.ok(most > 1 && most <= 2 * 64, `${most} between two turns`)
})

/** How often something was done, and the most of it between two turns of the event loop. */
class PerTurn {
  total = 0
  most = 0
  #now = 0
  #watching = true

  constructor() {
    const look = () => {
      this.#now = 0
      if (this.#watching) setImmediate(look)
    }
    look()
  }

  note(): void {
    this.total++
    this.most = Math.max(this.most, ++this.#now)
  }

  stop(): void {
    this.#watching = false
  }
}

/** As many connections, or as many as the environment says; each needs two descriptors of this process. */
const IDLE = Number(process.env.LAMEDUCK_IDLE ?? 2_000)

for (const polite of [true, false]) {
  test(`thousands of idle connections ${polite ? '' : 'whose clients do not go '}are closed a few at a time: the event loop goes on in between`, { timeout: 120_000 }, async () => {
    const [ended, gone] = [new PerTurn(), new PerTurn()]
    const site = await rawWorld(false).start(() => ({ body: 'hello' }), {
      // None of these limits is to be reached, be the machine as busy as it may.
      options: { deadlineMs: 100_000 },
      server: { keepAliveTimeout: 0 },
      prepare: server => server.on('connection', socket => {
        const { end } = socket
        socket.end = ((...args: Parameters<typeof end>) => {
          ended.note()
          return end.apply(socket, args)
        }) as typeof end
        socket.once('close', () => gone.note())
      }),
    })
    const clients: Client[] = []
    while (clients.length < IDLE) {
      const some = await Promise.all(Array.from({ length: 100 }, () => Client.open(site.address, { polite })))
      for (const client of some) client.request('/')
      for (const client of some) await client.answer()
      clients.push(...some)
    }
    await quiet()
    const report = await site.drain()
    for (const client of clients) assert.equal(await client.ended(), 'fin')
    for (const client of clients) client.destroy()
    ended.stop()
    gone.stop()
    assert.equal(report?.outcome, 'clean')
    assert.deepEqual([ended.total, gone.total], [clients.length, clients.length])
    // 16 at a time; two such batches may fall between two of our looks, whose order with theirs is not said.
    assert.ok(ended.most <= 2 * 16, `${ended.most} FINs between two turns`)
    // Those that go by themselves go when they like.
    assert.deepEqual(report.destroyed.map(({ why }) => why), polite ? [] : clients.map(() => 'linger'))
    if (!polite) assert.ok(gone.most <= 2 * 64, `${gone.most} given up between two turns`)
    await site.close()
  })
}
