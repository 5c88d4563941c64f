// How long a worker has to drain: what `wrap()` was given, the supervisor's `deadlineMs`, and which of them holds.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { plan, settle } from '../src/core/options.ts'
import { APP, BUILT, freePort, World } from './_cluster.ts'
import { Child } from './_child.ts'
import type { App } from './fixtures/cluster-app.ts'

/** What the first drain was told; the application's own signal handler asks for it once more. */
function firstPlan(plans: string): unknown {
  return JSON.parse(readFileSync(plans, 'utf8').split('\n')[0]!)
}

/** A supervisor of one worker, with a request in flight that is never answered. */
async function hanging(app: Partial<App>, deadlineMs: number | undefined, run: (it: World) => Promise<void>): Promise<void> {
  const it = new World(await freePort(), app)
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
  ['without one of either it is the supervisor\'s 30 s', undefined, undefined, 30_000],
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

for (const [what, own, supervisors] of [['its own, the shorter one', 500, 60_000], ['the supervisor\'s, although it wanted more', 60_000, 500]] as const) {
  test(`a worker that cannot drain ends at ${what}, by itself, and it is told that its drain was cut`, () => hanging({ options: { deadlineMs: own, lameduckMs: 100 } }, supervisors, async it => {
    const report = await it.supervisor.stop()
    assert.deepEqual([report.outcome, report.code], ['forced', 1])
    assert.ok(report.durationMs < 50_000)
    // Not by a signal: it said what it cut, and left.
    assert.deepEqual(it.steps.filter(({ what: step }) => step === 'exited').map(({ why }) => why), ['exit code 1: its drain was cut'])
  }))
}

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
