import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { release } from './_app.ts'
import { assertCloses, assertKeeps, scenario, turns } from './_scenario.ts'
import { Stopwatch } from './_stopwatch.ts'
import type { World } from './_world.ts'

const slow = (ms: number) => ({ path: `/slow?ms=${ms}` })

/** Several requests on one connection at a time (RFC 9112 §9.3.2). A client discards all that it sent behind a `close`. */
export function pipelines(world: World): void {
  scenario(world, 'three pipelined: all are answered in order, and only the last says close', { row: 16 }, async s => {
    const client = await s.warm()
    const ids = client.pipeline([{ path: '/gate' }, { path: '/' }, { path: '/gate' }])
    await s.executing()
    void s.drain()
    await turns()
    for (const id of ids.toReversed()) release(id)
    const answers = await client.rest()
    assert.deepEqual(client.answered.slice(1), ids)
    assertKeeps(answers[0]!)
    assertCloses(answers[2]!)
    assert.equal(client.end, 'fin')
  })

  scenario(world, 'three pipelined that wait in the kernel: all answered, only the last says close', { row: 16 }, async s => {
    const client = await s.warm()
    const ids = client.pipeline([slow(50), slow(50), slow(50)])
    void s.drain()
    const answers = await client.rest()
    assert.deepEqual(client.answered.slice(1), ids)
    assertKeeps(answers[0]!)
    assertKeeps(answers[1]!)
    assertCloses(answers[2]!)
  })

  scenario(world, 'pipelined to a handler that answers at once: what is executed is answered', { row: 16 }, async s => {
    const client = await s.warm()
    client.pipeline([{ path: '/' }, { path: '/' }, { path: '/' }])
    void s.drain()
    const answers = await client.rest()
    assert.equal(client.end, 'fin')
    assert.ok(answers.length >= 1)
    assertCloses(answers.at(-1)!)
    for (const answer of answers.slice(0, -1)) assertKeeps(answer)
    assert.deepEqual(s.site.executed, client.answered)
  })

  scenario(world, 'the last of three was answered before the drain, and waits behind the first', { row: 16 }, async s => {
    // The head of the third is made already, and says keep-alive: nobody can say close any more.
    const client = await s.warm()
    const ids = client.pipeline([{ path: '/gate' }, { path: '/' }, { path: '/' }])
    await s.executing()
    await turns()
    void s.drain()
    await turns()
    release(ids[0]!)
    const answers = await client.rest()
    assert.deepEqual(client.answered.slice(1), ids)
    for (const answer of answers) assertKeeps(answer)
    assert.equal(client.end, 'fin')
  })

  scenario(world, 'one that joins in the drain behind a request in flight is executed and answered, or neither', { row: 16 }, async s => {
    const client = await s.warm()
    const held = client.request('/gate')
    await s.executing()
    void s.drain()
    await turns()
    client.request('/slow?ms=1')
    client.request('/')
    await turns()
    release(held)
    const answers = await client.rest()
    assert.ok(answers.length >= 1)
    assertCloses(answers.at(-1)!)
    for (const answer of answers.slice(0, -1)) assertKeeps(answer)
    assert.deepEqual(s.site.executed, client.answered)
    assert.equal(client.end, 'fin')
  })

  scenario(world, 'one that joins after the head with close went out is not executed', { row: 15 }, async s => {
    const client = await s.open({ polite: false })
    client.request('/')
    await client.answer()
    const drained = s.drain()
    const before = client.bytesRead
    client.request('/raw?ms=80')
    await client.received(before + 60)
    client.request('/')
    const answer = await client.answer()
    assertCloses(answer)
    assert.equal(answer.text, 'first-last')
    assert.equal(await client.ended(), 'fin')
    client.halfClose()
    await drained
    assert.equal(s.site.executed.length, 2)
  })

  scenario(world, 'half of the next head behind a request in flight: the one in flight is answered', { row: 16 }, async s => {
    const client = await s.warm()
    const first = client.request('/gate')
    await s.executing()
    client.half('/', { cut: 'head' })
    await turns()
    const drained = s.drain()
    await turns()
    release(first)
    const answer = await client.answer()
    assert.equal(answer.text, 'gate')
    assert.equal(await client.ended(), 'fin')
    await drained
    assert.ok(client.answered.includes(first))
    assert.equal(s.site.executed.length, 2)
  })

  scenario(world, 'the first of two is cut with its client: nothing hangs', { row: 16 }, async s => {
    const client = await s.warm()
    s.forgive(...client.pipeline([{ path: '/hang' }, { path: '/' }, slow(10)]))
    await s.executing()
    const drained = s.drain()
    await turns()
    client.destroy()
    const watch = new Stopwatch()
    await drained
    watch.assertUnder(2_000)
  })

  scenario(world, 'a flood of pipelined requests does not outlast the deadline', { options: { deadlineMs: 500 } }, async s => {
    const client = await s.warm()
    const flood = Array.from({ length: 100 }, () => ({ path: '/' }))
    const timer = setInterval(() => {
      if (client.end === 'open') client.pipeline(flood)
    }, 5)
    try {
      await sleep(20)
      const watch = new Stopwatch()
      await s.drain()
      watch.assertUnder(1_500)
      await client.ended()
    } finally {
      clearInterval(timer)
    }
  })
}
