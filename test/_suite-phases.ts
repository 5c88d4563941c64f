import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { release } from './_app.ts'
import type { Client } from './_client.ts'
import { assertCloses, assertKeeps, assertLast, quiet, scenario, turns } from './_scenario.ts'
import { Stopwatch } from './_stopwatch.ts'
import type { World } from './_world.ts'

async function ask(client: Client, path: string, method = 'GET') {
  client.request(path, { method })
  return client.answer()
}

/** The lame duck, and what probes see in every phase. */
export function phases(world: World): void {
  const lame = { needs: ['duck'] as const, options: { lameduckMs: 300 } }

  scenario(world, 'lame duck: new connections and requests are served, and told to go', {
    needs: ['duck'],
    // It ends early.
    options: { lameduckMs: 4_000 },
  }, async s => {
    const kept = await s.warm()
    const busy = await s.warm()
    busy.request('/slow?ms=60')
    await s.executing()
    void s.drain()
    assert.equal(s.site.duck?.state, 'lameduck')
    assertCloses(await ask(kept, '/'))
    const fresh = await s.open()
    assertCloses(await ask(fresh, '/'))
    await assertLast(busy)
    assert.equal(await fresh.ended(), 'fin')
  })

  scenario(world, 'lame duck: idle connections, silent ones and half a head stay open', lame, async s => {
    const all = [await s.warm(), await s.open(), await s.open()]
    const half = all[2]!.half('/', { cut: 'head' })
    await quiet()
    const drained = s.drain()
    await sleep(150)
    assert.deepEqual(all.map(client => client.end), ['open', 'open', 'open'])
    half.rest()
    assertCloses(await all[2]!.answer())
    const report = await drained
    assert.ok((report?.durationMs ?? 0) >= 290, `lasted ${report?.durationMs} ms`)
  })

  scenario(world, 'lame duck: ends early when no connection is left', {
    needs: ['duck'],
    options: { lameduckMs: 4_000 },
  }, async s => {
    const client = await s.warm()
    const watch = new Stopwatch()
    const drained = s.drain()
    await sleep(50)
    assertCloses(await ask(client, '/'))
    await drained
    watch.assertUnder(2_000)
  })

  scenario(world, 'lame duck and back: keep-alive again, and a later drain is complete', { needs: ['duck'] }, async s => {
    const duck = s.site.duck!
    const client = await s.warm()
    duck.lameduck()
    assert.equal(duck.state, 'lameduck')
    assert.equal((await ask(await s.open(), '/readyz')).status, 503)
    duck.resume()
    assert.equal(duck.state, 'running')
    assertKeeps(await ask(client, '/'))
    assert.equal((await ask(client, '/readyz')).status, 200)
    assertKeeps(await ask(client, '/'))
    const held = client.request('/gate')
    await turns()
    void s.drain()
    await turns()
    release(held)
    await assertLast(client)
  })

  scenario(world, 'lame duck and back while a request is in flight: its connection is kept', { needs: ['duck'] }, async s => {
    const client = await s.warm()
    const held = client.request('/gate')
    await s.executing()
    s.site.duck!.lameduck()
    s.site.duck!.resume()
    release(held)
    assertKeeps(await client.answer())
    assertKeeps(await ask(client, '/'))
  })

  scenario(world, 'abort in the drain ends everything at once', { needs: ['duck'] }, async s => {
    const client = await s.warm()
    s.forgive(client.request('/hang'))
    await s.executing()
    const drained = s.drain()
    await turns()
    const watch = new Stopwatch()
    const report = await s.site.duck!.abort('enough')
    assert.equal(await drained, report)
    watch.assertUnder(500)
    assert.equal(report.outcome, 'forced')
    assert.equal(report.forcedBy, 'abort')
    assert.equal(report.destroyed[0]?.why, 'abort')
    await client.ended()
    assert.equal(s.site.duck!.state, 'aborted')
  })

  scenario(world, 'probes are answered before the application, and per phase', {
    row: 45,
    needs: ['duck', 'health'],
    options: { lameduckMs: 150, quietMs: 3_000 },
  }, async s => {
    const [live, ready] = [await s.open(), await s.open()]
    for (const method of ['GET', 'HEAD']) {
      for (const path of ['/livez', '/readyz', '/livez?x=1', '/readyz?verbose']) {
        const answer = await ask(live, path, method)
        assert.equal(answer.status, 200, `${method} ${path}`)
        assert.match(answer.header('content-type') ?? '', /^application\/json/)
        assert.equal(answer.body.length > 0, method === 'GET')
        if (method === 'GET') assert.doesNotThrow(() => JSON.parse(answer.text))
        assertKeeps(answer)
      }
    }
    const [keep, live2, ready2] = [await s.warm(), await s.warm(), await s.warm()]
    void s.drain()
    assert.equal(s.site.duck!.state, 'lameduck')
    const notReady = await ask(ready, '/readyz')
    assert.equal(notReady.status, 503)
    assertCloses(notReady)
    assert.equal((await ask(live, '/livez')).status, 200)
    const held = keep.request('/gate')
    while (s.site.duck!.state === 'lameduck') await turns(1)
    assert.equal(s.site.duck!.state, 'draining')
    const unready = await ask(ready2, '/readyz')
    assert.equal(unready.status, 503)
    assertCloses(unready)
    assert.equal((await ask(live2, '/livez')).status, 200)
    release(held)
    await assertLast(keep)
    assert.equal(s.site.executed.length, 4, 'no probe reached the application')
  })
}
