import assert from 'node:assert/strict'
import { after, test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { actor } from '../src/ops/actor.ts'
import { openArtifacts } from '../src/ops/heap/artifacts.ts'
import { createJobs } from '../src/ops/heap/jobs.ts'
import { connector, settled } from '../src/ops/inspect/inspector.ts'
import { heapProfile } from '../src/ops/inspect/profile.ts'
import { HeapSampler } from '../src/ops/inspect/sampler.ts'
import { ops } from '../src/ops/index.ts'
import { DEFAULTS } from '../src/ops/options.ts'
import type { Bench } from '../src/ops/part.ts'
import type { Why } from '../src/ops/watch/rules.ts'
import { checkRule } from '../src/ops/watch/rule.ts'
import { folder } from './_ops-door.ts'

after(settled)

const early = checkRule({ name: 'early', when: { leak: 'watch' }, action: 'profile', params: { seconds: 1 } })

/** The leak watch and a rule, on this very thread. */
async function world(t: TestContext) {
  const connect = connector(false)
  const artifacts = await openArtifacts({ ...DEFAULTS.files, freeBytes: 0, dir: folder() })
  const jobs = createJobs({ cooldownMs: 0, perDay: 10 })
  const bench = { connect, settings: DEFAULTS, sampler: new HeapSampler(connect), artifacts, jobs } as unknown as Bench
  const it = actor(bench, { sampleMs: 100 })
  // The watch keeps no process alive.
  const alive = setInterval(() => {}, 1_000)
  const rule = async () => jobs.ended((await it.act(early, {} as Why)).job)
  t.after(async () => {
    clearInterval(alive)
    await jobs.close()
    it.end()
    await artifacts.close()
  })
  return { ...it, bench, jobs, rule }
}

test('a rule on `watch` has its profile while the leak watch samples, and ends nothing of that', async t => {
  const { profile, rule } = await world(t)
  // One GC tells both, the watch first; and later ones the rule alone.
  const [first, at] = await Promise.all([profile(), rule()])
  assert.ok(first.head)
  assert.equal(at.state, 'done', JSON.stringify(at.problem))
  const later = await rule()
  assert.equal(later.state, 'done', JSON.stringify(later.problem))
  assert.ok((await profile()).head)
})

test('a second profile of the leak watch that comes while a rule samples does not end that', async t => {
  const { profile, rule } = await world(t)
  await profile()
  const job = rule()
  await sleep(200)
  await profile()
  assert.equal((await job).state, 'done')
  // Nothing is left on: who wants it alone has it.
  const again = await rule()
  assert.equal(again.state, 'done')
})

test('the leak watch waits for a profile that somebody takes', async t => {
  const { profile, bench: { artifacts, jobs, sampler } } = await world(t)
  const { id } = jobs.start('heap-profile', { name: 'ann', from: 'unix' }, true, work => (
    heapProfile(sampler, artifacts, { seconds: 1, intervalBytes: 1_024, format: 'heapprofile', by: 'ann' }, work)
  ))
  await sleep(100)
  assert.ok((await profile()).head)
  assert.equal(jobs.get(id)?.state, 'done')
})

test('heavy.profileSeconds bounds the default of a profile, and what a rule asks for', async () => {
  const options = { thread: false, listen: false, audit: false } as const
  await using endpoint = await ops({ ...options, heavy: { profileSeconds: 5 } }).ready
  await assert.rejects(endpoint.rules.arm({ ...early, params: { seconds: 6 } }), { code: 'ERR_LAMEDUCK_OPS_RULE' })
  assert.equal((await endpoint.rules.arm({ ...early, params: { seconds: 5 } })).state, 'armed')
  for (const profileSeconds of [0, 0.5, 12.5, 3_601]) assert.throws(() => ops({ ...options, heavy: { profileSeconds } }), { code: 'ERR_LAMEDUCK_OPTION' })
})
