// SIGKILL at random under load: what clients see of it, and what is left behind. `npm run bench:kills` does it a hundred times.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { Crowd, Killer, succeed, type Fates, type Occasion } from '../bench/_kills.ts'
import { buildCluster, type Cluster } from './_cluster-build.ts'
import { Fleet, type FleetOptions } from './_fleet.ts'
import { Newcomers } from './_newcomers.ts'

const built = await buildCluster()
process.once('exit', () => built[Symbol.dispose]())
const { command, status } = await import(pathToFileURL(built.main).href) as Cluster

// The machine may be busy: what hangs, hangs for ever.
const OPTIONS = { connections: 40, thinkMs: 50, hangMs: 20_000, pauseMs: 200, newcomerMs: 25 }
// Longer than anybody thinks, however busy the machine; it ends as soon as all have gone elsewhere.
const APP = { options: { lameduckMs: 5_000 } }
const OCCASIONS: Occasion[] = ['two', 'two', 'in a reload', 'two', 'two', 'one']

async function fleetOf(run: (fleet: Fleet) => Promise<void>, options: Partial<FleetOptions>): Promise<void> {
  const fleet = await Fleet.make({ built, workers: 2, app: APP, ...options, supervise: { readyMs: 50, crashLimit: 1_000, heartbeatMs: 200 } })
  try {
    await fleet.start()
    await run(fleet)
    await fleet.stop()
    assert.deepEqual(await fleet.leftovers(), [])
  } finally {
    await fleet.close()
  }
}

function noneButVictims({ others, noticed, unknown, hung }: Fates): void {
  assert.deepEqual({ others, noticed, unknown, hung }, { others: 0, noticed: 0, unknown: 0, hung: 0 })
}

test('workers killed at random: nobody but their own clients loses a request, nobody hangs, and as many are ready again', () => fleetOf(async fleet => {
  const crowd = await Crowd.open(fleet, OPTIONS, true)
  const newcomers = new Newcomers(fleet.port, { everyMs: OPTIONS.newcomerMs, hangMs: OPTIONS.hangMs })
  const killer = new Killer(fleet, command, newcomers, OPTIONS)
  await killer.kill(10, shot => OCCASIONS[shot % OCCASIONS.length]!)
  await newcomers.stop()
  await crowd.stop(OPTIONS.hangMs)
  const fates = crowd.fates()
  assert.ok(fates.ok > 100 && newcomers.ends.ok > 10, 'there was load')
  // None at all. Who had a connection is known: of one that was answered by the answers, of a new one by the worker's note, which comes before
  // its acknowledgement. What was not acknowledged goes to another one. And who is told to go in a reload loses nobody: see `Crowd`.
  noneButVictims(fates)
  assert.equal(newcomers.ends.hung, 0)
  assert.equal(newcomers.ends.refused, 0)
  assert.equal(killer.killed, 10)
  for (const { reload } of killer.shots) if (reload !== undefined) assert.match(reload, /^(reloaded|rolled-back)$/)
  assert.deepEqual([fleet.ready, fleet.workers.size], [3, 3])
  assert.equal((await status(fleet.control)).ready, 3)
}, { workers: 3 }))

for (const [control, what] of [['given', 'takes its socket over'], ['default', 'clears its socket away']] as const) {
  test(`a supervisor that is killed: its workers answer what they have and go; the next one ${what}, and serves`, () => fleetOf(async fleet => {
    const { slow, slowAnswered, fates, stale, reachable } = await succeed(fleet, status, OPTIONS)
    assert.equal(slowAnswered, slow)
    assert.ok(fates.ok > 10, 'there was load')
    assert.equal(fates.victims, 0)
    noneButVictims(fates)
    assert.equal(stale, true)
    assert.equal(reachable, true)
  }, { control }))
}
