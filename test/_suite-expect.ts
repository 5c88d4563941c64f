import assert from 'node:assert/strict'
import { release } from './_app.ts'
import { assertLast, quiet, scenario, turns } from './_scenario.ts'
import type { World } from './_world.ts'

const EXPECT = { Expect: '100-continue', 'Content-Length': '4' }

/** `Expect: 100-continue` (RFC 9110 §10.1.1), and what `admit` refuses. */
export function expects(world: World): void {
  scenario(world, 'a body that was asked for with 100 before the drain is taken, and the request answered', { row: 19 }, async s => {
    const client = await s.warm()
    client.request('/body', { method: 'POST', headers: EXPECT })
    assert.equal(await client.interimAnswer(), 100)
    void s.drain()
    await quiet()
    client.write('body')
    assert.equal((await assertLast(client)).text, '4')
  })

  scenario(world, 'Expect: 100-continue in the drain is served: 100, then 200 with close', { row: 19 }, async s => {
    const client = await s.warm()
    void s.drain()
    client.request('/body', { method: 'POST', headers: EXPECT })
    assert.equal(await client.interimAnswer(), 100)
    client.write('body')
    assert.equal((await assertLast(client)).text, '4')
  })

  const reject = { needs: ['admit'] as const, options: { admit: 'reject' as const, quietMs: 3_000, retryAfterMs: 7_001 } }

  scenario(world, 'admit: reject answers 503 with Retry-After and close, and executes nothing', reject, async s => {
    const client = await s.warm()
    const busy = await s.warm()
    const held = busy.request('/gate')
    await s.executing()
    const drained = s.drain()
    await turns()
    client.request('/', { method: 'POST', body: 'x' })
    const answer = await assertLast(client, 503)
    assert.equal(answer.header('retry-after'), '8')
    release(held)
    assert.equal((await assertLast(busy)).text, 'gate', 'what was in flight is served')
    const report = await drained
    assert.equal(report?.rejected, 1)
    assert.equal(report?.outcome, 'clean')
    assert.equal(s.site.executed.length, 3)
  })

  scenario(world, 'admit: reject answers Expect: 100-continue with the 503 and no 100', { ...reject, row: 19 }, async s => {
    const client = await s.warm()
    void s.drain()
    await turns()
    client.request('/body', { method: 'POST', headers: EXPECT })
    await assertLast(client, 503)
    assert.deepEqual(client.interim, [])
    assert.equal(s.site.executed.length, 1)
  })

  scenario(world, 'admit: reject answers HEAD without a body', reject, async s => {
    const client = await s.warm()
    void s.drain()
    await turns()
    client.request('/', { method: 'HEAD' })
    await assertLast(client, 503)
    assert.equal(client.answers.length, 2)
  })

  scenario(world, 'admit: a predicate decides about each request', {
    needs: ['admit'],
    options: { admit: req => req.method === 'GET', quietMs: 3_000 },
  }, async s => {
    const [get, post] = [await s.warm(), await s.warm()]
    void s.drain()
    await turns()
    get.request('/')
    post.request('/', { method: 'POST', body: 'x' })
    await assertLast(get, 200)
    await assertLast(post, 503)
  })

  scenario(world, 'admit: a predicate that throws lets the request be served', {
    needs: ['admit'],
    options: {
      admit: () => {
        throw new Error('thrown by the predicate')
      },
      quietMs: 3_000,
    },
  }, async s => {
    const client = await s.warm()
    void s.drain()
    await turns()
    client.request('/')
    await assertLast(client, 200)
  })

  scenario(world, 'admit: a body refused in the middle of a pipeline closes behind the 503', reject, async s => {
    const client = await s.warm()
    const held = client.request('/gate')
    await s.executing()
    void s.drain()
    await turns()
    client.request('/', { method: 'POST', body: 'refused' })
    await turns()
    release(held)
    const answers = await client.rest()
    assert.equal(answers[0]?.text, 'gate', 'what was in flight is answered')
    if (answers[1]) assert.equal(answers[1].status, 503)
    assert.equal(client.end, 'fin')
    assert.equal(s.site.executed.length, 2)
  })
}
