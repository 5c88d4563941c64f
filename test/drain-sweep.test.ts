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
