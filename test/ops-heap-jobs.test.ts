import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createJobs } from '../src/ops/heap/jobs.ts'
import { Problem } from '../src/ops/http/problem.ts'

const ANN = { name: 'ann', from: '127.0.0.1:1' }
const BOB = { name: 'bob', from: '127.0.0.1:2' }

/** Work that ends when it is told to, and a clock that stands still. */
function world(options: { cooldownMs?: number; perDay?: number } = {}) {
  let clock = Date.UTC(2026, 0, 1)
  const jobs = createJobs({ cooldownMs: 1_000, perDay: 50, ...options, now: () => clock })
  const open = () => {
    let [end, fail] = [(_value?: unknown) => {}, (_error: unknown) => {}]
    const work = new Promise((resolve, reject) => {
      [end, fail] = [resolve, reject]
    })
    return { end, fail, work }
  }
  return { jobs, open, pass: (ms: number) => { clock += ms } }
}

test('a second heavy job is told who has the first, and since when', async () => {
  const { jobs, open } = world()
  const first = open()
  const { id } = jobs.start('heap-snapshot', ANN, true, () => first.work)
  assert.throws(() => jobs.start('cpu-profile', BOB, true, async () => {}), (error: Problem) =>
    error.status === 409 && error.code === 'ERR_LAMEDUCK_OPS_BUSY' && error.more.by === 'ann' && error.more.since === '2026-01-01T00:00:00.000Z')
  assert.equal(jobs.start('light', BOB, false, async () => {}).state, 'running')
  first.end('result')
  assert.deepEqual(await jobs.ended(id), {
    id, kind: 'heap-snapshot', by: 'ann', state: 'done', phase: 'done', result: 'result',
    startedAt: '2026-01-01T00:00:00.000Z', endedAt: '2026-01-01T00:00:00.000Z',
  })
})

test('between two heavy jobs there is a pause, and how much of it is left is said', async () => {
  const { jobs, pass } = world()
  const { id } = jobs.start('a', ANN, true, async () => {})
  await jobs.ended(id)
  pass(400)
  assert.throws(() => jobs.start('b', ANN, true, async () => {}), { status: 429, code: 'ERR_LAMEDUCK_OPS_COOLDOWN', more: { retryAfterMs: 600 } })
  pass(600)
  jobs.start('b', ANN, true, async () => {})
})

test('a day has so many heavy jobs, and the first of them makes room a day later', async () => {
  const { jobs, pass } = world({ perDay: 2, cooldownMs: 0 })
  for (const kind of ['a', 'b']) {
    await jobs.ended(jobs.start(kind, ANN, true, async () => {}).id)
    pass(1_000)
  }
  assert.throws(() => jobs.start('c', ANN, true, async () => {}), { status: 429, code: 'ERR_LAMEDUCK_OPS_BUDGET', more: { retryAfterMs: 86_400_000 - 2_000 } })
  pass(86_400_000 - 2_000)
  jobs.start('c', ANN, true, async () => {})
})

test('a job that was refused before it did anything costs neither the pause nor the budget', async () => {
  const { jobs } = world({ perDay: 1 })
  const { id } = jobs.start('a', ANN, true, async work => {
    work.refund()
    throw new Problem(507, 'ERR_LAMEDUCK_OPS_HEADROOM', 'too little', { need: 2 })
  })
  const { state, problem } = await jobs.ended(id)
  assert.equal(state, 'failed')
  assert.deepEqual(problem, { type: 'about:blank', title: 'Insufficient Storage', status: 507, code: 'ERR_LAMEDUCK_OPS_HEADROOM', detail: 'too little', need: 2 })
  await jobs.ended(jobs.start('b', ANN, true, async () => {}).id)
  assert.throws(() => jobs.start('c', ANN, true, async () => {}), { status: 429 })
})

test('a cancelled job is over when its work is, and only then another may begin', async () => {
  const { jobs, open } = world({ cooldownMs: 0 })
  const work = open()
  const { id } = jobs.start('a', ANN, true, () => work.work)
  assert.equal(jobs.cancel(id), true)
  assert.throws(() => jobs.start('b', ANN, true, async () => {}), { code: 'ERR_LAMEDUCK_OPS_BUSY' })
  work.fail(new Error('aborted'))
  const { state, problem } = await jobs.ended(id)
  assert.equal(state, 'cancelled')
  assert.equal(problem?.code, 'ERR_LAMEDUCK_OPS_CANCELLED')
  assert.equal(jobs.cancel(id), false)
  jobs.start('b', ANN, true, async () => {})
})

test('phase and progress are seen while it runs', async () => {
  const { jobs, open } = world()
  const work = open()
  const { id } = jobs.start('a', ANN, false, async ({ progress }) => {
    progress('redacting', 0.5)
    await work.work
  })
  await new Promise(resolve => setImmediate(resolve))
  assert.equal(jobs.get(id)?.phase, 'redacting')
  assert.equal(jobs.get(id)?.progress, 0.5)
  work.end()
  assert.equal((await jobs.ended(id)).progress, undefined)
})

test('what a job throws is in its report, as a problem', async () => {
  const { jobs } = world()
  const { id } = jobs.start('a', ANN, false, async () => {
    throw new TypeError('broken')
  })
  const { problem } = await jobs.ended(id)
  assert.deepEqual([problem?.status, problem?.code, problem?.detail], [500, 'ERR_LAMEDUCK_OPS_FAILED', 'broken'])
})

test('the last 50 jobs are remembered, and one that still runs is never forgotten', async () => {
  const { jobs, open } = world()
  const work = open()
  const { id } = jobs.start('long', ANN, false, () => work.work)
  for (let at = 0; at < 60; at++) await jobs.ended(jobs.start(`job ${at}`, ANN, false, async () => {}).id)
  assert.equal(jobs.list().length, 50)
  assert.equal(jobs.list()[0]?.id, id)
  assert.equal(jobs.list().at(-1)?.kind, 'job 59')
  await assert.rejects(jobs.ended('unknown'), { status: 404, code: 'ERR_LAMEDUCK_OPS_NOT_FOUND' })
  work.end()
})

test('closing cancels what runs, waits for it and takes nothing new', async () => {
  const { jobs } = world()
  const { id } = jobs.start('a', ANN, true, ({ signal }) => new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error))
  }))
  await new Promise(resolve => setImmediate(resolve))
  await jobs.close()
  assert.equal(jobs.get(id)?.state, 'cancelled')
  assert.throws(() => jobs.start('b', ANN, false, async () => {}), { status: 503, code: 'ERR_LAMEDUCK_OPS_CLOSED' })
})

test('beginning and end of each job are told to the audit', async () => {
  const told: string[] = []
  const jobs = createJobs({ cooldownMs: 0, perDay: 1, onChange: ({ kind, state, by }, from) => told.push(`${kind} ${state} ${by} ${from}`) })
  await jobs.ended(jobs.start('a', ANN, true, async () => {}).id)
  assert.deepEqual(told, ['a running ann 127.0.0.1:1', 'a done ann 127.0.0.1:1'])
})
