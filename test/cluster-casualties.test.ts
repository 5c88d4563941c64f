// What may happen to new workers before a reload is over, and when all of it is rolled back.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drains, fake, goOn, type FakeProc, type FakeSystem } from './_fake-system.ts'

/** Lets time go by, with a sign of life every second from all but one. */
const beating = (system: FakeSystem) => async (ms: number, hung?: FakeProc) => {
  for (let left = ms; left > 0; left -= 1_000) {
    await system.pass(Math.min(left, 1_000))
    for (const proc of system.alive()) if (proc !== hung) proc.beat()
  }
}

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

test('a new worker that hangs before the reload is over has failed, as one that dies', async () => {
  const { system, supervisor } = await fake({ readyMs: 0, workers: 3, stuckMs: 10_000 })
  const reload = supervisor.reload()
  const beats = beating(system)
  // The first takes over at once, and is not heard any more; the next ones take their time.
  system.born = proc => {
    if (system.procs.length < 5) proc.ready()
  }
  await beats(100)
  system.procs[0]!.exit(0)
  const hung = system.procs[3]!
  await beats(12_000, hung)
  system.born = proc => proc.ready()
  for (const proc of system.alive()) if (proc !== hung) proc.ready()
  for (let i = 0; i < 6; i++) {
    await beats(1_000, hung)
    for (const proc of system.alive()) if (drains(proc) > 0) proc.exit(0)
  }
  const { outcome, code, reason } = await reload
  assert.deepEqual([outcome, code], ['rolled-back', 'ERR_LAMEDUCK_CLUSTER_DIED'])
  assert.match(reason ?? '', /^worker 0 \(pid 4, generation 2\): it was ready, and gave no sign of life for 10000 ms$/)
  assert.deepEqual(supervisor.status().workers.map(({ generation, state }) => [generation, state]), [[1, 'ready'], [1, 'ready'], [1, 'ready']])
})

test('a new worker dies while another one is not ready any more: the way back begins at once, and says of which', async () => {
  const { system, supervisor } = await fake({ readyMs: 0, workers: 3, stuckMs: 600_000 })
  const reload = supervisor.reload()
  let over = false
  void reload.then(() => {
    over = true
  })
  await system.pass(10)
  system.procs[0]!.exit(0)
  await system.pass(10)
  const [first, second] = system.procs.slice(3) as [FakeProc, FakeProc]
  second.ready(false)
  system.procs[1]!.exit(0)
  await system.pass(1_000)
  assert.equal(drains(system.procs[2]!), 0)
  first.exit(1)
  await goOn(system, 3)
  assert.equal(over, true)
  const { outcome, reason } = await reload
  assert.equal(outcome, 'rolled-back')
  assert.match(reason ?? '', /^worker 0 \(pid 4, generation 2\): it was ready, and ended 1\.\d s later with exit code 1$/)
  assert.equal(drains(system.procs[2]!), 0)
})

test('who took over from a new worker that left by its own wish, and dies: that counts as well', async () => {
  const { system, supervisor } = await fake({ readyMs: 0, workers: 2, stuckMs: 600_000 })
  const reload = supervisor.reload()
  await system.pass(10)
  const first = system.procs[2]!
  system.born = proc => {
    if (proc.slot === '0') proc.ready()
  }
  system.procs[0]!.exit(0)
  await system.pass(10)
  first.says({ lameduck: 'state', state: 'draining' })
  await system.pass(10)
  first.exit(0)
  await system.pass(10)
  const next = system.last
  assert.equal(next.slot, '0')
  system.born = proc => proc.ready()
  next.exit(7)
  for (const proc of system.alive()) if (proc.slot === '1' && proc !== system.procs[1]) proc.ready()
  await goOn(system)
  const { outcome, reason } = await reload
  assert.equal(outcome, 'rolled-back')
  assert.match(reason ?? '', /it was ready, and ended 0\.0 s later with exit code 7$/)
  assert.equal(drains(system.procs[1]!), 0)
})

test('what a worker says of its crash may be anything', async () => {
  const { system, supervisor } = await fake({ readyMs: 0, workers: 1, stuckMs: 600_000 })
  system.last.says({ lameduck: 'crash', message: { toString: 1 } as never })
  system.last.says({ lameduck: 'ready', ready: false, why: Object.create(null) as never })
  assert.equal(supervisor.status().workers[0]?.state, 'unready')
})

for (const how of ['dies', 'hangs'] as const) test(`a new worker that ${how} while the next one does not get ready: the way back begins at once, and for this reason`, async () => {
  const { system, supervisor } = await fake({ readyMs: 0, workers: 2, readyTimeoutMs: 60_000, stuckMs: 10_000 })
  const reload = supervisor.reload()
  const pass = beating(system)
  // Of the new release only the first gets ready.
  system.born = proc => {
    if (proc.plan.env.LAMEDUCK_GENERATION === '1' || system.procs.length === 3) proc.ready()
  }
  await pass(100)
  system.procs[0]!.exit(0)
  await pass(100)
  const [, old, first, next] = system.procs as [FakeProc, FakeProc, FakeProc, FakeProc]
  assert.equal(next.slot, '1')
  if (how === 'dies') first.exit(7)
  else await pass(12_000, first)
  const began = system.now()
  for (let i = 0; i < 8; i++) {
    await pass(1_000, first)
    for (const proc of system.alive()) if (drains(proc) > 0) proc.exit(0)
  }
  const { outcome, reason } = await reload
  assert.ok(system.now() - began < 10_000)
  assert.equal(outcome, 'rolled-back')
  assert.match(reason ?? '', how === 'dies' ? /^worker 0 \(pid 3, generation 2\): .* with exit code 7$/ : /^worker 0 \(pid 3, generation 2\): .* no sign of life for 10000 ms$/)
  assert.equal(drains(old), 0)
  assert.deepEqual(supervisor.status().workers.map(({ generation, state }) => [generation, state]), [[1, 'ready'], [1, 'ready']])
})

test('a new worker dies while the reload waits for another place, whose old worker left by its own wish: the way back begins at once, and no further one of the new release starts', async () => {
  const { system, supervisor } = await fake({ readyMs: 0, workers: 2, readyTimeoutMs: 60_000, stuckMs: 600_000 })
  const reload = supervisor.reload()
  const generations = () => system.procs.map(({ slot, plan }) => `${slot}: ${plan.env.LAMEDUCK_GENERATION}`)
  // Who takes over takes its time.
  system.born = () => {}
  await system.pass(10)
  const [first, leaving, fresh] = system.procs as [FakeProc, FakeProc, FakeProc]
  leaving.says({ lameduck: 'state', state: 'draining' })
  await system.pass(10)
  fresh.ready()
  system.born = proc => {
    if (proc.slot === '0') proc.ready()
  }
  await system.pass(1_000)
  first.exit(0)
  await system.pass(1_000)
  assert.deepEqual(generations(), ['0: 1', '1: 1', '0: 2', '1: 1'])
  fresh.exit(7)
  await system.pass(1_000)
  const { outcome, reason } = await Promise.race([reload, system.pass(10).then(() => ({ outcome: 'waits', reason: '' }))])
  assert.equal(outcome, 'rolled-back')
  assert.match(reason ?? '', /^worker 0 \(pid 3, generation 2\): .* with exit code 7$/)
  system.procs[3]!.ready()
  leaving.exit(0)
  await goOn(system)
  assert.deepEqual(generations().slice(4).filter(one => one !== '0: 1'), [])
  assert.deepEqual(supervisor.status().workers.map(({ generation, state }) => [generation, state]), [[1, 'ready'], [1, 'ready']])
})
