import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Client } from './_client.ts'
import { holding, problemOf, takeTiny, until, within } from './_heap-world.ts'
import { assertKeeps, quiet } from './_scenario.ts'

test('with isolate a client that keeps a connection for later, and asks for no readiness, sends elsewhere instead of waiting for the pause', async () => {
  let begin = () => {}
  let end = () => {}
  const paused = new Promise<void>(resolve => {
    begin = resolve
  })
  const over = new Promise<void>(resolve => {
    end = resolve
  })
  await within(async world => {
    const { hostname: host, port } = new URL(world.appUrl)
    const clients = await Promise.all([1, 2, 3].map(() => Client.open({ host, port: Number(port) })))
    for (const client of clients) client.request('/')
    for (const client of clients) assertKeeps(await client.answer())
    const ended = world.snapshot('isolate=true')
    await paused
    const seen = clients.map(({ end }) => end)
    const { total } = world.duck.stats().connections
    // Who comes all the same is not refused.
    const late = (await fetch(world.appUrl)).headers.get('connection')
    end()
    assert.deepEqual([...seen, total, late], ['fin', 'fin', 'fin', 0, 'close'])
    assert.equal((await ended).state, 'done')
    assert.equal(world.duck.state, 'running')
    const client = await Client.open({ host, port: Number(port) })
    for (let i = 0; i < 2; i++) {
      client.request('/')
      assertKeeps(await client.answer())
      await quiet()
    }
    client.destroy()
  }, { heap: { inFlightMs: 20_000 }, take: async (...args) => {
    begin()
    await over
    return takeTiny(...args)
  } })
})

test('two isolated snapshots, one after the other, both leave the instance in rotation', async () => {
  await within(async world => {
    const states: string[] = []
    world.duck.on('state', state => states.push(state))
    for (let i = 0; i < 2; i++) {
      assert.equal(await (await fetch(world.appUrl)).text(), 'ok')
      assert.equal((await world.snapshot('isolate=true')).state, 'done')
    }
    assert.deepEqual(states, ['lameduck', 'running', 'lameduck', 'running'])
    assert.equal(await (await fetch(world.appUrl)).text(), 'ok')
  })
})

test('what is idle has its time, and is not what an isolation fails for', async () => {
  await within(async world => {
    const { hostname: host, port } = new URL(world.appUrl)
    // It never ends the connection from its side.
    const client = await Client.open({ host, port: Number(port) }, { polite: false })
    client.request('/')
    await client.answer()
    assert.equal((await world.snapshot('isolate=true')).state, 'done')
    client.destroy()
  }, { heap: { inFlightMs: 0 } })
})

test('somebody puts the instance back into rotation meanwhile: it is not paused', async () => {
  const held = holding()
  await within(async world => {
    const request = fetch(world.appUrl)
    await until(() => world.duck.stats().inFlight.length === 1)
    const ended = world.snapshot('isolate=true')
    await until(() => world.duck.state === 'lameduck')
    world.duck.resume()
    assert.deepEqual(problemOf(await ended), ['failed', 409, 'ERR_LAMEDUCK_OPS_STATE'])
    assert.equal(world.duck.state, 'running')
    held.release()
    await request
  }, { heap: { inFlightMs: 20_000 } }, held.app)
})
