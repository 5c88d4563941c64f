import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { BIG } from './_app.ts'
import type { Client } from './_client.ts'
import { startLoad } from './_load.ts'
import { assertCloses, reported, scenario, turns, type Scenario } from './_scenario.ts'
import { Stopwatch } from './_stopwatch.ts'
import type { World } from './_world.ts'

const MEGABYTE = Buffer.alloc(1024 * 1024, 'upload')

/** Reads a megabyte or so, waits, and so on: a reader that is slower than the server. */
async function readSlowly(client: Client): Promise<void> {
  while (client.end === 'open') {
    client.resume()
    await client.received(client.bytesRead + 1024 * 1024)
    client.pause()
    await sleep(5)
  }
}

/** Bodies that take their time, in either direction. */
export function bodies(world: World): void {
  for (const path of ['/big', '/raw/big']) {
    scenario(world, `20 MB to a slow reader, end() called before the drain, arrive whole: ${path}`, { row: 11, options: { deadlineMs: 15_000 } }, async s => {
      const client = await s.warm()
      client.pause()
      client.request(path)
      await s.executing()
      const drained = s.drain()
      await sleep(100)
      const [answer] = await Promise.all([client.answer(), readSlowly(client)])
      assert.equal(answer.body.length, BIG)
      assert.equal(client.end, 'fin')
      reported(await drained, report => assert.equal(report.outcome, 'clean'))
    })
  }

  scenario(world, '20 MB asked for as the drain begins arrive whole', { row: 11, options: { deadlineMs: 15_000 } }, async s => {
    const client = await s.warm()
    client.pause()
    client.request('/big')
    const drained = s.drain()
    await sleep(100)
    const [answer] = await Promise.all([client.answer(), readSlowly(client)])
    assert.equal(answer.body.length, BIG)
    assertCloses(answer)
    assert.equal(client.end, 'fin')
    reported(await drained, report => assert.equal(report.outcome, 'clean'))
  })

  scenario(world, 'a reader that never reads is cut at the deadline, and the report says what was lost', {
    row: 12,
    options: { deadlineMs: 400 },
  }, async s => {
    const client = await s.warm()
    client.pause()
    s.forgive(client.request('/big?secret'))
    await s.executing()
    const watch = new Stopwatch()
    const report = await s.drain()
    watch.assertUnder(1_500)
    reported(report, ({ outcome, forcedBy, destroyed, served }) => {
      assert.equal(outcome, 'forced')
      assert.equal(forcedBy, 'deadline')
      assert.equal(served, 0, 'what was cut was not served')
      assert.equal(destroyed.length, 1)
      assert.equal(destroyed[0]?.path, '/big')
      assert.ok((destroyed[0]?.unsentBytes ?? 0) > 0, `unsent: ${destroyed[0]?.unsentBytes}`)
    })
  })

  scenario(world, 'half a body, completed 200 ms into the drain, is answered', { row: 10 }, async s => {
    const client = await s.warm()
    const { rest } = client.half('/body', { method: 'POST', body: 'x'.repeat(1000), cut: 'body' })
    await turns()
    const drained = s.drain()
    await sleep(200)
    rest()
    const answer = await client.answer()
    assert.equal(answer.text, '1000')
    assertCloses(answer)
    assert.equal(await client.ended(), 'fin')
    reported(await drained, report => assert.equal(report.outcome, 'clean'))
  })

  for (const [what, path, status, how] of [
    ['that the application refuses early', '/early', 413, {}],
    ['refused by admit', '/body', 503, { needs: ['admit'], options: { admit: 'reject' } }],
  ] as [string, string, number, Scenario][]) {
    const many = world.tls ? 10 : 40
    scenario(world, `${many} large uploads ${what}: all ${many} clients read the whole ${status}`, {
      row: 18,
      ...how,
      // 800 MB: the clients are slow to send, and to read.
      options: { ...how.options, quietMs: 10_000, lingerMs: 4_000, deadlineMs: 25_000 },
    }, async s => {
      const load = startLoad({ address: s.site.address, connections: many, mode: 'upload', path, thinkMs: 0 })
      await load.made()
      const drained = s.drain()
      load.go()
      const { statuses, answered } = await load.result
      s.forgive(...answered)
      assert.deepEqual(statuses, Array(many).fill(status))
      const report = await drained
      if (status === 503) {
        assert.equal(report?.rejected, many)
        assert.equal(s.site.executed.length, many)
      }
    })
  }

  scenario(world, 'a large upload answered early before the drain: the answer is read whole, the drain ends', { row: 18 }, async s => {
    const client = await s.warm()
    client.request('/early', { method: 'POST', headers: { 'Content-Length': String(20 * MEGABYTE.length) } })
    for (let i = 0; i < 20; i++) client.write(MEGABYTE)
    const answer = await client.answer()
    assert.equal(answer.status, 413)
    const watch = new Stopwatch()
    const report = await s.drain()
    watch.assertUnder(3_000)
    await client.ended()
    reported(report, ({ outcome }) => assert.equal(outcome, 'clean'))
  })
}
