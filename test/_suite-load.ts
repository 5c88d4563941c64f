import assert from 'node:assert/strict'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { Client } from './_client.ts'
import { blockFor, startLoad, type Load } from './_load.ts'
import { assertLast, reported, scenario, type Stage } from './_scenario.ts'
import { Stopwatch } from './_stopwatch.ts'
import type { World } from './_world.ts'

/** Nothing was lost, reset or executed in vain. */
async function assertNothingLost(s: Stage, load: Load): Promise<void> {
  const { answered, lost, resets } = await load.result
  const all = new Set(answered)
  assert.deepEqual(lost, [], 'sent and never answered')
  assert.equal(resets, 0, 'connections reset')
  s.forgive(...answered)
  assert.deepEqual(s.site.executed.filter(id => id.startsWith('load-') && !all.has(id)), [], 'executed and never answered')
}

/** Many clients at once, in this thread and in another. */
export function load(world: World): void {
  // Think times stay far under quietMs: a request that crosses our FIN on the wire is beyond any server's reach.
  const hot = { options: { quietMs: 3_000, deadlineMs: 10_000 } }
  const clients = { connections: 40, mode: 'loop', thinkMs: 2 } as const

  scenario(world, 'hot keep-alive connections lose nothing', { ...hot, row: 1 }, async s => {
    const load = startLoad({ ...clients, address: s.site.address })
    await load.made()
    await sleep(100)
    reported(await s.drain(), report => assert.equal(report.outcome, 'clean'))
    await assertNothingLost(s, load)
  })

  scenario(world, 'an event loop that is blocked around the start of the drain loses nothing', { ...hot, row: 3 }, async s => {
    const load = startLoad({ ...clients, address: s.site.address })
    await load.made()
    await sleep(50)
    blockFor(150)
    const drained = s.drain()
    blockFor(150)
    // Once more while connections are being looked through.
    await turn()
    blockFor(100)
    reported(await drained, report => assert.equal(report.outcome, 'clean'))
    await assertNothingLost(s, load)
  })

  // With TLS the machine is busy with handshakes: a client is slow to send its request after its own.
  const queued = { options: { quietMs: world.tls ? 2_000 : 30, headMs: 4_000, deadlineMs: 10_000 } }
  const waiting = world.tls ? 100 : 300

  scenario(world, `${waiting} connections that wait in the accept queue are all served`, { ...queued, row: 4 }, async s => {
    const load = startLoad({ address: s.site.address, connections: waiting, mode: 'burst', thinkMs: 0 })
    load.block()
    reported(await s.drain(), report => assert.equal(report.outcome, 'clean'))
    await assertNothingLost(s, load)
    assert.equal(s.site.executed.length, waiting)
  })

  scenario(world, 'connections that were accepted in the drain, and ask then, are served', { ...queued, row: 4 }, async s => {
    const late = Array.from({ length: 40 }, () => s.watch(Client.dial(s.site.address)))
    const asked = late.map(client => client.connected().then(() => client.request('/')))
    // The connects go out with the next tick; none is accepted before the drain.
    await new Promise<void>(resolve => process.nextTick(resolve))
    const drained = s.drain()
    await Promise.all(asked)
    await Promise.all(late.map(client => assertLast(client)))
    reported(await drained, report => assert.equal(report.outcome, 'clean'))
  })

  const many = world.tls ? 100 : 500

  scenario(world, `${many} idle connections are closed by FIN, none by RST`, {
    // The first are still there when the last has come, on a machine that takes its time.
    server: { keepAliveTimeout: 60_000 },
    options: { lingerMs: 3_000 },
  }, async s => {
    for (let i = 0; i < many / 100; i++) await Promise.all(Array.from({ length: 100 }, () => s.warm()))
    await sleep(60)
    const watch = new Stopwatch()
    reported(await s.drain(), ({ outcome, closed, destroyed }) => {
      assert.equal(outcome, 'clean')
      assert.equal(closed, many)
      assert.deepEqual(destroyed, [])
    })
    watch.assertUnder(3_000)
  })
}
