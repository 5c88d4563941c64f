import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from './_client.ts'
import { assertLast, reported, scenario, turns } from './_scenario.ts'
import { Stopwatch } from './_stopwatch.ts'
import type { World } from './_world.ts'

/** Writes a byte every 20 ms, until the connection has ended. @returns What stops it. */
function trickle(client: Client, byte = 'a'): () => void {
  const timer = setInterval(() => {
    if (client.end === 'open') client.write(byte)
    else clearInterval(timer)
  }, 20)
  return () => clearInterval(timer)
}

/** Node's own limits: quick enough for a test, and not over before its drain has begun. */
const limited = { headersTimeout: 500, requestTimeout: 800, connectionsCheckingInterval: 50 }

/** Clients that take too long to ask: the limits are absolute, and stay enforced in the drain. */
export function limits(world: World): void {
  for (const opening of ['fresh', 'kept-alive'] as const) {
    const begin = (s: Parameters<Parameters<typeof scenario>[3]>[0]) => opening === 'fresh' ? s.open() : s.warm()

    scenario(world, `half a head on a ${opening} connection, then silence: closed at headMs`, { row: 7 }, async s => {
      const client = await begin(s)
      client.write('GET /half HTTP/1.1\r\nHost: test\r\nX-Half: ')
      await turns()
      const watch = new Stopwatch()
      const report = await s.drain()
      watch.assertOver(200)
      watch.assertUnder(2_500)
      assert.equal(await client.ended(), 'fin')
      const late = client.answers.at(opening === 'fresh' ? 0 : 1)
      if (late) assert.equal(late.status, 408)
      reported(report, ({ destroyed }) => assert.deepEqual(destroyed.map(({ why }) => why), ['head']))
    })

    scenario(world, `a head trickled byte by byte on a ${opening} connection: the limit is absolute`, { row: 8 }, async s => {
      const client = await begin(s)
      client.write('GET /trickle HTTP/1.1\r\nX-A: ')
      const stop = trickle(client)
      try {
        await turns()
        const watch = new Stopwatch()
        await s.drain()
        watch.assertUnder(2_500)
        await client.ended()
      } finally {
        stop()
      }
    })

    scenario(world, `half a head on a ${opening} connection, completed 200 ms later, is answered`, {
      row: 9,
      options: { headMs: 3_000 },
    }, async s => {
      const client = await begin(s)
      const { rest } = client.half('/', { cut: 'head', headers: { 'X-Padding': 'padding' } })
      await turns()
      const drained = s.drain()
      await sleep(200)
      rest()
      await assertLast(client)
      reported(await drained, report => assert.equal(report.outcome, 'clean'))
    })
  }

  scenario(world, 'a connection that was answered a moment ago has sent no half head, and does not wait for one', {
    row: 1,
    options: { headMs: 3_000 },
  }, async s => {
    const clients = await Promise.all(Array.from({ length: 5 }, () => s.warm()))
    const watch = new Stopwatch()
    await s.drain()
    watch.assertUnder(2_000)
    for (const client of clients) assert.equal(await client.ended(), 'fin')
  })

  scenario(world, 'half a head that came while the response before it was being sent has its time, too', {
    row: 9,
    options: { headMs: 3_000 },
  }, async s => {
    const client = await s.warm()
    const before = client.bytesRead
    client.request('/raw?ms=60')
    await client.received(before + 60)
    void s.drain()
    const { rest } = client.half('/', { cut: 'head' })
    assert.equal((await client.answer()).text, 'first-last')
    await sleep(150)
    rest()
    await assertLast(client)
  })

  scenario(world, 'a connection that becomes idle does not wait for the limit of another one', {
    row: 14,
    options: { headMs: 3_000 },
  }, async s => {
    const [slow, client] = [await s.open(), await s.warm()]
    slow.write('GET /half HTTP/1.1\r\nX-Half: ')
    const before = client.bytesRead
    client.request('/raw?ms=150')
    await client.received(before + 60)
    void s.drain()
    assert.equal((await client.answer()).text, 'first-last')
    const watch = new Stopwatch()
    assert.equal(await client.ended(), 'fin')
    watch.assertUnder(1_500)
  })

  scenario(world, 'a head whose first byte comes with the drain is answered when it is completed', {
    row: 9,
    options: { headMs: 2_000 },
  }, async s => {
    const client = await s.warm()
    const { rest } = client.half('/', { cut: 'head' })
    void s.drain()
    await sleep(100)
    rest()
    await assertLast(client)
  })

  scenario(world, 'a body trickled byte by byte is ended by the requestTimeout of Node, in the drain as before', {
    row: 8,
    server: limited,
  }, async s => {
    const client = await s.open()
    const { id } = client.half('/body', { method: 'POST', body: 'x'.repeat(10_000), cut: 'body' })
    s.forgive(id)
    const stop = trickle(client)
    try {
      await turns()
      const watch = new Stopwatch()
      const report = await s.drain()
      watch.assertUnder(3_000)
      await client.ended()
      reported(report, ({ outcome, destroyed }) => {
        assert.deepEqual([outcome, destroyed.map(({ why, path }) => `${why} ${path}`)], ['forced', ['timeout /body']])
      })
    } finally {
      stop()
    }
  })

  scenario(world, 'a head trickled in a lame duck is ended by the headersTimeout of Node', {
    row: 8,
    server: limited,
    options: { lameduckMs: 1_500, headMs: 5_000, deadlineMs: 6_000 },
    needs: ['duck'],
  }, async s => {
    const client = await s.open()
    client.write('GET /trickle HTTP/1.1\r\nX-A: ')
    const stop = trickle(client)
    try {
      const watch = new Stopwatch()
      const drained = s.drain()
      await client.ended()
      watch.assertUnder(1_400)
      reported(await drained, ({ outcome, destroyed }) => {
        assert.deepEqual([outcome, destroyed.map(({ why }) => why)], ['clean', ['head']])
      })
    } finally {
      stop()
    }
  })

  scenario(world, 'a body that is trickled for ever does not outlast the deadline', {
    row: 8,
    options: { deadlineMs: 400 },
  }, async s => {
    const client = await s.open()
    const { id } = client.half('/body', { method: 'POST', body: 'x'.repeat(10_000), cut: 'body' })
    s.forgive(id)
    const stop = trickle(client)
    try {
      await turns()
      const watch = new Stopwatch()
      const report = await s.drain()
      watch.assertUnder(1_500)
      await client.ended()
      reported(report, ({ outcome, destroyed }) => {
        assert.equal(outcome, 'forced')
        assert.equal(destroyed[0]?.path, '/body')
      })
    } finally {
      stop()
    }
  })
}
