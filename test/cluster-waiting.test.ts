// What a reload and a scale have to wait for, and whether their user is told.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Turns } from '../src/cluster/turn.ts'
import { drains, fake, goOn, settled, type FakeProc } from './_fake-system.ts'

test('a reload says that it waits for an isolated worker, then for what was asked for before it, and then that it goes on', async () => {
  const { system, supervisor } = await fake()
  const [worker] = system.procs as [FakeProc]
  worker.says({ lameduck: 'isolate' })
  await system.pass(600)
  const told: unknown[] = []
  const scaled = supervisor.scale(3)
  const reload = supervisor.reload(why => told.push(why))
  await system.pass(1_000)
  assert.deepEqual(told, ['worker 0 (pid 1) is isolated, for a heap snapshot or the like'])
  worker.says({ lameduck: 'return', retire: true })
  await system.pass(100)
  assert.deepEqual(told.slice(1), ['another change of the number of workers goes on, to 3'])
  worker.exit(0)
  await goOn(system)
  await scaled
  assert.equal(told[2], undefined)
  await goOn(system)
  assert.equal((await reload).outcome, 'reloaded')
  assert.equal(told.length, 3)
})

test('a scale says that it waits for a reload; whoever shares a reload that waits is told as well', async () => {
  const { system, supervisor } = await fake()
  const [scaling, second, third]: unknown[][] = [[], [], []]
  const first = supervisor.reload(why => assert.fail(`the first one waits for nothing, not for ${why}`))
  await settled()
  const scaled = supervisor.scale(1, why => scaling!.push(why))
  const waits = [supervisor.reload(why => second!.push(why))]
  await settled()
  waits.push(supervisor.reload(why => third!.push(why)))
  await goOn(system)
  await first
  await goOn(system)
  await Promise.all([scaled, ...waits])
  assert.deepEqual(scaling, ['another reload goes on', undefined])
  assert.deepEqual(second, ['another reload goes on', 'another change of the number of workers goes on, to 1', undefined])
  assert.deepEqual(third, second)
})

test('a reload while the supervisor starts says so, in its log too', async () => {
  const lines: string[] = []
  const logger = { info: (line: string) => lines.push(line), warn: () => {} }
  const { system, supervisor } = await fake({ logger, readyMs: 5_000 })
  const told: unknown[] = []
  const reload = supervisor.reload(why => told.push(why))
  assert.deepEqual(told, ['the supervisor is starting'])
  assert.ok(lines.includes('lameduck: a reload waits: the supervisor is starting'))
  const going = async () => {
    for (let i = 0; i < 8; i++) {
      for (const proc of system.alive()) proc.beat()
      await goOn(system, 5)
    }
  }
  await going()
  assert.equal((await reload).outcome, 'reloaded')
  assert.deepEqual(told, ['the supervisor is starting', undefined])
})

test('a reload that has no room because a worker that was recycled still drains says which', async () => {
  const { system, supervisor, steps } = await fake({ maxRequests: 100, jitter: 0 })
  const [worker] = system.procs as [FakeProc]
  worker.beat({ requests: 101 })
  await system.pass(1_700)
  assert.ok(steps.some(({ what }) => what === 'recycling'))
  assert.equal(drains(worker), 1)
  const told: unknown[] = []
  const reload = supervisor.reload(why => told.push(why))
  await system.pass(1_000)
  assert.deepEqual(told, ['worker 0 (pid 1) has yet to end'])
  worker.exit(0)
  await goOn(system)
  assert.equal((await reload).outcome, 'reloaded')
  // Those that it told to go itself are its own steps.
  assert.deepEqual(told, ['worker 0 (pid 1) has yet to end', undefined])
})

test('a reload that waits for the successor of a worker that leaves says so, then that this one has yet to end, and then nothing of it', async () => {
  const { system, supervisor } = await fake()
  const [, leaving] = system.procs as [FakeProc, FakeProc]
  system.born = () => {}
  leaving.says({ lameduck: 'state', state: 'draining' })
  await settled()
  assert.equal(system.procs.length, 3)
  const told: unknown[] = []
  const reload = supervisor.reload(why => told.push(why))
  await settled()
  assert.deepEqual(told, ['worker 1 is being replaced already'])
  system.last.ready()
  await system.pass(600)
  assert.deepEqual(told.slice(1), ['worker 1 (pid 2) has yet to end'])
  system.born = proc => proc.ready()
  leaving.exit(0)
  await settled()
  assert.deepEqual(told.slice(2), [undefined])
  await goOn(system)
  assert.equal((await reload).outcome, 'reloaded')
  assert.equal(told.length, 3)
})

test('a reload that waits for its own old worker says no longer that it waits for another one, which has ended', async () => {
  const { system, supervisor } = await fake()
  const [own, leaving] = system.procs as [FakeProc, FakeProc]
  system.born = () => {}
  const told: unknown[] = []
  const reload = supervisor.reload(why => told.push(why))
  await settled()
  leaving.says({ lameduck: 'state', state: 'draining' })
  await settled()
  const [, , first, successor] = system.procs as [FakeProc, FakeProc, FakeProc, FakeProc]
  first.ready()
  await system.pass(600)
  assert.equal(drains(own), 1)
  assert.deepEqual(told, ['worker 1 is being replaced already'])
  successor.ready()
  await system.pass(600)
  assert.deepEqual(told.slice(1), ['worker 1 (pid 2) has yet to end'])
  leaving.exit(0)
  await settled()
  assert.deepEqual([told.slice(2), system.procs.length], [[undefined], 4])
  system.born = proc => proc.ready()
  own.exit(0)
  await goOn(system)
  assert.equal((await reload).outcome, 'reloaded')
  assert.equal(told.length, 3)
})

test('a reload that is called off by a stop while it waits is not told that it goes on', async () => {
  const { system, supervisor } = await fake()
  const told: unknown[] = []
  const first = supervisor.reload()
  await settled()
  const scaling = supervisor.scale(3, why => told.push(why))
  const second = supervisor.reload(why => told.push(why))
  await settled()
  const ends = Promise.allSettled([first, scaling, second])
  void supervisor.stop()
  for (let i = 0; i < 3; i++) {
    for (const proc of system.alive()) proc.exit(0)
    await system.pass(600)
  }
  assert.deepEqual((await ends).map(({ status }) => status), ['rejected', 'rejected', 'rejected'])
  assert.deepEqual(told, ['another reload goes on', 'another reload goes on'])
})

test('a listener that throws keeps nothing from happening', async () => {
  const { system, supervisor } = await fake()
  const warned = new Promise<void>(resolve => {
    const listener = ({ message }: Error) => {
      if (message !== 'a listener of the test') return
      process.off('warning', listener)
      resolve()
    }
    process.on('warning', listener)
  })
  const first = supervisor.reload()
  await settled()
  const second = supervisor.reload(() => {
    throw new Error('a listener of the test')
  })
  await goOn(system, 10)
  assert.deepEqual((await Promise.all([first, second])).map(({ outcome }) => outcome), ['reloaded', 'reloaded'])
  await warned
})

test('turns: those that wait are told of each one before them, what fails lets the next one go', async () => {
  const turns = new Turns()
  const told: string[] = []
  const hear = (name: string) => (why: string | undefined) => void told.push(`${name}: ${why ?? 'goes on'}`)
  const failing = turns.take('a', () => Promise.reject(new Error('no')), hear('a'))
  const all = [turns.take('b', async () => {}, hear('b')), turns.take('c', async () => {}, hear('c'))]
  await assert.rejects(failing)
  await Promise.all(all)
  assert.deepEqual(told, ['b: a', 'c: a', 'a: goes on', 'c: b', 'b: goes on', 'c: goes on'])
  await settled()
  assert.equal(turns.busy, false)
})

test('a start that takes its time says what it waits for, after 2 s and then every 10 s, and a worker that is not ready any more says why', async () => {
  const { system, supervisor, steps } = await fake({ readyMs: 500, readyTimeoutMs: 30_000, stuckMs: 600_000 })
  const said = () => steps.splice(0).filter(({ what }) => what === 'not ready yet' || what === 'unready').map(({ slot, pid, generation, what, why }) => [slot, pid, generation, what, why])
  system.procs[1]!.says({ lameduck: 'ready', ready: false, why: '/readyz says 503: cache' })
  assert.deepEqual(said(), [[1, 2, 1, 'unready', '/readyz says 503: cache']])
  assert.deepEqual(supervisor.status().workers.map(({ error }) => error), [undefined, '/readyz says 503: cache'])
  system.procs[1]!.ready()
  system.born = () => {}
  const reload = supervisor.reload()
  await system.pass(1_900)
  assert.deepEqual(said(), [])
  await system.pass(200)
  assert.deepEqual(said(), [[0, 3, 2, 'not ready yet', 'it did not listen; it is given up in 28 s']])
  system.procs[2]!.says({ lameduck: 'ready', ready: false, why: '/readyz says 503: database' })
  await system.pass(20_000)
  assert.deepEqual(said(), [18, 8].map(left => [0, 3, 2, 'not ready yet', `/readyz says 503: database; it is given up in ${left} s`]))
  assert.deepEqual(supervisor.status().workers.map(({ pid, error }) => [pid, error]), [[1, undefined], [3, '/readyz says 503: database'], [2, undefined]])
  await system.pass(8_000)
  const { outcome, reason } = await reload
  assert.equal(outcome, 'rolled-back')
  assert.match(reason ?? '', /not ready within 30000 ms: \/readyz says 503: database$/)
  await system.pass(20_000)
  assert.deepEqual(said(), [])
})

test('a start that is ready now and then, but never for long enough, says why it is not', async () => {
  const { system, supervisor, steps } = await fake({ readyMs: 500, readyTimeoutMs: 20_000, stuckMs: 600_000 })
  system.born = () => {}
  const reload = supervisor.reload()
  await settled()
  for (let i = 0; i < 50; i++) {
    system.procs[2]!.ready(false)
    await system.pass(10)
    system.procs[2]!.ready()
    await system.pass(390)
  }
  const why = 'not for 500 ms without interruption: /readyz says 503'
  assert.deepEqual(steps.filter(({ what }) => what === 'not ready yet').map(step => step.why), [18, 8].map(left => `${why}; it is given up in ${left} s`))
  assert.match((await reload).reason ?? '', new RegExp(`${why}$`))
})

test('one that was told to go and takes a while says what holds it, and a reload says how many had to be cut', async () => {
  const { system, supervisor, steps } = await fake({ readyMs: 0, deadlineMs: 20_000, stuckMs: 600_000, workers: 1 })
  system.procs[0]!.beat({ connections: 3, inFlight: 1 })
  const reload = supervisor.reload()
  await system.pass(4_900)
  assert.deepEqual(steps.filter(({ what }) => what === 'not gone yet'), [])
  system.procs[0]!.says({ lameduck: 'draining' })
  await system.pass(11_000)
  assert.deepEqual(steps.filter(({ what }) => what === 'not gone yet').map(({ pid, why }) => [pid, why]), [
    [1, '1 request, 3 connections; it is cut in 15 s'], [1, '1 request, 3 connections; it is cut in 5 s'],
  ])
  system.procs[0]!.says({ lameduck: 'state', state: 'aborted' })
  system.procs[0]!.exit(1)
  const { outcome, cut } = await reload
  assert.deepEqual([outcome, cut], ['reloaded', 1])
})
