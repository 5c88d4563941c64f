// How long a worker has to drain: what `wrap()` was given, the supervisor's `deadlineMs`, and which of them holds.
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { settle as settleCluster } from '../src/cluster/options.ts'
import { plan, settle } from '../src/core/options.ts'
import { APP, BUILT, freePort, until, World } from './_cluster.ts'
import { Child } from './_child.ts'
import type { App } from './fixtures/cluster-app.ts'

/** How the first drain was to go, which is the one that counts; the application's own signal handler asks for it once more. */
function firstPlan(plans: string): { reason: string; deadlineMs: number } {
  const { reason, deadlineMs } = JSON.parse(readFileSync(plans, 'utf8').split('\n')[0]!) as { reason: string; deadlineMs: number }
  return { reason, deadlineMs }
}

/** A drain has begun. */
async function begun(plans: string): Promise<void> {
  await until(() => existsSync(plans) && readFileSync(plans, 'utf8').includes('\n'), 'a drain')
}

/** A supervisor of one worker, with a request in flight that is never answered. */
async function hanging(app: Partial<App>, deadlineMs: number | undefined, run: (it: World) => Promise<void>): Promise<void> {
  const it = new World(await freePort(), app)
  it.app.plans = join(it.folder, 'plans')
  try {
    await it.start({ workers: 1, deadlineMs: deadlineMs as number }).ready
    const client = await it.use()
    client.request('/hang')
    await run(it)
    client.destroy()
  } finally {
    await it.close()
  }
}

for (const [what, own, supervisors, holds] of [
  ['without one of its own a worker has all the time of the supervisor, also more than the default of wrap()', undefined, 60_000, 60_000],
  ['without one of either it is 25 s, as without a supervisor', undefined, undefined, 25_000],
  ['what wrap() was given holds where it is less', 8_000, 60_000, 8_000],
  ['a worker that wants more than it gets is told so, and not cut off in its belief', 60_000, 9_000, 9_000],
] as const) {
  test(`a deadline: ${what}`, async () => {
    const it = new World(await freePort(), {})
    const plans = join(it.folder, 'plans')
    it.app = { ...it.app, plans, ...(own === undefined ? { noDeadline: true } : { options: { deadlineMs: own } }) }
    try {
      await it.start({ workers: 1, deadlineMs: supervisors as number }).ready
      assert.equal((await it.supervisor.stop()).outcome, 'clean')
      assert.deepEqual(firstPlan(plans), { reason: 'SIGTERM', deadlineMs: holds })
    } finally {
      await it.close()
    }
  })
}

for (const [what, own, supervisors] of [['its own, the shorter one', 500, 60_000], ['the supervisor\'s, although it wanted more', 60_000, 2_000]] as const) {
  test(`a worker that cannot drain ends at ${what}, by itself, and it is told that its drain was cut`, () => hanging({ options: { deadlineMs: own, lameduckMs: 100 } }, supervisors, async it => {
    const report = await it.supervisor.stop()
    assert.deepEqual([report.outcome, report.code], ['forced', 1])
    assert.ok(report.durationMs < 50_000)
    assert.equal(firstPlan(join(it.folder, 'plans')).deadlineMs, Math.min(own, supervisors))
    // Not by a signal: it said what it cut, and left. On a busy machine a second late, which is then what is said of it.
    const [why, ...more] = it.steps.filter(({ what: step }) => step === 'exited').map(step => step.why)
    assert.match(String(why), /^exit code 1: its drain was cut$|: it was still there after its deadline of 2000 ms$/)
    assert.deepEqual(more, [])
  }))
}

// Ctrl-C at a terminal and systemd's KillMode=control-group reach the whole group; `kill <pid>` and `app.close()` one worker.
test('a signal that a worker hears before its supervisor\'s message begins a drain with all the time of that one', async () => {
  const it = new World(await freePort(), { noDeadline: true })
  const plans = join(it.folder, 'plans')
  it.app = { ...it.app, plans }
  try {
    await it.start({ workers: 1, deadlineMs: 60_000 }).ready
    process.kill(it.pids[0]!, 'SIGINT')
    await begun(plans)
    await it.supervisor.stop('SIGINT')
    assert.deepEqual(firstPlan(plans), { reason: 'SIGINT', deadlineMs: 60_000 })
  } finally {
    await it.close()
  }
})

test('a signal that a worker hears before its supervisor\'s message: at the supervisor\'s deadline it says what it cut and leaves, before a second signal', async () => {
  const it = new World(await freePort(), { options: { deadlineMs: 60_000 } })
  const plans = join(it.folder, 'plans')
  it.app = { ...it.app, plans }
  try {
    await it.start({ workers: 1, deadlineMs: 3_000 }).ready
    const [pid] = it.pids
    const client = await it.use()
    client.request('/hang')
    await client.flushed()
    process.kill(pid!, 'SIGINT')
    await begun(plans)
    // So much earlier than the supervisor's SIGTERM it ends by itself, however busy the machine is.
    await sleep(1_500)
    assert.equal((await it.supervisor.stop('SIGINT')).outcome, 'forced')
    assert.deepEqual(firstPlan(plans), { reason: 'SIGINT', deadlineMs: 3_000 })
    assert.match(String(it.steps.find(step => step.what === 'exited' && step.pid === pid)?.why), /^exit code 1: /)
    client.destroy()
  } finally {
    await it.close()
  }
})

test('a drain that nobody told how long it may take has its supervisor\'s deadline, or its own where that is less', () => {
  const key = Symbol.for('lameduck.supervisedDeadlineMs')
  const deadline = (options: object, how: object = {}) => plan(how, settle(options)).deadlineMs
  const scope = globalThis as { [key: symbol]: number }
  try {
    scope[key] = 60_000
    assert.deepEqual([deadline({}), deadline({ deadlineMs: 8_000 }), deadline({ deadlineMs: 90_000 })], [60_000, 8_000, 60_000])
    // Whoever says so for one drain means it.
    assert.equal(deadline({}, { deadlineMs: 70_000 }), 70_000)
    scope[key] = 0
    assert.equal(deadline({}), 0)
  } finally {
    delete scope[key]
  }
  assert.deepEqual([deadline({}), deadline({ deadlineMs: 8_000 }), deadline({ deadlineMs: 90_000 })], [25_000, 8_000, 90_000])
})

test('a worker whose supervisor was killed keeps to that one\'s deadline', async () => {
  const it = new World(await freePort(), {})
  const plans = join(it.folder, 'plans')
  const app: App = { port: it.port, plans, options: { deadlineMs: 60_000, lameduckMs: 100 } }
  const options = { script: APP, workers: 1, execArgv: [], control: false, readyMs: 0, deadlineMs: 700 }
  const child = new Child('cluster-run.ts', [BUILT, JSON.stringify(options)], { env: { APP: JSON.stringify(app) } })
  try {
    await child.says(/^ready (\d+)/m)
    const client = await it.use()
    client.request('/hang')
    child.kill('SIGKILL')
    await client.ended()
    assert.deepEqual(firstPlan(plans), { reason: 'the supervisor is gone', deadlineMs: 700 })
  } finally {
    await child.close()
    await it.close()
  }
})

test('a lame duck is not shortened by a deadline that leaves no less time than that of wrap()', () => {
  const lameduck = (options: object, deadlineMs: number) => plan({ deadlineMs }, settle(options)).lameduckMs
  assert.equal(lameduck({ lameduckMs: 20_000 }, 30_000), 20_000)
  assert.equal(lameduck({ lameduckMs: 6_000, deadlineMs: 8_000 }, 8_000), 6_000)
  assert.equal(lameduck({ lameduckMs: 6_000, deadlineMs: 8_000 }, 4_000), 2_000)
  assert.equal(lameduck({ deadlineMs: 0 }, 0), 0)
})

test('the longest deadline that there can be leaves time for what comes after it: nobody is killed at once', () => {
  const { deadlineMs } = settleCluster({ script: 'x', deadlineMs: 2 ** 31 - 1 })
  assert.ok(deadlineMs > 2 ** 30 && deadlineMs + 2_000 < 2 ** 31, String(deadlineMs))
})
