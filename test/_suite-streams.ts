import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { assertCloses, quiet, reported, scenario, turns } from './_scenario.ts'
import type { Exchange, Reply, World } from './_world.ts'

/** How many pieces `/text` has after its first. */
const TEXTS = 40

const TYPE = { 'Content-Type': 'text/event-stream' }

/** Answers that do not end by themselves: a framework's stream, `writeHead` with an object, and one that goes on writing. */
function streams(x: Exchange): Reply | 'raw' {
  if (x.path === '/framework') {
    const body = new Readable({ read() {} })
    body.push('data: 1\n\n')
    return { headers: TYPE, body }
  }
  if (x.path === '/warm' || x.path === '/') return { body: 'hello' }
  const { res } = x
  const type = x.path === '/text' ? { 'Content-Type': 'text/plain' } : TYPE
  if (x.path === '/set') for (const [name, value] of Object.entries(type)) res.setHeader(name, value)
  res.writeHead(200, x.path === '/set' ? {} : type)
  res.write('data: 1\n\n')
  let written = 0
  const timer = setInterval(() => {
    res.write('data: more\n\n', () => {})
    if (x.path !== '/text' || ++written < TEXTS) return
    clearInterval(timer)
    res.end()
  }, 5)
  res.on('close', () => clearInterval(timer))
  return 'raw'
}

const accept = { Accept: 'text/event-stream' }

/** Event streams: they have no end of their own, so a drain ends them, in a way that their clients come back from. */
export function eventStreams(world: World): void {
  for (const path of ['/framework', '/object', '/set']) {
    scenario(world, `an event stream (${path}) is ended cleanly, and its connection with it`, { row: 27, app: streams, options: { lingerMs: 3_000 } }, async s => {
      const client = await s.warm()
      const before = client.bytesRead
      client.request(path, { headers: accept })
      await client.received(before + 60)
      await turns()
      const report = await s.drain()
      const answer = await client.answer()
      assert.match(answer.text, /^data: 1\n\n(data: more\n\n)*$/, 'whole events, and the end of the body')
      assert.equal(await client.ended(), 'fin')
      reported(report, ({ outcome, destroyed }) => assert.deepEqual([outcome, destroyed], ['clean', []]))
    })
  }

  scenario(world, 'an event stream stays while lame duck', { row: 27, app: streams, needs: ['duck'] }, async s => {
    const client = await s.open()
    client.request('/object', { headers: accept })
    await client.received(60)
    s.site.duck!.lameduck()
    const before = client.bytesRead
    await client.received(before + 60)
    assert.equal(client.end, 'open')
    await s.drain()
    assert.match((await client.answer()).text, /^data: 1\n\n(data: more\n\n)+$/)
  })

  scenario(world, 'an event stream that is asked for while draining is answered, and ended', {
    row: 27, app: streams, needs: ['duck'], options: { quietMs: 3_000 },
  }, async s => {
    const client = await s.warm()
    const drained = s.drain()
    await turns()
    client.request('/object')
    const answer = await client.answer()
    assertCloses(answer)
    assert.match(answer.text, /^data: 1\n\n/)
    assert.equal(await client.ended(), 'fin')
    reported(await drained, report => assert.equal(report.outcome, 'clean'))
  })

  scenario(world, 'an endless answer that is no event stream is not cut, although its client would take one', { row: 27, app: streams }, async s => {
    const client = await s.open()
    client.request('/text', { headers: { Accept: 'text/plain, text/event-stream' } })
    await client.received(60)
    await quiet()
    await s.drain()
    assert.equal((await client.answer()).text, `data: 1\n\n${'data: more\n\n'.repeat(TEXTS)}`)
  })

  scenario(world, 'with endEventStreams: false an event stream stays to the deadline', {
    row: 27, app: streams, needs: ['duck'], options: { endEventStreams: false, deadlineMs: 400 },
  }, async s => {
    const client = await s.open()
    s.forgive(client.request('/object', { headers: accept }))
    await client.received(60)
    const report = await s.drain()
    assert.equal(report?.outcome, 'forced')
    assert.deepEqual(report?.destroyed.map(({ why, path }) => [why, path]), [['deadline', '/object']])
    await client.ended()
  })
}
