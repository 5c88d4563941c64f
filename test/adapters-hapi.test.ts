import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import Hapi from '@hapi/hapi'
import { plugin } from '../src/adapters/hapi.ts'
import type { Duck } from '../src/core/index.ts'
import { Client } from './_client.ts'
import { until } from './_until.ts'
import { addressOf, QUICK } from './_world.ts'

/** A test that failed leaves its server listening. */
const ducks: Duck[] = []
after(() => Promise.all(ducks.map(duck => duck.abort('the tests are over'))))

async function wrapped(server: Hapi.Server): Promise<Duck> {
  await server.register({ plugin, options: QUICK })
  const { duck } = (server.plugins as unknown as { lameduck: { duck: Duck } }).lameduck
  ducks.push(duck)
  return duck
}

type Begin = (server: Hapi.Server, duck: Duck) => Promise<unknown>

const ways: [how: string, begin: Begin][] = [
  ['server.stop()', server => server.stop()],
  ['a drain', (_server, duck) => duck.drain()],
  // Whoever waits for either of them finds all of it done.
  ['server.stop(), and a drain while it goes on', (server, duck) => Promise.race([server.stop(), duck.drain()])],
  ['a drain, and server.stop() while it goes on', (server, duck) => Promise.race([duck.drain(), server.stop()])],
]

for (const [how, begin] of ways) {
  test(`hapi, ${how}: onPreStop and onPostStop, each once, in their order, the request in flight answered before`, async () => {
    const calls: string[] = []
    let release = () => {}
    const held = new Promise<string>(resolve => {
      release = () => resolve('held')
    })
    const server = Hapi.server({ port: 0, host: '127.0.0.1' })
    const duck = await wrapped(server)
    server.route({ method: 'GET', path: '/', handler: () => held })
    server.events.on('response', () => calls.push('answered'))
    server.events.on('stop', () => calls.push('stop'))
    for (const event of ['onPreStop', 'onPostStop'] as const) {
      server.ext(event, async () => {
        await sleep(20)
        calls.push(`${event} 1`)
      })
      server.ext(event, () => void calls.push(`${event} 2`))
    }
    await server.start()
    const client = await Client.open(addressOf(server.listener))
    client.request('/')
    await until(() => duck.stats().inFlight.length === 1, 'a request in flight')

    const ended = begin(server, duck).then(() => calls.push('ended'))
    await until(() => duck.state === 'draining', 'the draining')
    assert.deepEqual(calls, [])
    release()
    const answer = await client.answer()
    assert.deepEqual([answer.text, answer.header('connection')], ['held', 'close'])
    await ended
    assert.deepEqual(calls, ['answered', 'onPreStop 1', 'onPreStop 2', 'stop', 'onPostStop 1', 'onPostStop 2', 'ended'])
    const { outcome, hooks } = await duck.drain()
    assert.deepEqual([outcome, hooks.map(({ name, outcome }) => [name, outcome])], ['clean', [['hapi server.stop()', 'ok']]])
    assert.equal(calls.length, 7)
  })
}

for (const [how, begin] of ways.slice(0, 2)) {
  test(`hapi, ${how}, with an onPreStop that throws: whoever began it hears of that, and the connections have ended before`, async () => {
    const server = Hapi.server({ port: 0, host: '127.0.0.1' })
    await server.register({ plugin, options: { ...QUICK, deadlineMs: 1_000 } })
    const { duck } = (server.plugins as unknown as { lameduck: { duck: Duck } }).lameduck
    ducks.push(duck)
    server.ext('onPreStop', () => {
      assert.equal(duck.stats().connections.total, 0)
      throw new Error('of onPreStop')
    })
    await server.start()
    const client = await Client.open(addressOf(server.listener))
    client.request('/')
    assert.equal((await client.answer()).status, 404)
    const said = await begin(server, duck).then(() => 'nothing', (error: Error) => error.message)
    assert.equal(said, how === 'a drain' ? 'nothing' : 'of onPreStop')
    assert.equal(await client.ended(), 'fin')
    const { outcome, hooks } = await duck.drain()
    // hapi tells nobody but the caller of `stop()` that it failed: a drain that was begun by that waits for it.
    const expected = how === 'a drain' ? ['failed', 'of onPreStop'] : ['timeout', undefined]
    assert.deepEqual([outcome, ...hooks.map(({ outcome, error }) => [outcome, (error as Error | undefined)?.message])], ['clean', expected])
  })
}
