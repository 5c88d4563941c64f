import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { release } from './_app.ts'
import { Client } from './_client.ts'
import { assertCloses, assertKeeps, assertLast, quiet, reported, scenario, turns } from './_scenario.ts'
import { Stopwatch } from './_stopwatch.ts'
import type { World } from './_world.ts'

/** Requests that meet the drain: before it, with it, in it, and after the connection's end. */
export function requests(world: World): void {
  scenario(world, 'a request written as the drain starts is answered, and the answer says close', { row: 1, options: { lingerMs: 3_000 } }, async s => {
    const client = await s.warm()
    client.request('/')
    const drained = s.drain()
    await assertLast(client)
    reported(await drained, report => {
      assert.equal(report.outcome, 'clean')
      assert.equal(report.served, 1)
      assert.deepEqual(report.destroyed, [])
    })
  })

  scenario(world, 'a request written just after the drain started is answered', { row: 1 }, async s => {
    const client = await s.warm()
    void s.drain()
    client.request('/')
    await assertLast(client)
  })

  scenario(world, 'a connection that was active a moment ago is still served', { row: 1, options: { quietMs: 3_000 } }, async s => {
    const client = await s.warm()
    void s.drain()
    await sleep(50)
    client.request('/')
    await assertLast(client)
  })

  scenario(world, 'bytes that wait in the kernel are answered, however long their connections were quiet', { row: 2 }, async s => {
    const clients = await Promise.all(Array.from({ length: 40 }, () => s.warm()))
    await quiet()
    for (const client of clients) client.request('/')
    void s.drain()
    await Promise.all(clients.map(client => assertLast(client)))
  })

  scenario(world, 'a first request that waits in the kernel is answered', { row: 2 }, async s => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => s.open()))
    await quiet()
    for (const client of clients) client.request('/')
    void s.drain()
    await Promise.all(clients.map(client => assertLast(client)))
  })

  scenario(world, 'a request in flight is answered with close, and the connection ends after it', { row: 13 }, async s => {
    const client = await s.warm()
    const held = client.request('/gate')
    await s.executing()
    const drained = s.drain()
    await quiet()
    release(held)
    const answer = await assertLast(client)
    assert.equal(answer.text, 'gate')
    reported(await drained, report => assert.equal(report.outcome, 'clean'))
  })

  for (const query of ['', '?length']) {
    const what = query ? 'with a length' : 'chunked'
    scenario(world, `a response (${what}) whose head is out is delivered whole, then the connection ends`, { row: 14 }, async s => {
      const client = await s.warm()
      const before = client.bytesRead
      client.request(`/raw${query}`)
      await client.received(before + 60)
      void s.drain()
      const answer = await client.answer()
      assert.equal(answer.text, 'first-last')
      assertKeeps(answer)
      assert.equal(await client.ended(1_000), 'fin', 'ends long before the keep-alive timeout')
    })
  }

  scenario(world, 'a request after an answer that said close is not executed', { row: 15, options: { lingerMs: 3_000 } }, async s => {
    const client = await s.open({ polite: false })
    client.request('/slow')
    await s.executing()
    const drained = s.drain()
    assertCloses(await client.answer())
    client.request('/', { id: `late-${world.name}` })
    assert.equal(await client.ended(), 'fin')
    client.request('/', { id: `later-${world.name}` })
    await turns()
    client.halfClose()
    reported(await drained, report => assert.ok(report.refused >= 1, `refused: ${report.refused}`))
    assert.equal(s.site.executed.length, 1)
    assert.equal(client.answers.length, 1)
  })

  scenario(world, 'a request after the FIN of an idle connection is not executed', { row: 17, options: { lingerMs: 3_000 } }, async s => {
    const client = await s.warm({ polite: false })
    await quiet()
    const drained = s.drain()
    assert.equal(await client.ended(1_000), 'fin')
    client.request('/', { method: 'POST', body: 'ghost?' })
    await turns()
    client.halfClose()
    reported(await drained, report => {
      assert.equal(report.refused, 1)
      assert.equal(report.outcome, 'clean')
    })
    assert.equal(s.site.executed.length, 1)
  })

  scenario(world, 'a request that reaches a connection whose FIN is only queued is not executed', { row: 17 }, async s => {
    const clients = await Promise.all(Array.from({ length: 40 }, () => s.warm({ polite: false })))
    await quiet()
    const drained = s.drain()
    // Each client writes the moment it can after the first FIN was seen anywhere: between FINs, and around them.
    await Promise.race(clients.map(client => client.ended()))
    for (const client of clients) client.request('/', { method: 'POST', body: 'x' })
    await Promise.all(clients.map(client => client.ended()))
    await turns()
    for (const client of clients) client.halfClose()
    await drained
  })

  scenario(world, 'a new connection is refused once the listener is closed', {}, async s => {
    const client = await s.warm()
    const held = client.request('/gate')
    await s.executing()
    void s.drain()
    await s.deaf()
    await assert.rejects(Client.open(s.site.address), { code: /ECONNREFUSED|ENOENT/ })
    release(held)
    await assertLast(client)
  })

  scenario(world, 'a client that goes away in the middle does not hold the drain', {}, async s => {
    const client = await s.warm()
    s.forgive(client.request('/hang'))
    const other = await s.warm()
    s.forgive(other.request('/hang'))
    await s.executing()
    const watch = new Stopwatch()
    const drained = s.drain()
    await turns()
    client.destroy()
    other.reset()
    reported(await drained, report => {
      assert.equal(report.outcome, 'clean')
      assert.equal(report.served, 0, 'an aborted request was not served')
      assert.equal(report.closed, 2)
    })
    watch.assertUnder(2_000)
  })

  scenario(world, 'a handler that throws in the drain gives 500 and touches nobody else', { row: 39, needs: ['catch'] }, async s => {
    const [thrower, other] = [await s.warm(), await s.warm()]
    const held = other.request('/gate')
    await s.executing()
    const drained = s.drain()
    thrower.request('/throw')
    await assertLast(thrower, 500)
    release(held)
    assert.equal((await assertLast(other)).text, 'gate')
    reported(await drained, report => assert.equal(report.outcome, 'clean'))
  })

  scenario(world, 'a malformed request in the drain gets 400 and does not break it', {}, async s => {
    const [broken, other] = [await s.warm(), await s.warm()]
    const held = other.request('/gate')
    await s.executing()
    const drained = s.drain()
    broken.note('malformed')
    broken.write('GET / HTTP/1.1\r\nHost: a\r\nbroken header\r\n\r\n')
    assert.equal((await broken.answer()).status, 400)
    await broken.ended()
    release(held)
    await assertLast(other)
    reported(await drained, report => assert.equal(report.outcome, 'clean'))
  })

  scenario(world, 'a handler that waits for the drain signal is told, and answers', {
    needs: ['signal'],
    app: ({ path, signal }) => {
      if (path !== '/wait' || signal?.aborted) return { body: path === '/wait' ? 'told' : 'hello' }
      return new Promise(resolve => signal?.addEventListener('abort', () => resolve({ body: 'told' }), { once: true }))
    },
  }, async s => {
    const client = await s.warm()
    client.request('/wait')
    await s.executing()
    void s.drain()
    assert.equal((await assertLast(client)).text, 'told')
  })

  scenario(world, 'a handler that never ends is cut at the deadline and named, without its query', {
    row: 38,
    options: { deadlineMs: 800 },
  }, async s => {
    const client = await s.warm()
    s.forgive(client.request('/hang?token=secret', { method: 'POST', body: 'x' }))
    const idle = await s.warm()
    await s.executing()
    const watch = new Stopwatch()
    const report = await s.drain()
    watch.assertOver(600)
    watch.assertUnder(3_000)
    await client.ended()
    assert.equal(await idle.ended(), 'fin')
    reported(report, ({ outcome, forcedBy, destroyed }) => {
      assert.equal(outcome, 'forced')
      assert.equal(forcedBy, 'deadline')
      const busy = destroyed.find(({ state }) => state === 'active')
      assert.equal(busy?.why, 'deadline')
      assert.equal(busy?.method, 'POST')
      assert.equal(busy?.path, '/hang')
      assert.ok(!JSON.stringify(destroyed).includes('secret'))
    })
  })
}
