import assert from 'node:assert/strict'
import { existsSync, rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { release } from './_app.ts'
import { Client } from './_client.ts'
import { heldHandshake } from './_held.ts'
import { assertLast, quiet, reported, scenario, turns } from './_scenario.ts'
import { Stopwatch } from './_stopwatch.ts'
import { addressOf, createServer, type World } from './_world.ts'

/** Connections with nothing in flight, and what they listen on. */
export function connections(world: World): void {
  scenario(world, 'an idle connection is closed at once, by a FIN', { options: { lingerMs: 3_000 } }, async s => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => s.warm()))
    await quiet()
    const watch = new Stopwatch()
    const report = await s.drain()
    watch.assertUnder(1_000)
    for (const client of clients) assert.equal(await client.ended(), 'fin')
    reported(report, ({ outcome, closed, destroyed }) => {
      assert.equal(outcome, 'clean')
      assert.equal(closed, 20)
      assert.deepEqual(destroyed, [])
    })
  })

  scenario(world, 'a connection that becomes idle in the drain is closed once it is quiet', { row: 14 }, async s => {
    // Its head is out before the drain, so the answer cannot say close; the connection must go all the same.
    const client = await s.warm()
    client.request('/raw?ms=80')
    await s.executing()
    void s.drain()
    assert.equal((await client.answer()).text, 'first-last')
    assert.equal(await client.ended(1_000), 'fin')
  })

  scenario(world, 'a connection that never sent a byte is closed within a second', { row: 6 }, async s => {
    const client = await s.open()
    await turns()
    const watch = new Stopwatch()
    const report = await s.drain()
    assert.equal(await client.ended(), 'fin')
    assert.equal(client.bytesRead, 0)
    watch.assertUnder(1_000)
    reported(report, ({ outcome }) => assert.equal(outcome, 'clean'))
  })

  scenario(world, 'a peer that ignores our FIN holds the drain for the linger only', { row: 6 }, async s => {
    const [fresh, idle] = [await s.open({ polite: false }), await s.warm({ polite: false })]
    await quiet()
    const watch = new Stopwatch()
    const report = await s.drain()
    watch.assertUnder(1_500)
    assert.equal(await fresh.ended(), 'fin')
    assert.equal(await idle.ended(), 'fin')
    reported(report, ({ outcome, destroyed }) => {
      assert.equal(outcome, 'clean', 'nothing unsent was destroyed')
      assert.deepEqual(destroyed.map(({ why }) => why), ['linger', 'linger'])
    })
  })

  scenario(world, 'a TLS handshake that did not begin is closed at once', { row: 31, tls: true }, async s => {
    const { ca: _, ...plain } = s.site.address
    const client = s.watch(await Client.open(plain))
    await turns()
    const watch = new Stopwatch()
    const report = await s.drain()
    assert.equal(await client.ended(), 'fin')
    watch.assertUnder(1_000)
    reported(report, ({ outcome }) => assert.equal(outcome, 'clean'))
  })

  scenario(world, 'a TLS handshake half done is ended at its limit', { row: 31, tls: true }, async s => {
    const { ca: _, ...plain } = s.site.address
    const client = s.watch(await Client.open(plain))
    // The first bytes of a ClientHello record that announces 512.
    client.write(Buffer.from('160301020001000001fc0303', 'hex'))
    await turns()
    const watch = new Stopwatch()
    const report = await s.drain()
    watch.assertOver(200)
    watch.assertUnder(2_000)
    await client.ended()
    reported(report, ({ destroyed }) => assert.deepEqual(destroyed.map(({ why }) => why), ['handshake']))
  })

  scenario(world, 'a TLS handshake that is finished in the drain is served', { row: 31, tls: true, options: { headMs: 3_000 } }, async s => {
    const { client, release } = await heldHandshake(s.site.address)
    s.watch(client)
    await turns()
    void s.drain()
    await sleep(60)
    const connected = client.connected()
    release()
    await connected
    client.request('/')
    await assertLast(client)
  })

  scenario(world, 'a TLS handshake that did not begin on a unix socket does not hold the drain', {
    row: 31,
    tls: true, unix: true, options: { deadlineMs: 3_000 },
  }, async s => {
    const { ca: _, ...plain } = s.site.address
    const client = s.watch(await Client.open(plain))
    await turns()
    const watch = new Stopwatch()
    reported(await s.drain(), ({ outcome }) => assert.equal(outcome, 'clean'))
    await client.ended()
    watch.assertUnder(2_000)
  })

  scenario(world, 'TLS: each connection counts once', { row: 32, tls: true, needs: ['duck'] }, async s => {
    const clients = await Promise.all(Array.from({ length: 3 }, () => s.warm()))
    clients[0]?.request('/slow')
    await s.executing()
    const stats = s.site.duck?.stats()
    assert.equal(stats?.connections.total, 3)
    assert.equal(stats?.connections.active, 1)
    assert.equal(stats?.connections.idle, 2)
    assert.equal(stats?.counters.accepted, 3)
    await clients[0]?.answer()
  })

  scenario(world, 'a unix socket drains alike, and its path goes with it', { row: 33, unix: true }, async s => {
    const { path = '' } = s.site.address
    const [busy, idle] = [await s.warm(), await s.warm()]
    const id = busy.request('/gate')
    await s.executing()
    await quiet()
    const drained = s.drain()
    release(id)
    assert.equal((await assertLast(busy)).text, 'gate')
    assert.equal(await idle.ended(), 'fin')
    await drained
    assert.equal(existsSync(path), false)
  })

  scenario(world, 'a successor that took over the path of a unix socket keeps it', { row: 33, unix: true }, async s => {
    const { path = '' } = s.site.address
    const busy = await s.warm()
    const id = busy.request('/gate')
    await s.executing()
    // As deploy scripts do it: remove the old path, bind the new server to it, stop the old one.
    rmSync(path)
    const successor = createServer(world.tls, {}, (_req, res) => res.end('successor'))
    await new Promise<void>(resolve => successor.listen(path, resolve))
    try {
      const drained = s.drain()
      await s.deaf()
      release(id)
      await assertLast(busy)
      await drained
      assert.equal(existsSync(path), true)
      const client = await Client.open(addressOf(successor))
      client.request('/')
      assert.equal((await client.answer()).text, 'successor')
      client.destroy()
    } finally {
      successor.closeAllConnections()
      await new Promise(resolve => successor.close(resolve))
      rmSync(path, { force: true })
    }
  })
}
