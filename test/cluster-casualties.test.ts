// What may happen to new workers before a reload is over, and when all of it is rolled back.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drains, fake, goOn, type FakeProc } from './_fake-system.ts'

test('a new worker that dies before the reload is over: the old ones that are left stay, the others come back, and the reason is told', async () => {
  const { system, supervisor } = await fake({ readyMs: 0, workers: 3, stuckMs: 600_000 })
  const reload = supervisor.reload()
  // One has been replaced; the next new one takes its time.
  system.born = proc => {
    if (system.procs.length < 5) proc.ready()
  }
  await system.pass(100)
  system.procs[0]!.exit(0)
  await system.pass(100)
  const [, second, third, first, next] = system.procs as [FakeProc, FakeProc, FakeProc, FakeProc, FakeProc]
  assert.equal(system.procs.length, 5)
  system.born = proc => proc.ready()
  first.says({ lameduck: 'crash', message: 'Error: late\nbug' })
  first.exit(1)
  await system.pass(100)
  next.ready()
  await goOn(system)
  const { outcome, code, reason } = await reload
  assert.deepEqual([outcome, code], ['rolled-back', 'ERR_LAMEDUCK_CLUSTER_DIED'])
  assert.match(reason ?? '', /^worker 0 \(pid 4, generation 2\): it was ready, and ended 0\.\d s later with exit code 1: Error: late\\u000abug$/)
  assert.deepEqual([second, third].map(drains), [0, 0])
  assert.deepEqual(supervisor.status().workers.map(({ slot, generation, state }) => [slot, generation, state]), [[0, 1, 'ready'], [1, 1, 'ready'], [2, 1, 'ready']])
})

test('one that dies while the last of the old ones drain rolls all of it back', async () => {
  const { system, supervisor } = await fake({ readyMs: 0, workers: 1, stuckMs: 600_000 })
  const reload = supervisor.reload()
  await system.pass(100)
  system.procs[1]!.exit(3)
  await goOn(system)
  assert.equal((await reload).outcome, 'rolled-back')
  assert.deepEqual(supervisor.status().workers.map(({ generation, state }) => [generation, state]), [[1, 'ready']])
})

test('nothing old is taken away while a new worker is not ready any more; for too long, and all of it is rolled back', async () => {
  for (const back of [true, false]) {
    const { system, supervisor } = await fake({ readyMs: 0, workers: 2, readyTimeoutMs: 10_000, stuckMs: 600_000 })
    const told: unknown[] = []
    const reload = supervisor.reload(why => told.push(why))
    await system.pass(10)
    system.procs[2]!.ready(false)
    system.procs[0]!.exit(0)
    await system.pass(5_000)
    assert.equal(drains(system.procs[1]!), 0)
    assert.deepEqual(told.at(-1), 'worker 0 (pid 3) is not ready any more: /readyz says 503')
    if (back) system.procs[2]!.ready()
    else await system.pass(6_000)
    await goOn(system)
    const { outcome, reason } = await reload
    assert.equal(outcome, back ? 'reloaded' : 'rolled-back')
    if (!back) assert.match(reason ?? '', /^worker 0 \(pid 3, generation 2\): it was ready, and then not for 10000 ms: \/readyz says 503$/)
    assert.equal(drains(system.procs[1]!), back ? 1 : 0)
  }
})

test('a new worker that dies while the last of the old ones still drains: the way back begins at once', async () => {
  const { system, supervisor } = await fake({ readyMs: 0, workers: 1, stuckMs: 600_000 })
  const reload = supervisor.reload()
  await system.pass(100)
  system.procs[1]!.exit(3)
  await system.pass(500)
  assert.equal(system.procs[0]!.gone, false)
  const { outcome, reason } = await reload
  assert.equal(outcome, 'rolled-back', reason)
  assert.deepEqual(supervisor.status().workers.filter(({ state }) => state === 'ready').map(({ generation }) => generation), [1])
})

test('what all new workers need is away for a moment, and one new worker that leaves by its own wish: no reasons to go back', async () => {
  const { system, supervisor } = await fake({ readyMs: 0, workers: 2, stuckMs: 600_000 })
  const reload = supervisor.reload()
  await system.pass(10)
  const [, , first] = system.procs as [FakeProc, FakeProc, FakeProc]
  first.ready(false)
  system.procs[0]!.exit(0)
  await system.pass(100)
  const next = system.procs[3]!
  next.ready(false)
  first.ready()
  await system.pass(100)
  next.ready()
  await system.pass(100)
  first.says({ lameduck: 'state', state: 'drained' })
  first.exit(0)
  await goOn(system)
  const { outcome, reason } = await reload
  assert.equal(outcome, 'reloaded', reason)
})

test('a new worker that is not ready any more and then leaves by its own wish: another one takes its place, and the reload goes on', async () => {
  const { system, supervisor } = await fake({ readyMs: 0, workers: 2, readyTimeoutMs: 60_000, stuckMs: 600_000 })
  const reload = supervisor.reload()
  await system.pass(10)
  const [, old, first] = system.procs as [FakeProc, FakeProc, FakeProc]
  first.ready(false)
  system.procs[0]!.exit(0)
  await system.pass(1_000)
  assert.equal(drains(old), 0)
  first.says({ lameduck: 'state', state: 'drained' })
  first.exit(0)
  await system.pass(5_000)
  await goOn(system)
  const { outcome, reason } = await reload
  assert.equal(outcome, 'reloaded', reason)
  assert.equal(drains(old), 1)
  assert.deepEqual(supervisor.status().workers.map(({ generation, state }) => [generation, state]), [[2, 'ready'], [2, 'ready']])
})

test('while all of it stops, no slot says that a worker comes back', async () => {
  const { system, supervisor } = await fake({ readyMs: 0, workers: 2, stuckMs: 600_000 })
  void supervisor.stop()
  await system.pass(10)
  system.procs[0]!.exit(0)
  await system.pass(10)
  assert.deepEqual(supervisor.status().workers.map(({ slot, state }) => [slot, state]), [[1, 'retiring']])
})
