// The rules of the supervisor, with processes and a clock that do what the test says.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Backoff } from '../src/cluster/backoff.ts'
import { drains, fake, settled, type FakeProc } from './_fake-system.ts'

test('nobody is handed a connection before it was ready for readyMs without interruption', async () => {
  const { system, supervisor } = await fake({ readyMs: 500 })
  system.born = () => {}
  const reload = supervisor.reload()
  await settled()
  const [, , next] = system.procs as [FakeProc, FakeProc, FakeProc]
  assert.equal(system.procs.length, 3, 'one at a time')
  next.ready()
  await system.pass(400)
  next.ready(false)
  next.ready()
  await system.pass(400)
  assert.equal(next.admitted, false)
  assert.equal(drains(system.procs[0]!), 0)
  await system.pass(200)
  assert.equal(next.admitted, true)
  assert.equal(drains(system.procs[0]!), 1)
  assert.equal(drains(system.procs[1]!), 0)
  // The next one has to wait until the old one has gone: surge is 1.
  await system.pass(1_000)
  assert.equal(system.procs.length, 3)
  system.born = proc => proc.ready()
  system.procs[0]!.exit(0)
  await system.pass(600)
  assert.equal(system.procs.length, 4)
  system.procs[1]!.exit(0)
  assert.equal((await reload).outcome, 'reloaded')
})

test('told to go: a message, SIGTERM when that is not confirmed or the deadline was a second ago, SIGKILL a second later', async () => {
  const { system, supervisor, steps } = await fake({ workers: 2, deadlineMs: 10_000 })
  const [deaf, slow] = system.procs as [FakeProc, FakeProc]
  void supervisor.stop()
  await settled()
  assert.deepEqual([deaf, slow].map(drains), [1, 1])
  slow.says({ lameduck: 'draining' })
  await system.pass(1_100)
  assert.deepEqual([deaf.signals, slow.signals], [['SIGTERM'], []])
  await system.pass(9_800)
  assert.deepEqual(slow.signals, [])
  await system.pass(200)
  assert.deepEqual(slow.signals, ['SIGTERM'])
  await system.pass(800)
  assert.equal(slow.gone, false)
  await system.pass(200)
  assert.deepEqual([deaf.signals, slow.signals], [['SIGTERM', 'SIGTERM', 'SIGKILL'], ['SIGTERM', 'SIGKILL']])
  // Nobody is killed without a word.
  const why = 'SIGKILL: it was still there after its deadline of 10000 ms'
  assert.deepEqual(steps.filter(({ what }) => what === 'exited').map(step => step.why), [why, why])
  const report = await supervisor.stopped
  assert.deepEqual([report.outcome, report.code], ['forced', 1])
})

test('a stop is clean when all left in time, by themselves or by SIGTERM', async () => {
  const { system, supervisor } = await fake()
  void supervisor.stop('SIGINT')
  await settled()
  assert.deepEqual(system.procs.map(({ told }) => told[0]), [1, 2].map(() => ({ lameduck: 'drain', reason: 'SIGINT', signal: 'SIGINT' })))
  system.procs[0]!.exit(0)
  system.procs[1]!.exit(null, 'SIGTERM')
  const { outcome, code } = await supervisor.stopped
  assert.deepEqual([outcome, code], ['clean', 0])
  await assert.rejects(supervisor.reload(), { code: 'ERR_LAMEDUCK_CLUSTER_STOPPED' })
})

test('a stop is forced when one ends by the SIGTERM that comes after the deadline', async () => {
  const { system, supervisor } = await fake({ deadlineMs: 5_000 })
  void supervisor.stop()
  await settled()
  for (const proc of system.procs) proc.says({ lameduck: 'draining' })
  system.procs[0]!.exit(0)
  await system.pass(6_000)
  assert.deepEqual(system.procs[1]!.signals, ['SIGTERM'])
  system.procs[1]!.exit(null, 'SIGTERM')
  const { outcome, code } = await supervisor.stopped
  assert.deepEqual([outcome, code], ['forced', 1])
})

test('a second signal does not wait', async () => {
  const { supervisor } = await fake()
  void supervisor.stop('SIGTERM')
  void supervisor.kill('SIGINT', 130)
  const { outcome, code, reason } = await supervisor.stopped
  assert.deepEqual([outcome, code, reason], ['forced', 130, 'SIGINT after SIGTERM'])
})

test('a crash is followed by the next start at once, those that follow each other by ever longer waits, a loop by none', async () => {
  const { system, supervisor, steps } = await fake({ crashLimit: 6, readyMs: 0 })
  const expected = [0, 100, 200, 400, 800]
  for (const wait of [...expected, 0]) {
    const victim = system.alive().find(({ slot }) => slot === '1')!
    victim.says({ lameduck: 'crash', message: 'TypeError: oops' })
    victim.exit(1)
    // The next one is ready in that moment.
    await system.pass(wait)
  }
  const waits = steps.filter(({ what }) => what === 'restarting').map(({ afterMs }) => afterMs)
  assert.deepEqual(waits, expected)
  const { ready, workers } = supervisor.status()
  assert.equal(ready, 1)
  assert.equal(workers[1]!.state, 'gave up')
  assert.match(workers[1]!.error ?? '', /TypeError: oops/)
  assert.equal(workers[1]!.restarts, 5)
})

test('when every worker died too often the supervisor ends with 1 and says why', async () => {
  const { system, supervisor } = await fake({ crashLimit: 1 })
  for (const proc of system.alive()) proc.exit(1)
  const { outcome, code, error } = await supervisor.stopped
  assert.deepEqual([outcome, code, error?.code], ['failed', 1, 'ERR_LAMEDUCK_CLUSTER_CRASH_LOOP'])
})

test('five starts that never get ready are a loop, however slow', () => {
  const backoff = new Backoff({ crashLimit: 100, crashWindowMs: 1_000 })
  assert.deepEqual([0, 1, 2, 3, 4].map(i => backoff.crashed(undefined, i * 100_000)), [0, 100, 200, 400, undefined])
  backoff.reset()
  assert.equal(backoff.crashed(undefined, 0), 0)
})

test('what limits the starts is the time between them: a worker that served for longer than the wait is replaced at once', () => {
  const backoff = new Backoff({ crashLimit: 100, crashWindowMs: 60_000 })
  assert.deepEqual([0, 1, 2, 3, 4, 5].map(i => backoff.crashed(1_000, i * 1_000)), [0, 0, 0, 0, 0, 600])
})

test('a start that has too little time to be ready for long enough fails, and says so', async () => {
  const { system, supervisor } = await fake({ readyMs: 5_000, readyTimeoutMs: 2_000 })
  const failed = assert.rejects(supervisor.ready, { code: 'ERR_LAMEDUCK_CLUSTER_UNREADY', message: /was not ready within 2000 ms: not for 5000 ms without interruption$/ })
  await system.pass(500)
  await failed
  system.last.exit(0)
  assert.equal((await supervisor.stopped).outcome, 'failed')
})

test('a worker that was ready for long is replaced at once, however often', () => {
  const backoff = new Backoff({ crashLimit: 3, crashWindowMs: 60_000 })
  assert.deepEqual([0, 1, 2, 3, 4].map(i => backoff.crashed(50_000, i * 50_000)), [0, 0, 0, 0, 0])
})

test('a stuck worker is replaced: new first, then it is killed', async () => {
  const { system, supervisor, steps } = await fake({ stuckMs: 5_000 })
  const [stuck, other] = system.procs as [FakeProc, FakeProc]
  system.born = () => {}
  for (let i = 0; i < 7; i++) {
    other.beat()
    await system.pass(1_000)
  }
  assert.equal(steps.filter(({ what }) => what === 'stuck').length, 1)
  assert.equal(system.procs.length, 3)
  assert.deepEqual(stuck.signals, [])
  system.last.ready()
  for (let i = 0; i < 4; i++) {
    system.last.beat()
    other.beat()
    await system.pass(1_000)
  }
  assert.deepEqual(stuck.signals, ['SIGTERM', 'SIGKILL'])
  assert.equal(supervisor.status().ready, 2)
})

test('a worker in an announced pause is not stuck; a supervisor that did not run itself takes nobody for stuck', async () => {
  const { system, steps } = await fake({ stuckMs: 5_000 })
  const [paused, other] = system.procs as [FakeProc, FakeProc]
  paused.says({ lameduck: 'pause', untilMs: system.epoch() + 30_000 })
  for (let i = 0; i < 30; i++) {
    other.beat()
    await system.pass(1_000)
  }
  assert.deepEqual(steps.filter(({ what }) => what === 'stuck'), [])
  for (const proc of [paused, other]) proc.beat()
  system.sleep(60_000)
  await system.pass(3_000)
  assert.deepEqual(steps.filter(({ what }) => what === 'stuck'), [])
  // The pause is over, and it still says nothing.
  for (let i = 0; i < 8; i++) {
    other.beat()
    await system.pass(1_000)
  }
  assert.deepEqual(steps.filter(({ what }) => what === 'stuck').map(({ pid }) => pid), [paused.pid])
})

for (const [limit, over] of [
  ['maxRssBytes', { rss: 950 }], ['maxHeapBytes', { heapUsed: 950 }], ['maxRequests', { requests: 950 }],
] as const) {
  test(`a worker over ${limit} is replaced, one at a time, earlier than at its limit by its lot`, async () => {
    const { system, supervisor } = await fake({ [limit]: 1_000, jitter: 0.2 })
    const [first, second] = system.procs as [FakeProc, FakeProc]
    system.born = () => {}
    // With a lot of 0.5 the limit is 900.
    for (let i = 0; i < 4; i++) {
      for (const proc of [first, second]) proc.beat({ rss: 10, heapUsed: 10, requests: 10 })
      await system.pass(1_000)
    }
    assert.equal(system.procs.length, 2)
    for (let i = 0; i < 4; i++) {
      for (const proc of [first, second]) proc.beat(over)
      await system.pass(1_000)
    }
    assert.equal(system.procs.length, 3, 'one at a time')
    assert.equal(supervisor.status().ready, 2)
    system.last.ready()
    await system.pass(600)
    assert.deepEqual([drains(first), drains(second)], [1, 0])
    first.exit(0)
    system.last.beat()
    second.beat(over)
    await system.pass(1_100)
    assert.equal(system.procs.length, 4)
  })
}

test('a worker of a certain age is replaced', async () => {
  const { system } = await fake({ maxAgeMs: 60_000, workers: 1, jitter: 0 })
  for (let i = 0; i < 57; i++) {
    system.procs[0]!.beat()
    await system.pass(1_000)
  }
  assert.equal(system.procs.length, 1)
  for (let i = 0; i < 4; i++) {
    for (const proc of system.alive()) proc.beat()
    await system.pass(1_000)
  }
  assert.equal(system.procs.length, 2)
  assert.equal(drains(system.procs[0]!), 1)
})

test('a worker that leaves unasked gets its successor before it has gone', async () => {
  const { system, supervisor } = await fake()
  const [leaving] = system.procs as [FakeProc]
  leaving.says({ lameduck: 'state', state: 'lameduck' })
  await system.pass(600)
  assert.equal(system.procs.length, 3)
  assert.equal(supervisor.status().ready, 2)
  leaving.exit(0)
  await system.pass(600)
  assert.equal(system.procs.length, 3)
})

test('isolate: a replacement first, then the worker may go; it comes back, or is retired', async () => {
  const { system, supervisor } = await fake()
  const [worker] = system.procs as [FakeProc]
  worker.says({ lameduck: 'lastReady' })
  assert.deepEqual(worker.told.pop(), { lameduck: 'lastReady', ready: 2, last: false })
  system.born = () => {}
  worker.says({ lameduck: 'isolate' })
  await system.pass(100)
  assert.deepEqual(worker.told, [])
  system.last.ready()
  await system.pass(600)
  assert.deepEqual(worker.told.pop(), { lameduck: 'isolated', ok: true })
  assert.equal(supervisor.status().workers.find(({ pid }) => pid === worker.pid)?.state, 'isolated')
  worker.says({ lameduck: 'state', state: 'lameduck' })
  worker.ready(false)
  // A reload waits for it.
  void supervisor.reload()
  await system.pass(1_000)
  assert.equal(system.procs.length, 3)
  worker.says({ lameduck: 'return', retire: false })
  await system.pass(100)
  assert.equal(drains(system.procs[2]!), 0, 'not before the worker is ready again')
  worker.says({ lameduck: 'state', state: 'running' })
  worker.ready()
  await system.pass(100)
  assert.equal(drains(system.procs[2]!), 1)
  assert.equal(supervisor.status().workers.find(({ pid }) => pid === worker.pid)?.state, 'ready')
  system.procs[2]!.exit(0)
  await system.pass(100)
  assert.equal(system.procs.length, 4, 'the reload begins')
})

test('isolate and retire: the replacement stays', async () => {
  const { system, supervisor } = await fake()
  const [worker] = system.procs as [FakeProc]
  worker.says({ lameduck: 'isolate' })
  await system.pass(600)
  worker.says({ lameduck: 'return', retire: true })
  await system.pass(100)
  assert.equal(drains(worker), 1)
  worker.exit(0)
  assert.deepEqual(supervisor.status().workers.map(({ slot, pid }) => [slot, pid]), [[0, 3], [1, 2]])
})

test('a worker that asks to be isolated while no replacement gets ready is told so, and stays', async () => {
  const { system, supervisor } = await fake({ readyTimeoutMs: 2_000 })
  const [worker, other] = system.procs as [FakeProc, FakeProc]
  system.born = () => {}
  worker.says({ lameduck: 'isolate' })
  for (let i = 0; i < 3; i++) {
    for (const proc of [worker, other]) proc.beat()
    await system.pass(1_000)
  }
  const answer = worker.told.pop()
  assert.ok(answer?.lameduck === 'isolated' && !answer.ok && /did not listen within 2000 ms/.test(answer.reason ?? ''))
  assert.equal(supervisor.status().ready, 2)
})

test('an isolated worker that dies, or does not come back in time, is none the less replaced', async () => {
  const { system, supervisor } = await fake({ isolateMs: 10_000, stuckMs: 100_000 })
  const [dies, late] = system.procs as [FakeProc, FakeProc]
  dies.says({ lameduck: 'isolate' })
  await system.pass(600)
  dies.exit(null, 'SIGSEGV')
  await system.pass(600)
  assert.equal(supervisor.status().ready, 2)
  late.says({ lameduck: 'isolate' })
  await system.pass(11_000)
  assert.equal(drains(late), 1)
  assert.equal(supervisor.status().ready, 2)
})

test('a worker that dies while the listeners are being closed makes the stop a forced one', async () => {
  const { system, supervisor } = await fake({ workers: 2 })
  const [one, two] = system.procs as [FakeProc, FakeProc]
  system.closing = () => one.exit(1)
  const stopped = supervisor.stop()
  await settled()
  two.says({ lameduck: 'draining' })
  two.exit(0)
  const { outcome, code } = await stopped
  assert.deepEqual([outcome, code], ['forced', 1])
})
