import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { Sample } from '../src/ops/watch/leak-watch.ts'
import { checkRule } from '../src/ops/watch/rule.ts'
import { Rules, type RuleReport } from '../src/ops/watch/rules.ts'

const MB = 2 ** 20

for (const [state, problem, says] of [
  ['failed', { detail: 'requests are in flight' }, 'job j1 failed: requests are in flight'],
] as const) {
  test(`a job that is ${state} is no act: it is given back, its reason is told, and the rule rests for its cooldown`, async () => {
    const clock = { now: 1_000 }
    let end!: (report: { state: 'done' | 'failed' | 'cancelled'; problem?: Record<string, unknown> }) => void
    const act = async () => ({ job: 'j1', ended: new Promise<Parameters<typeof end>[0]>(resolve => (end = resolve)) })
    const rules = new Rules({ act, limit: 1_000 * MB, perProcess: 1, now: () => clock.now })
    rules.arm(checkRule({ name: 'full', when: { series: 'usedHeap', overPercent: 70 }, action: 'snapshot' }), 'ann')
    const gc = async () => {
      rules.look({ at: clock.now, usedHeap: 800 * MB, forced: false } as Sample, 'steady')
      await turn()
    }
    await gc()
    assert.deepEqual([rules.list()[0]?.state, rules.left], ['spent', 0])
    end({ state, problem })
    await turn()
    const [{ acted, lastProblem, lastActedAt, lastJob, state: now } = {} as RuleReport] = rules.list()
    assert.deepEqual([acted, lastProblem, lastActedAt, lastJob, now, rules.left], [0, says, undefined, 'j1', 'cooling', 1])
    clock.now += 3_600_000
    await gc()
    end({ state: 'done' })
    await turn()
    assert.deepEqual(rules.list().map(({ state, acted }) => [state, acted]), [['spent', 1]])
  })
}

for (const [state, acts] of [['failed', 4], ['cancelled', 1]] as const) test(`a job that is ${state} each time it is tried is tried ${acts} times in all: each may have cost what a snapshot costs`, async () => {
  const clock = { now: 1_000 }
  let begun = 0
  const rules = new Rules({ act: async () => ({ job: `j${++begun}`, ended: Promise.resolve({ state, problem: { detail: 'no space' } }) }), limit: 1_000 * MB, now: () => clock.now })
  rules.arm(checkRule({ name: 'full', when: { series: 'usedHeap', overPercent: 70 }, action: 'snapshot' }), 'ann')
  for (let hour = 0; hour < 24; hour++) {
    rules.look({ at: clock.now, usedHeap: 800 * MB, forced: false } as Sample, 'steady')
    await turn()
    clock.now += 3_600_000
  }
  assert.equal(begun, acts)
  assert.deepEqual([rules.list()[0]?.state, rules.left], ['spent', 9])
})
