import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { Call, Route } from '../src/ops/http/route.ts'
import type { Bench } from '../src/ops/part.ts'
import { Growers } from '../src/ops/watch/growers.ts'
import type { Sample } from '../src/ops/watch/leak-watch.ts'
import { diffProfiles, type HeapProfile, type HeapProfileNode } from '../src/ops/watch/profile-diff.ts'
import { watchPart, type LeaksReply } from '../src/ops/watch/routes.ts'
import { samples } from './_leak-series.ts'

const MB = 2 ** 20

function node(functionName: string, selfSize: number, children: HeapProfileNode[] = []): HeapProfileNode {
  return { callFrame: { functionName, url: functionName && 'app.js', lineNumber: 9, columnNumber: 4 }, selfSize, children }
}

const profile = (...children: HeapProfileNode[]): HeapProfile => ({ head: node('(root)', 0, children) })

test('two profiles: the stacks that grew, the most first, innermost frame first', () => {
  const first = profile(node('serve', 10, [node('render', 500), node('cache', 100)]), node('boot', 900))
  // V8 gives one function a node for each way to it; the same way twice adds up.
  const second = profile(node('serve', 10, [node('render', 450), node('cache', 700), node('cache', 200)]), node('boot', 900), node('late', 300))
  assert.deepEqual(diffProfiles(first, second), [
    { stack: ['cache (app.js:10:5)', 'serve (app.js:10:5)'], before: 100, after: 900, grew: 800 },
    { stack: ['late (app.js:10:5)'], before: 0, after: 300, grew: 300 },
  ])
  assert.equal(diffProfiles(first, second, 1).length, 1)
  assert.deepEqual(diffProfiles(second, second), [])
})

test('a profile as deep as a recursion of 20,000 is compared', () => {
  let deep = node('f', 8)
  for (let n = 0; n < 20_000; n++) deep = node('f', 0, [deep])
  assert.equal(diffProfiles(profile(), profile(deep))[0]?.grew, 8)
})

test('on watch two profiles are taken and the stacks that grew stand in /leaks', async () => {
  const profiles = [profile(node('cache', 1)), profile(node('cache', 5))]
  const growers = new Growers({ profile: async () => profiles.shift() as HeapProfile, apartMs: 1 })
  await Promise.all([growers.look(), growers.look()])
  assert.deepEqual(growers.latest?.stacks?.map(({ grew }) => grew), [4])
  await growers.look()
  assert.equal(growers.latest?.stacks?.length, 1)
  const failing = new Growers({ profile: async () => Promise.reject(new Error('the main thread did not answer')), apartMs: 1 })
  await failing.look()
  assert.equal(failing.latest?.problem, 'the main thread did not answer')
})

test('a pair of profiles that came to nothing is tried again after 10 minutes, without another verdict', async t => {
  const clock = { now: 1 }
  t.mock.method(Date, 'now', () => clock.now)
  let tried = 0
  let major!: (sample: Sample) => void
  const { routes } = watchPart({
    onMajor: listener => {
      major = listener
      return () => {}
    },
    act: async () => ({ job: 'job' }),
    limit: 1_000 * MB,
    profile: () => Promise.reject(new Error(`no ${++tried}`)),
  })({ audit: {}, main: { tell: () => {}, offer() {} } } as unknown as Bench)
  const route = routes.find(({ path }) => path === '/leaks') as Route
  const leaks = async () => (await route.handler({ params: {} } as unknown as Call) as { json: LeaksReply }).json
  const leak = samples(Array.from({ length: 152 }, (_, n) => (100 + n) * MB))
  for (const sample of leak.slice(0, 150)) major(sample)
  await turn()
  const { verdict, grown } = await leaks()
  assert.deepEqual([verdict, grown], ['suspected', { from: 1, problem: 'no 1' }])
  clock.now += 599_999
  major(leak[150] as Sample)
  await turn()
  assert.equal(tried, 1)
  clock.now++
  major(leak[151] as Sample)
  await turn()
  assert.deepEqual((await leaks()).grown, { from: 600_001, problem: 'no 2' })
})

test('a stop ends the wait between two profiles', async () => {
  let taken = 0
  const growers = new Growers({ profile: async () => profile(node('cache', ++taken)), apartMs: 600_000 })
  const looking = growers.look()
  await turn()
  growers.stop()
  await looking
  assert.equal(taken, 1)
})
