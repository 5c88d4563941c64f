// Releases that are bad only once they serve or go, or come in the middle of a crash loop. Those that fail at their start: cluster-reload, cli-reload.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { alive, until, world } from './_cluster.ts'
import { drains, fake, settled, type FakeProc, type FakeSystem } from './_fake-system.ts'

test('a reload of a release that ignores SIGTERM, never ends its drain and has children: it serves until the new one does, and is killed', () => world(async it => {
  const before = it.pids
  const children = [...new Set((await it.crowd(10)).map(({ child }) => child!))]
  try {
    it.app = { port: it.port, version: 'new' }
    const reload = it.supervisor.reload()
    const versions = new Set<string | undefined>()
    let over = false
    void reload.then(() => {
      over = true
    })
    while (!over) versions.add((await it.who()).version)
    const { outcome, reason, readyLeast } = await reload
    assert.equal(outcome, 'reloaded', reason)
    assert.equal(readyLeast, 2)
    assert.deepEqual(before.filter(alive), [])
    assert.ok(versions.has('new'))
    const ends = it.steps.filter(({ what }) => what === 'exited').map(({ why }) => String(why))
    assert.deepEqual(ends.map(why => why.startsWith('SIGKILL')), [true, true], ends.join())
    assert.deepEqual([...new Set((await it.crowd(10)).map(({ version }) => version))], ['new'])
  } finally {
    for (const child of children) if (alive(child)) process.kill(child, 'SIGKILL')
  }
  await until(() => !children.some(alive), 'the end of the children')
}, { deadlineMs: 500 }, { fault: 'deaf', forks: true }))

test('nobody is killed without a word: not one that is stuck and has no successor, and not by a second signal', async () => {
  const { system, supervisor, steps } = await fake({ stuckMs: 5_000 })
  const [stuck, other] = system.procs as [FakeProc, FakeProc]
  const ends = () => steps.filter(({ what, why }) => (what === 'crashed' || what === 'exited') && why?.startsWith('SIGKILL')).map(({ pid, why }) => [pid, why])
  system.born = proc => proc.exit(1)
  for (let i = 0; i < 8 && !stuck.gone; i++) {
    other.beat()
    await system.pass(1_000)
  }
  assert.deepEqual(ends(), [[stuck.pid, 'SIGKILL: it was stuck']])
  void supervisor.stop()
  await settled()
  void supervisor.kill('SIGINT', 130)
  await supervisor.stopped
  assert.deepEqual(ends().slice(1), [[other.pid, 'SIGKILL: killed: SIGINT after SIGTERM']])
})

/** Crashes of one place, until its next start has to wait. */
async function loop(system: FakeSystem, slot: string): Promise<void> {
  system.born = proc => proc.slot === slot ? proc.exit(1) : proc.ready()
  system.procs.find(proc => proc.slot === slot)!.exit(1)
  // The first start comes at once.
  await system.pass(10)
  assert.equal(system.alive().length, 1)
}

test('a reload in the middle of a crash loop is the way out of it: one worker for each place, and no start that was planned before', async () => {
  const { system, supervisor } = await fake()
  await loop(system, '1')
  system.born = proc => proc.slot === '1' && proc.plan.env.LAMEDUCK_GENERATION === '1' ? proc.exit(1) : proc.ready()
  const reload = supervisor.reload()
  for (let i = 0; i < 5; i++) {
    await system.pass(600)
    for (const proc of system.alive()) if (drains(proc) > 0) proc.exit(0)
  }
  const { outcome, readyBefore, readyLeast } = await reload
  assert.deepEqual([outcome, readyBefore, readyLeast], ['reloaded', 1, 1])
  const started = system.procs.length
  await system.pass(5_000)
  assert.deepEqual([supervisor.status().ready, system.alive().length, system.procs.length], [2, 2, started])
})

for (const slot of ['0', '1']) {
  test(`a bad release in the middle of a crash loop of place ${slot} is rolled back; the other worker serves, and the loop goes on as slowly as before`, async () => {
    const { system, supervisor, steps } = await fake()
    const other = system.procs.find(proc => proc.slot !== slot) as FakeProc
    await loop(system, slot)
    system.born = proc => {
      if (proc.plan.env.LAMEDUCK_GENERATION === '2' || proc.slot === slot) proc.exit(1)
      else proc.ready()
    }
    const reload = supervisor.reload()
    await system.pass(50)
    const { outcome, code } = await reload
    assert.deepEqual([outcome, code], ['rolled-back', 'ERR_LAMEDUCK_CLUSTER_DIED'])
    assert.deepEqual([drains(other), other.gone, other.admitted, supervisor.status().ready], [0, false, true, 1])
    await system.pass(300)
    assert.ok(steps.some(step => step.what === 'restarting' && String(step.slot) === slot && (step.afterMs ?? 0) >= 200), 'it waits, and longer each time')
    // What it was comes back as it was.
    system.born = proc => proc.ready()
    await system.pass(15_000)
    const { ready, workers, generation } = supervisor.status()
    assert.deepEqual([ready, generation, workers.map(worker => [worker.slot, worker.generation, worker.state])], [2, 1, [[0, 1, 'ready'], [1, 1, 'ready']]])
  })
}
