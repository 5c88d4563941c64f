// What a review of the supervisor found: ends that were told wrongly, and workers that nobody looked after. Processes and a clock that do what the test says.
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Control } from '../src/cluster/control.ts'
import { drains, fake, settled, type FakeProc } from './_fake-system.ts'

test('one that ends with 0, but only at the SIGTERM after its deadline, did not leave in time', async () => {
  const { system, supervisor } = await fake({ workers: 1, deadlineMs: 5_000 })
  void supervisor.stop()
  await settled()
  system.last.says({ lameduck: 'draining' })
  await system.pass(6_000)
  assert.deepEqual(system.last.signals, ['SIGTERM'])
  system.last.exit(0)
  const { outcome, code } = await supervisor.stopped
  assert.deepEqual([outcome, code], ['forced', 1])
})

test('one whose drain was cut did not leave clean, whatever its own handler exits with', async () => {
  const { system, supervisor } = await fake({ workers: 1 })
  void supervisor.stop()
  await settled()
  for (const state of ['lameduck', 'draining', 'aborted'] as const) system.last.says({ lameduck: 'state', state })
  system.last.exit(0)
  const { outcome, code } = await supervisor.stopped
  assert.deepEqual([outcome, code], ['forced', 1])
})

test('Ctrl-C in a reload: it reaches the one that was told to go before as well, and the stop is clean', async () => {
  const { system, supervisor } = await fake({ workers: 1 })
  const reload = supervisor.reload()
  await system.pass(600)
  const [old, next] = system.procs as [FakeProc, FakeProc]
  assert.equal(drains(old), 1)
  void supervisor.stop('SIGINT')
  await settled()
  for (const proc of [old, next]) proc.exit(null, 'SIGINT')
  const { outcome, code } = await supervisor.stopped
  assert.deepEqual([outcome, code], ['clean', 0])
  assert.equal((await reload).outcome, 'reloaded')
})

for (const canaryMs of [0, 5_000]) {
  test(`a stop in a reload${canaryMs > 0 ? ', while the first new worker serves alone' : ''}: the reload fails as stopped, and nothing is rolled back`, async () => {
    const { system, supervisor, steps } = await fake({ canaryMs })
    if (canaryMs === 0) system.born = () => {}
    const reload = assert.rejects(supervisor.reload(), { code: 'ERR_LAMEDUCK_CLUSTER_STOPPED' })
    await system.pass(600)
    assert.equal(system.procs.length, 3)
    void supervisor.stop()
    await settled()
    for (const proc of system.procs) proc.exit(0)
    assert.equal((await supervisor.stopped).outcome, 'clean')
    await reload
    assert.deepEqual(steps.filter(({ what }) => what === 'rolling back' || what === 'failed'), [])
  })
}

test('a stop while the others start: none of them is said to have failed', async () => {
  const { system, supervisor, steps } = await fake({ workers: 3, readyMs: 1_200 })
  assert.deepEqual([system.procs.length, supervisor.status().ready], [3, 1])
  void supervisor.stop()
  await settled()
  for (const proc of system.procs) proc.exit(0)
  assert.equal((await supervisor.stopped).outcome, 'clean')
  assert.deepEqual(steps.filter(({ what }) => what === 'failed'), [])
})

test('a stop while the control socket is being made: it is not left behind', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-rules-'))
  const path = join(folder, 'control')
  try {
    const commanded = (await fake()).supervisor
    const control = new Control(commanded, { script: import.meta.filename, cwd: undefined, path })
    const listening = control.listen()
    await control.close()
    await listening
    assert.equal(existsSync(path), false)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a worker that gets stuck while its successor starts, and that one fails, is replaced none the less', async () => {
  const { system, supervisor, steps } = await fake({ stuckMs: 5_000, readyTimeoutMs: 8_000 })
  const [stuck, other] = system.procs as [FakeProc, FakeProc]
  system.born = () => {}
  const reload = supervisor.reload()
  const pass = async (seconds: number) => {
    for (let i = 0; i < seconds; i++) {
      for (const proc of system.alive()) if (proc !== stuck) proc.beat()
      await system.pass(1_000)
    }
  }
  await pass(7)
  assert.deepEqual(steps.filter(({ what }) => what === 'stuck').map(({ pid }) => pid), [stuck.pid])
  system.born = proc => proc.ready()
  await pass(2)
  system.procs[2]!.exit(0)
  assert.equal((await reload).outcome, 'rolled-back')
  await pass(5)
  assert.equal(stuck.gone, true)
  assert.equal(other.gone, false)
  assert.equal(supervisor.status().ready, 2)
})

for (const [how, makes] of [
  ['gets stuck', () => {}],
  ['is not ready any more', (canary: FakeProc) => canary.ready(false)],
] as const) {
  test(`a canary that ${how} while it serves alone does not take over`, async () => {
    const { system, supervisor } = await fake({ stuckMs: 5_000, canaryMs: 10_000 })
    const old = [...system.procs]
    const reload = supervisor.reload()
    for (let i = 0; i < 12; i++) {
      for (const proc of old) proc.beat()
      if (i === 1) makes(system.last)
      await system.pass(1_000)
    }
    const { outcome, code, reason } = await reload
    assert.deepEqual([outcome, code], ['rolled-back', 'ERR_LAMEDUCK_CLUSTER_UNREADY'], reason)
    assert.deepEqual(old.map(drains), [0, 0])
    assert.equal(supervisor.status().ready, 2)
  })
}

test('the last worker that is left dies too often while a reload tries another place: the supervisor ends and says so', async () => {
  const { system, supervisor } = await fake({ crashLimit: 1 })
  const [first, second] = system.procs as [FakeProc, FakeProc]
  first.exit(1)
  system.born = () => {}
  const reload = supervisor.reload()
  await settled()
  assert.equal(system.procs.length, 3)
  second.exit(1)
  system.last.exit(1)
  const result = await reload
  assert.deepEqual([result.outcome, result.code], ['rolled-back', 'ERR_LAMEDUCK_CLUSTER_DIED'])
  const { outcome, code, error } = await supervisor.stopped
  assert.deepEqual([outcome, code, error?.code], ['failed', 1, 'ERR_LAMEDUCK_CLUSTER_CRASH_LOOP'])
})

test('a reload waits for a worker that is being replaced already, and does not fail because of it', async () => {
  // With less room it would wait for the end of the one that leaves.
  const { system, supervisor } = await fake({ surge: 2 })
  const [leaving, other] = system.procs as [FakeProc, FakeProc]
  leaving.says({ lameduck: 'state', state: 'lameduck' })
  const reload = supervisor.reload()
  await system.pass(600)
  leaving.exit(0)
  for (let i = 0; i < 5; i++) {
    await system.pass(600)
    for (const proc of system.alive()) if (drains(proc) > 0) proc.exit(0)
  }
  const { outcome, reason } = await reload
  assert.equal(outcome, 'reloaded', reason)
  assert.equal(other.gone, true)
  assert.deepEqual(supervisor.status().workers.map(({ generation, state }) => [generation, state]), [[2, 'ready'], [2, 'ready']])
})

test('a worker that asks to be isolated, and is told to go by a reload before its turn, is told so: nobody is started for it', async () => {
  const { system, supervisor } = await fake()
  const [worker] = system.procs as [FakeProc]
  const reload = supervisor.reload()
  await settled()
  worker.says({ lameduck: 'isolate' })
  for (let i = 0; i < 5; i++) {
    await system.pass(600)
    for (const proc of system.alive()) if (drains(proc) > 0 && proc !== worker) proc.exit(0)
    if (i === 1) worker.exit(0)
  }
  assert.equal((await reload).outcome, 'reloaded')
  await system.pass(2_000)
  assert.deepEqual([supervisor.status().ready, system.alive().length], [2, 2])
  assert.deepEqual(worker.told.at(-1), { lameduck: 'isolated', ok: false, reason: 'it is gone' })
})

test('scaling down never leaves only places that were given up: it says why, and who serves goes on', async () => {
  const { system, supervisor } = await fake({ crashLimit: 1 })
  const [first, second] = system.procs as [FakeProc, FakeProc]
  first.exit(1)
  await settled()
  await assert.rejects(supervisor.scale(1), { code: 'ERR_LAMEDUCK_CLUSTER_CRASH_LOOP' })
  assert.deepEqual([drains(second), supervisor.status().ready, supervisor.status().wanted], [0, 1, 2])
})

test('with the only other place given up, a new one that does not get ready is the end, and the supervisor says so', async () => {
  const { system, supervisor } = await fake({ workers: 1, crashLimit: 1 })
  const [only] = system.procs as [FakeProc]
  system.born = () => {}
  const scaled = assert.rejects(supervisor.scale(2), { code: 'ERR_LAMEDUCK_CLUSTER_DIED' })
  await settled()
  only.exit(1)
  await settled()
  system.last.exit(1)
  await scaled
  const { outcome, code, error } = await supervisor.stopped
  assert.deepEqual([outcome, code, error?.code], ['failed', 1, 'ERR_LAMEDUCK_CLUSTER_CRASH_LOOP'])
})

test('a stop while a release is being rolled back: the reload fails as stopped', async () => {
  const { system, supervisor, steps } = await fake()
  const reload = assert.rejects(supervisor.reload(), { code: 'ERR_LAMEDUCK_CLUSTER_STOPPED' })
  await system.pass(600)
  // The first one took over; the second one fails, and nobody gets ready any more.
  system.procs[0]!.exit(0)
  system.born = () => {}
  await system.pass(600)
  system.last.exit(1)
  await settled()
  assert.ok(steps.some(({ what }) => what === 'rolling back'))
  void supervisor.stop()
  await settled()
  for (const proc of system.alive()) proc.exit(0)
  assert.equal((await supervisor.stopped).outcome, 'clean')
  await reload
})

test('with more room than one, a worker that leaves while a reload waits for the end of others does not roll it back', async () => {
  const { system, supervisor } = await fake({ workers: 3, surge: 2 })
  const [, , third] = system.procs as [FakeProc, FakeProc, FakeProc]
  const reload = supervisor.reload()
  await system.pass(600)
  await system.pass(600)
  // Five: the reload waits for one of the two that were told to go.
  assert.deepEqual([system.alive().length, system.procs.filter(proc => drains(proc) > 0).length], [5, 2])
  third.says({ lameduck: 'state', state: 'lameduck' })
  await settled()
  assert.equal(system.alive().length, 6)
  for (const proc of system.alive()) if (drains(proc) > 0) proc.exit(0)
  for (let i = 0; i < 6; i++) {
    await system.pass(600)
    for (const proc of system.alive()) if (drains(proc) > 0) proc.exit(0)
  }
  const { outcome, reason } = await reload
  assert.equal(outcome, 'reloaded', reason)
})
