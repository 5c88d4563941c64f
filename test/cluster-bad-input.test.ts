import assert from 'node:assert/strict'
import net, { type AddressInfo } from 'node:net'
import { test } from 'node:test'
import type { SuperviseOptions } from '../src/cluster/index.ts'
import { alive, APP, freePort, supervise, until, World, world } from './_cluster.ts'
import type { App } from './fixtures/cluster-app.ts'

for (const [what, options, message] of [
  ['no worker', { workers: 0 }, /options\.workers is 0; allowed: a whole number from 1 to 256/],
  ['a negative number of workers', { workers: -1 }, /options\.workers is -1/],
  ['9999 workers', { workers: 9999 }, /options\.workers is 9999/],
  ['half a worker', { workers: 1.5 }, /options\.workers is 1\.5/],
  ['no script', { script: '' }, /options\.script is ''/],
  ['an unknown option', { worker: 3 }, /options\.worker is no option; allowed: args, /],
  ['a patience shorter than two heartbeats', { stuckMs: 100, heartbeatMs: 1_000 }, /options\.stuckMs is 100/],
  ['arguments that are no strings', { args: [1] }, /options\.args is/],
  ['a style of logs that there is not', { logs: 'xml' }, /options\.logs is 'xml'/],
] as [string, object, RegExp][]) {
  test(`${what}: refused at the door`, () => {
    assert.throws(() => supervise({ script: APP, ...options } as SuperviseOptions), { code: 'ERR_LAMEDUCK_CLUSTER_OPTION', message })
  })
}

test('a script that does not exist, or is a folder: refused at the door', () => {
  assert.throws(() => supervise({ script: `${APP}.no` }), { code: 'ERR_LAMEDUCK_CLUSTER_SCRIPT', message: /ENOENT/ })
  assert.throws(() => supervise({ script: '/' }), { code: 'ERR_LAMEDUCK_CLUSTER_SCRIPT', message: /it is not a file/ })
  assert.throws(() => supervise({ script: APP, envFile: `${APP}.env` }), { code: 'ERR_LAMEDUCK_CLUSTER_ENV', message: /ENOENT/ })
})

async function fails(app: Partial<App>, options: Partial<SuperviseOptions>, code: string, message: RegExp): Promise<World> {
  const it = new World(await freePort(), app)
  try {
    const supervisor = it.start({ workers: 2, ...options })
    await assert.rejects(supervisor.ready, { code, message })
    const report = await supervisor.stopped
    assert.deepEqual([report.outcome, report.code, report.error?.code], ['failed', 1, code])
    // Nobody tried a second one.
    assert.equal(it.steps.filter(({ what }) => what === 'starting').length, 1)
    return it
  } finally {
    await it.close()
  }
}

test('a script that throws at import: the start fails, and says what was thrown', async () => {
  const it = await fails({ fault: 'throws' }, {}, 'ERR_LAMEDUCK_CLUSTER_DIED', /exit code 1 before it was ready: Error: no such module: config/)
  assert.match(it.err, /\[0\] Error: no such module: config/)
})

test('a script that exits with 0 before it listens: the start fails', () => fails({ fault: 'exits' }, {}, 'ERR_LAMEDUCK_CLUSTER_DIED', /exit code 0 before it was ready/).then(() => {}))

test('a script that listens and dies: the start fails', () => fails({ fault: 'dies' }, { readyMs: 1_000 }, 'ERR_LAMEDUCK_CLUSTER_DIED', /exit code 3 before it was ready/).then(() => {}))

test('a script that never listens: the start fails when its time is over', () => fails({ fault: 'silent' }, { readyTimeoutMs: 2_500 }, 'ERR_LAMEDUCK_CLUSTER_SILENT', /did not listen within 2500 ms/).then(() => {}))

test('a script that is never ready: the start fails, and says what it waits for', () => fails({ fault: 'unready' }, { readyTimeoutMs: 8_000 }, 'ERR_LAMEDUCK_CLUSTER_UNREADY', /not ready within 8000 ms: \/readyz says 503/).then(() => {}))

test('a script that blocks at its start and hears nothing: killed', () => fails({ fault: 'blocked' }, { readyTimeoutMs: 1_000, deadlineMs: 500 }, 'ERR_LAMEDUCK_CLUSTER_SILENT', /did not listen/).then(() => {}))

test('a port that is taken: the start fails, and says which', async () => {
  const taken = net.createServer()
  await new Promise<void>(resolve => taken.listen(0, '127.0.0.1', resolve))
  const { port } = taken.address() as AddressInfo
  try {
    await fails({ port }, {}, 'ERR_LAMEDUCK_CLUSTER_DIED', new RegExp(`EADDRINUSE.*:${port}`))
  } finally {
    await new Promise(resolve => taken.close(resolve))
  }
})

test('a script that listens on two ports: both are served, and reloaded', async () => {
  const second = await freePort()
  await world(async it => {
    const ask = async () => (await (await fetch(`http://127.0.0.1:${second}/`)).json() as { version?: string }).version
    assert.equal(await ask(), undefined)
    it.app.version = 'two'
    assert.equal((await it.supervisor.reload()).outcome, 'reloaded')
    assert.equal(await ask(), 'two')
    assert.equal((await it.who()).version, 'two')
  }, {}, { second })
})

test('a script that ignores SIGTERM and never ends its drain: killed two seconds after the deadline', () => world(async it => {
  const { pids } = it
  const began = performance.now()
  const report = await it.supervisor.stop()
  assert.deepEqual([report.outcome, report.code], ['forced', 1])
  assert.ok(performance.now() - began >= 2_900)
  assert.deepEqual(pids.filter(alive), [])
}, { deadlineMs: 1_000, workers: 1 }, { fault: 'deaf' }))

test('a script that never heard of lameduck: started, reloaded and stopped with what Node alone can tell', () => world(async it => {
  assert.equal(it.supervisor.status().ready, 2)
  it.app.version = 'two'
  const result = await it.supervisor.reload()
  assert.equal(result.outcome, 'reloaded', result.reason)
  assert.equal((await it.who()).version, 'two')
  const [worker] = it.supervisor.status().workers
  assert.equal(worker?.inFlight ?? null, null)
  const report = await it.supervisor.stop()
  assert.equal(report.outcome, 'clean')
}, {}, { bare: true }))

test('a script that forks: its child keeps neither the worker\'s end nor that of the supervisor waiting', () => world(async it => {
  const { child } = await it.who()
  assert.ok(child)
  try {
    const began = performance.now()
    await it.supervisor.stop('SIGINT')
    assert.ok(performance.now() - began < 9_000)
    assert.deepEqual(it.pids, [])
  } finally {
    if (alive(child)) process.kill(child, 'SIGKILL')
  }
  await until(() => !alive(child), 'the end of the child')
}, { workers: 1 }, { forks: true }))
