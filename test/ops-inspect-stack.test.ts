import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { service, Shared, type Reply, type Service } from './fixtures/ops-inspect-client.ts'
import type { Frame } from '../src/ops/inspect/stack.ts'

const shared = new Shared()
after(() => shared.close())
/** The first look that finds main without work: what it was asked for a moment ago may have something to tidy up. */
async function idle(it: Service): Promise<Reply> {
  for (let i = 0; ; i++) {
    const reply = await it.ask('/stack?waitMs=5000')
    if (reply.json.state !== 'running' || i === 20) return reply
    await sleep(50)
  }
}
const main = (frames: Frame[]) => frames.find(frame => frame.function === 'spinHere')

test('the stack of a main thread in a busy loop names the function, the file and the line', () => shared.with(async it => {
  await it.busy('/spin?ms=20000')
  const { status, json } = await it.ask('/stack?waitMs=5000')
  assert.equal(status, 200)
  assert.equal(json.state, 'running')
  assert.equal(json.busy, true)
  // The innermost may be what it calls.
  const { file, line, column } = main(json.frames as Frame[])!
  assert.match(file, /ops-inspect-service\.ts$/)
  assert.ok(line > 0 && column > 0)
  await it.free()
  assert.equal(await it.get('/'), 'hello')
}))

test('20 stacks of a main thread in a busy loop come fast', t => shared.with(async it => {
  await it.busy('/spin?ms=20000')
  const took: number[] = []
  const inside: number[] = []
  for (let i = 0; i < 20; i++) {
    const { json, ms } = await it.ask('/stack?waitMs=5000')
    assert.equal(json.state, 'running')
    took.push(ms)
    inside.push(json.tookMs as number)
    await sleep(20)
  }
  await it.free()
  for (const list of [took, inside]) list.sort((a, b) => a - b)
  t.diagnostic(`/stack in a busy loop: p50 ${inside[9]} ms, slowest of 20 ${inside[19]} ms; new connection included ${took[9]!.toFixed(1)} and ${took[19]!.toFixed(1)} ms`)
  assert.ok(took[9]! < 1_000)
}))

test('an idle main thread is told at once, and nothing stops the JavaScript that runs next', () => shared.with(async it => {
  await it.get('/')
  const { json, ms } = await idle(it)
  assert.deepEqual([json.state, json.busy, json.frames], ['idle', false, []])
  assert.ok(ms < 4_000)
  assert.equal(await it.get('/'), 'hello')
  assert.equal(await it.get('/debugger'), 'not paused')
}))

test('a main thread in native code is told as such after the wait', () => shared.with(async it => {
  await it.native(async () => {
    const { status, json } = await it.ask('/stack')
    assert.deepEqual([status, json.state, json.busy], [200, 'native', true])
  })
  assert.equal(await it.get('/'), 'hello')
  assert.equal((await idle(it)).json.state, 'idle')
}))

test('no more frames than asked for', () => shared.with(async it => {
  await it.busy('/spin?ms=20000')
  assert.equal((await it.ask('/stack?frames=2&waitMs=5000')).json.frames.length, 2)
  await it.free()
}))

test('the stacks of the application itself are as before', () => shared.with(async it => {
  const before = await it.get('/errors')
  await it.busy('/spin?ms=20000')
  assert.equal((await it.ask('/stack?waitMs=5000&frames=3')).json.state, 'running')
  await it.free()
  assert.equal(await it.get('/errors'), before)
}))

test('a worker that is terminated while it asks leaves the main thread running', () => service(async it => {
  for (let i = 0; i < 5; i++) void it.ask('/stack').catch(() => {})
  void it.get('/terminate').catch(() => {})
  await it.child.says(/worker (\d+)/)
  await sleep(200)
  assert.equal(await it.get('/'), 'hello')
  assert.equal(await it.get('/debugger'), 'not paused')
}))

test('a worker that leaves right after a look does not take the process along', () => service(async it => {
  await Promise.all(Array.from({ length: 5 }, () => it.ask('/stack')))
  await it.get('/leave')
  await it.child.says(/worker (\d+)/)
  await sleep(200)
  assert.equal(await it.get('/'), 'hello')
}))

test('on the main thread itself there is no stack to tell, and a report says why', () => service(async it => {
  const { status, json } = await it.ask('/stack')
  assert.deepEqual([status, json.code], [501, 'ERR_LAMEDUCK_OPS_THREAD'])
  const dump = await it.ask('/dump', undefined, 'GET')
  assert.deepEqual([dump.json.state, dump.json.busy], ['unknown', null])
  assert.match(dump.json.reason, /main thread itself/)
}, 'in-thread'))

test('a report has the stack of a main thread in a busy loop', () => shared.with(async it => {
  await it.busy('/spin?ms=20000')
  const { json } = await it.ask('/dump', undefined, 'GET')
  assert.equal(json.state, 'running')
  assert.ok(main(json.frames as Frame[]))
  await it.free()
}))
