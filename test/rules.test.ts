import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { Problem } from '../src/ops/http/problem.ts'
import type { Call, Principal, Reply, Route, Scope } from '../src/ops/http/route.ts'
import type { Bench } from '../src/ops/part.ts'
import type { LeakReport, Sample } from '../src/ops/watch/leak-watch.ts'
import { watchPart, type WatchOptions } from '../src/ops/watch/routes.ts'
import { checkRule, type RuleInput } from '../src/ops/watch/rule.ts'
import { Rules, type RuleReport, type RulesLedger } from '../src/ops/watch/rules.ts'
import { samples } from './_leak-series.ts'

const MB = 2 ** 20
const LIMIT = 1_000 * MB

const full: RuleInput = { name: 'full', when: { series: 'usedHeap', overPercent: 70 }, action: 'snapshot' }

/** Rules on a clock that the test sets; what they did. */
function world(perProcess?: number) {
  const acts: string[] = []
  const logged: string[] = []
  const clock = { now: 1_700_000_000_000 }
  const failing = { with: undefined as Error | undefined }
  const rules = new Rules({
    limit: LIMIT, now: () => clock.now, ...(perProcess !== undefined && { perProcess }),
    act: async (rule, { reason }) => {
      if (failing.with) throw failing.with
      acts.push(`${rule.name}: ${reason}`)
      return { job: `job-${acts.length}` }
    },
    log: ({ name }, _, outcome, detail) => logged.push(`${name} ${outcome}${detail ? ` ${detail}` : ''}`),
  })
  const gc = async (usedHeap: number, verdict: 'steady' | 'watch' | 'suspected' = 'steady', more: Partial<Sample> = {}) => {
    rules.look({ at: clock.now, usedHeap: usedHeap * MB, external: 0, arrayBuffers: 0, rss: 0, forced: false, ...more }, verdict)
    await turn()
  }
  return { rules, acts, logged, clock, failing, gc }
}

test('used heap over 70 % of the limit: acts, once', async () => {
  const { rules, acts, logged, gc } = world()
  rules.arm(checkRule(full), 'ann')
  await gc(699)
  assert.deepEqual(acts, [])
  await gc(750)
  await gc(760)
  assert.deepEqual(acts, ['full: usedHeap 750 MB over 70 % of the limit (700 MB)'])
  assert.deepEqual(logged, ['full acts', 'full acted job-1'])
  const [report] = rules.list() as [RuleReport]
  assert.equal(report.state, 'spent')
  assert.equal(report.lastJob, 'job-1')
  assert.equal(report.by, 'ann')
})

test('3 times in 10 minutes: not before the third, and not when they lie further apart', async () => {
  const { rules, acts, clock, gc } = world()
  rules.arm(checkRule({ ...full, times: 3, withinMs: 600_000 }), 'ann')
  for (const pause of [0, 400_000, 400_000, 100_000]) {
    assert.deepEqual(acts, [])
    clock.now += pause
    await gc(800)
  }
  assert.equal(acts.length, 1)
  assert.match(acts[0] ?? '', /3 times in 500 s$/)
})

test('thresholds on rss, external and array buffers in bytes', async () => {
  const { rules, acts, gc } = world()
  for (const series of ['rss', 'external', 'arrayBuffers'] as const) {
    rules.arm(checkRule({ name: series.toLowerCase(), when: { series, overBytes: 10 * MB }, action: 'profile' }), 'ann')
  }
  await gc(1, 'steady', { rss: 11 * MB })
  await gc(1, 'steady', { external: 12 * MB, arrayBuffers: 13 * MB })
  assert.deepEqual(acts, ['rss: rss 11 MB over 10 MB', 'external: external 12 MB over 10 MB', 'arraybuffers: arrayBuffers 13 MB over 10 MB'])
})

test('a profile takes the parameters of POST /heap/profile', () => {
  const params = { seconds: 5, intervalBytes: 65_536 }
  const profile = { name: 'full', when: { series: 'usedHeap', overPercent: 70 }, action: 'profile', params }
  assert.deepEqual(checkRule(profile).params, params)
  assert.throws(() => checkRule(profile, 4), { code: 'ERR_LAMEDUCK_OPS_RULE' })
})

test('a leak rule waits for suspected; only a profile or a log may act on watch', async () => {
  const { rules, acts, gc } = world()
  rules.arm(checkRule({ name: 'leak', when: { leak: 'suspected' }, action: 'snapshot' }), 'ann')
  rules.arm(checkRule({ name: 'early', when: { leak: 'watch' }, action: 'profile' }), 'ann')
  await gc(1, 'watch')
  assert.deepEqual(acts, ['early: leak watch says watch'])
  await gc(1, 'suspected')
  assert.deepEqual(acts.slice(1), ['leak: leak watch says suspected'])
  assert.throws(() => checkRule({ name: 'bad', when: { leak: 'watch' }, action: 'snapshot' }), { code: 'ERR_LAMEDUCK_OPS_RULE', status: 400 })
})

test('cooldown and count hold', async () => {
  const { rules, acts, clock, gc } = world()
  rules.arm(checkRule({ ...full, count: 2, cooldownMs: 60_000 }), 'ann')
  await gc(800)
  await gc(800)
  assert.equal(acts.length, 1)
  assert.equal(rules.list()[0]?.state, 'cooling')
  clock.now += 60_000
  await gc(800)
  clock.now += 60_000
  await gc(800)
  assert.equal(acts.length, 2)
})

test('all rules of a process together act so many times at most; a log does not count', async () => {
  const { rules, acts, logged, gc } = world(2)
  for (const name of ['a', 'b', 'c']) rules.arm(checkRule({ ...full, name }), 'ann')
  rules.arm(checkRule({ ...full, name: 'd', action: 'log' }), 'ann')
  await gc(800)
  assert.equal(acts.length, 2)
  assert.equal(rules.left, 0)
  assert.match(logged.find(line => line.startsWith('c failed')) ?? '', /2 times, their maximum/)
  assert.ok(logged.includes('d acts'))
})

test('an act that fails does not count, and is tried again after the cooldown', async () => {
  const { rules, acts, clock, failing, gc } = world(1)
  rules.arm(checkRule({ ...full, cooldownMs: 60_000 }), 'ann')
  failing.with = new Problem(409, 'ERR_LAMEDUCK_OPS_BUSY', 'bob takes a snapshot')
  await gc(800)
  assert.equal(rules.list()[0]?.lastProblem, 'bob takes a snapshot')
  assert.equal(rules.list()[0]?.acted, 0)
  failing.with = undefined
  await gc(800)
  assert.equal(acts.length, 0)
  clock.now += 60_000
  await gc(800)
  assert.equal(acts.length, 1)
})

test('a refusal is no act: the rule tries again when the refusal says, or a minute later, and not after its whole cooldown', async () => {
  const { rules, acts, clock, failing, gc } = world()
  rules.arm(checkRule(full), 'ann')
  for (const [more, waitMs] of [[{}, 60_000], [{ retryAfterMs: 5_000 }, 5_000]] as const) {
    failing.with = new Problem(429, 'ERR_LAMEDUCK_OPS_COOLDOWN', 'too soon', more)
    await gc(800)
    assert.equal(rules.list()[0]?.lastActedAt, undefined)
    assert.equal(rules.list()[0]?.state, 'cooling')
    failing.with = undefined
    clock.now += waitMs - 1
    await gc(800)
    assert.deepEqual(acts, [])
    clock.now++
  }
  await gc(800)
  assert.equal(acts.length, 1)
  assert.equal(rules.list()[0]?.lastActedAt, new Date(clock.now).toISOString())
})

test('a rule ends after its time to live', async () => {
  const { rules, acts, clock, gc } = world()
  rules.arm(checkRule({ ...full, ttlMs: 1_000 }), 'ann')
  clock.now += 1_000
  await gc(800)
  assert.deepEqual(acts, [])
  assert.deepEqual(rules.list(), [])
})

test('a GC that we forced fulfils no rule: a snapshot does not ask for the next', async () => {
  const { rules, acts, gc } = world()
  rules.arm(checkRule(full), 'ann')
  await gc(800, 'suspected', { forced: true })
  assert.deepEqual(acts, [])
})

test('more than 32 rules are refused, and one of the same name takes the place of the old one', () => {
  const { rules } = world()
  for (let n = 0; n < 32; n++) rules.arm(checkRule({ ...full, name: `r${n}` }), 'ann')
  rules.arm(checkRule({ ...full, name: 'r0', count: 9 }), 'bob')
  assert.equal(rules.list().find(({ name }) => name === 'r0')?.count, 9)
  assert.throws(() => rules.arm(checkRule({ ...full, name: 'r32' }), 'ann'), { code: 'ERR_LAMEDUCK_OPS_RULES_FULL', status: 409 })
})

const wrong: [what: string, rule: unknown, member: string][] = [
  ['no object', 'full', 'rule'],
  ['an unknown member', { ...full, often: 3 }, 'rule.often'],
  ['a name with a slash', { ...full, name: '../x' }, 'name'],
  ['an unknown action', { ...full, action: 'eval' }, 'action'],
  ['no condition', { ...full, when: {} }, 'when'],
  ['two conditions', { ...full, when: { leak: 'suspected', overBytes: 1 } }, 'when'],
  ['a list for a condition', { ...full, when: [] }, 'when'],
  ['an unknown series', { ...full, when: { series: 'heap', overBytes: 1 } }, 'when.series'],
  ['percent of the rss', { ...full, when: { series: 'rss', overPercent: 70 } }, 'when.overPercent'],
  ['170 %', { ...full, when: { series: 'usedHeap', overPercent: 170 } }, 'when.overPercent'],
  ['negative bytes', { ...full, when: { series: 'rss', overBytes: -1 } }, 'when.overBytes'],
  ['bytes as text', { ...full, when: { series: 'rss', overBytes: '10' } }, 'when.overBytes'],
  ['a verdict that is none', { ...full, when: { leak: 'steady' } }, 'when.leak'],
  ['half a time', { ...full, times: 1.5 }, 'times'],
  ['a cooldown of nothing', { ...full, cooldownMs: 0 }, 'cooldownMs'],
  ['a parameter that the action does not know', { ...full, params: { path: '/etc/passwd' } }, 'params.path'],
  ['a parameter of the wrong type', { ...full, params: { redact: 'no' } }, 'params.redact'],
  ['what a profile calls intervalBytes by another name', { ...full, action: 'profile', params: { interval: 65_536 } }, 'params.interval'],
  ['a profile of an hour', { ...full, action: 'profile', params: { seconds: 3_600 } }, 'params.seconds'],
]

for (const [what, rule, member] of wrong) {
  test(`a rule with ${what} is refused, and the answer names the member`, () => {
    assert.throws(() => checkRule(rule), (error: Problem) => {
      assert.equal(error.status, 400)
      assert.equal(error.code, 'ERR_LAMEDUCK_OPS_RULE')
      assert.equal(error.more['member'], member)
      return true
    })
  })
}

/** A part with its routes, and a way to call them as one with scopes. */
function part(options: Partial<WatchOptions> = {}) {
  const listeners = new Set<(sample: Sample) => void>()
  const audited: Record<string, unknown>[] = []
  const acts: string[] = []
  const audit = { write: async (entry: Record<string, unknown>) => void audited.push(entry), recent: () => [], close: async () => {} }
  const made = watchPart({
    onMajor: listener => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    act: async ({ name }) => ({ job: `job-${acts.push(name)}` }),
    limit: LIMIT,
    ...options,
  })({ audit, main: { tell: () => {}, offer() {} } } as unknown as Bench)
  const call = async (method: Route['method'], path: string, params: Record<string, unknown> = {}, scopes: Scope[] = ['read', 'control']) => {
    const route = made.routes.find(route => route.method === method && route.path === path) as Route
    const who: Principal = { name: 'ann', scopes: new Set(scopes), from: 'unix' }
    return await route.handler({ params, who, note: () => {} } as unknown as Call) as Reply
  }
  const hear = (values: readonly number[]) => {
    for (const sample of samples(values)) for (const listener of listeners) listener(sample)
  }
  return { ...made, call, hear, listeners, audited, acts }
}

test('GET /leaks: the verdict, per series and in all; and as text', async () => {
  const { call, hear, close } = part()
  hear(Array.from({ length: 150 }, (_, n) => (100 + n) * MB))
  const report = (await call('GET', '/leaks')).json as LeakReport
  assert.equal(report.verdict, 'suspected')
  assert.deepEqual(Object.keys(report.series), ['usedHeap', 'arrayBuffers', 'external', 'rss'])
  const { body, type } = await call('GET', '/leaks', { format: 'text' })
  assert.equal(type, 'text/plain; charset=utf-8')
  assert.match(body as string, /^suspected \(150 major GCs/)
  assert.match(body as string, /usedHeap +suspected .*does not slow down\n +1\.0 MB per GC, 120\.0 MB per hour, confidence 100 %/)
  await close?.()
})

test('PUT /rules/{name} arms, GET shows, DELETE disarms, a second DELETE is 404', async () => {
  const { call } = part()
  const { json } = await call('PUT', '/rules/{name}', { name: 'full', when: full.when, action: 'log', times: undefined })
  assert.equal((json as RuleReport).cooldownMs, 3_600_000)
  const { rules, left } = (await call('GET', '/rules')).json as { rules: RuleReport[]; left: number }
  assert.deepEqual(rules.map(({ name, by, state }) => [name, by, state]), [['full', 'ann', 'armed']])
  assert.equal(left, 10)
  assert.equal((await call('DELETE', '/rules/{name}', { name: 'full' })).status, 204)
  await assert.rejects(call('DELETE', '/rules/{name}', { name: 'full' }), { status: 404, code: 'ERR_LAMEDUCK_OPS_NO_RULE' })
})

test('a rule that takes snapshots needs scope diag; of what is not redacted, secrets', async () => {
  const { call } = part()
  const params = { name: 'raw', when: full.when, action: 'snapshot', params: { redact: false } }
  for (const scopes of [['control'], ['control', 'secrets'], ['control', 'diag']] as const) {
    await assert.rejects(call('PUT', '/rules/{name}', params, [...scopes]), { status: 403, code: 'ERR_LAMEDUCK_OPS_SCOPE' })
  }
  await call('PUT', '/rules/{name}', params, ['control', 'diag', 'secrets'])
})

test('a rule armed from code acts on a leak, and the audit trail has it', async () => {
  const { acts, audited, hear } = part({ rules: [{ name: 'leak', when: { leak: 'suspected' }, action: 'snapshot' }] })
  hear(Array.from({ length: 150 }, (_, n) => (100 + n) * MB))
  await turn()
  assert.deepEqual(acts, ['leak'])
  assert.deepEqual(audited.map(({ event, who, outcome, detail }) => [event, who, outcome, detail]), [
    ['rule', 'rule:leak', 'acts', undefined], ['rule', 'rule:leak', 'acted', 'job-1'],
  ])
})

test('a wrong rule in code: ERR_LAMEDUCK_OPTION at the start', () => {
  assert.throws(() => part({ rules: [{ ...full, times: 0 }] }), { code: 'ERR_LAMEDUCK_OPTION', message: /times/ })
})

test('a part that closes listens no more', async () => {
  const { close, listeners } = part()
  assert.equal(listeners.size, 1)
  await close?.()
  assert.equal(listeners.size, 0)
})

test('after a crash of the thread that looked after them, rules have acted as often as before', async () => {
  const kept: RulesLedger[] = []
  const act = async () => ({ job: 'job' })
  const gc = { forced: false, usedHeap: 800 * MB, at: 1 } as Sample
  const before = new Rules({ act, limit: 1_000 * MB, perProcess: 1, onLedger: ledger => kept.push(structuredClone(ledger)) })
  before.arm(checkRule(full), 'code')
  before.look(gc, 'steady')
  await turn()
  const again: string[] = []
  const rules = new Rules({ act: async ({ name }) => (again.push(name), { job: 'job' }), limit: 1_000 * MB, perProcess: 1, ledger: kept.at(-1) })
  assert.deepEqual(rules.list().map(({ name, by, state, acted, lastJob }) => [name, by, state, acted, lastJob]), [['full', 'code', 'spent', 1, 'job']])
  assert.equal(rules.left, 0)
  rules.look({ ...gc, at: 2 }, 'steady')
  await turn()
  assert.deepEqual(again, [])
})
