import assert from 'node:assert/strict'
import { existsSync, unlinkSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { test } from 'node:test'
import { app } from './_app.ts'
import { Client } from './_client.ts'
import { assertLast } from './_scenario.ts'
import { rawWorld, type Site } from './_world.ts'

const skip = process.platform === 'win32' && 'no unix sockets'

const start = (): Promise<Site> => rawWorld(false).start(app, { unix: true })

/** A successor that has the path for itself: what it answers tells it. */
async function succeed(path: string): Promise<http.Server> {
  const server = http.createServer((_req, res) => res.end('successor'))
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(path, resolve))
  return server
}

async function answers(path: string): Promise<string> {
  const client = await Client.open({ path })
  client.request('/')
  const { text } = await client.answer()
  client.destroy()
  return text
}

test('a unix socket: who has connected, and was not accepted yet, is served', { skip }, async () => {
  const site = await start()
  const clients = Array.from({ length: 100 }, () => Client.dial(site.address))
  for (const client of clients) client.request('/')
  const drained = site.drain()
  for (const client of clients) await assertLast(client)
  assert.equal((await drained)?.outcome, 'clean')
  assert.equal(site.executed.length, clients.length)
})

test('a unix socket: who comes right before it closes is told so, and not let in and cut', { skip }, async t => {
  const site = await start()
  const { path = '' } = site.address
  const close = net.Server.prototype.close
  const seen = new Promise<string | undefined>(resolve => t.mock.method(net.Server.prototype, 'close', function (this: net.Server, ...args: []) {
    if (this === site.server) {
      // Node connects to a path at once.
      const client = net.connect(path, () => resolve('connected'))
      client.once('error', (error: NodeJS.ErrnoException) => resolve(error.code))
      client.once('close', () => client.destroy())
    }
    return close.apply(this, args)
  }))
  const drained = site.drain()
  assert.equal(await seen, 'ENOENT')
  assert.equal((await drained)?.outcome, 'clean')
})

for (const when of ['before the drain', 'in the middle of it'] as const) {
  test(`a unix socket: a successor that takes the path ${when} keeps it, and has the clients from then on`, { skip }, async () => {
    const site = await start()
    const { path = '' } = site.address
    let successor: Promise<http.Server> | undefined
    if (when === 'before the drain') {
      unlinkSync(path)
      successor = succeed(path)
      await successor
    } else {
      site.duck!.on('state', state => {
        if (state === 'draining') setImmediate(() => successor = succeed(path))
      })
    }
    try {
      assert.equal((await site.drain())?.outcome, 'clean')
      assert.equal(existsSync(path), true)
      assert.equal(await answers(path), 'successor')
    } finally {
      const server = await successor
      server?.close()
      server?.closeAllConnections()
    }
  })
}

test('a unix socket: its path is gone after the drain, and free for the next', { skip }, async () => {
  const site = await start()
  const { path = '' } = site.address
  await site.drain()
  assert.equal(existsSync(path), false)
  const next = await succeed(path)
  assert.equal(await answers(path), 'successor')
  next.close()
})
