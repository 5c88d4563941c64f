import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Fault, HealthOptions } from '../src/core/index.ts'
import { Client } from './_client.ts'
import { rawWorld, type Site } from './_world.ts'

/** A site with these health options, and one connection to it. */
async function probed(health: HealthOptions | false) {
  const site = await rawWorld(false).start(() => ({ status: 404, body: 'the application' }), { options: { health } })
  const client = await Client.open(site.address)
  const ask = async (path: string, method = 'GET', body?: string) => {
    client.request(path, { method, ...(body !== undefined && { body }) })
    const answer = await client.answer()
    const isJson = answer.header('content-type') === 'application/json'
    return { status: answer.status, text: answer.text, json: isJson && answer.text ? JSON.parse(answer.text) as any : undefined, answer }
  }
  const close = async () => {
    client.destroy()
    await site.close()
  }
  return { site, ask, close }
}

test('live and ready by default, as JSON that no cache keeps', async () => {
  const { ask, close } = await probed({})
  for (const path of ['/livez', '/readyz', '/readyz?', '/livez?a=1&b=/readyz']) {
    const { status, json, answer } = await ask(path)
    assert.equal(status, 200, path)
    assert.equal(json.status, 'ok')
    assert.equal(json.state, 'running')
    assert.equal(answer.header('cache-control'), 'no-store')
  }
  await close()
})

test('HEAD gets the head of GET', async () => {
  const { ask, close } = await probed({ checks: { db: () => {} } })
  const get = await ask('/readyz')
  const head = await ask('/readyz', 'HEAD')
  assert.equal(head.status, 200)
  assert.equal(head.answer.body.length, 0)
  assert.equal(head.answer.header('content-length'), get.answer.header('content-length'))
  await close()
})

test('other methods and other paths are the application\'s', async () => {
  const { site, ask, close } = await probed({})
  assert.equal((await ask('/livez', 'POST', 'x')).text, 'the application')
  assert.equal((await ask('/readyz', 'OPTIONS')).text, 'the application')
  for (const path of ['/', '/livez/', '/livezz', '/x/livez', '/readyz/x', '/?/livez', '//livez', '/LIVEZ']) {
    assert.equal((await ask(path)).text, 'the application', path)
  }
  assert.equal(site.executed.length, 10)
  await close()
})

test('a GET probe with a body is answered, and its connection stays usable', async () => {
  const { ask, close } = await probed({})
  assert.equal((await ask('/livez', 'GET', 'a body')).status, 200)
  assert.equal((await ask('/readyz', 'GET', 'another')).status, 200)
  await close()
})

test('renamed', async () => {
  const { ask, close } = await probed({ live: '/health/live', ready: '/health/ready' })
  assert.equal((await ask('/health/live')).json.status, 'ok')
  assert.equal((await ask('/health/ready?x')).json.status, 'ok')
  assert.equal((await ask('/livez')).text, 'the application')
  assert.equal((await ask('/readyz')).text, 'the application')
  await close()
})

test('off, one or both', async () => {
  const one = await probed({ live: false })
  assert.equal((await one.ask('/livez')).text, 'the application')
  assert.equal((await one.ask('/readyz')).status, 200)
  await one.close()
  const other = await probed({ ready: false })
  assert.equal((await other.ask('/livez')).status, 200)
  assert.equal((await other.ask('/readyz')).text, 'the application')
  await other.close()
  const both = await probed(false)
  assert.equal((await both.ask('/livez')).text, 'the application')
  assert.equal((await both.ask('/readyz')).text, 'the application')
  await both.close()
})

test('checks: all pass, one fails, throws, rejects, hangs; liveness does not ask them', async () => {
  let db: () => unknown = () => true
  const { site, ask, close } = await probed({ checks: { cache: () => {}, db: () => db() }, timeoutMs: 60 })
  const faults: Fault[] = []
  site.duck!.on('fault', fault => faults.push(fault))
  const verdict = async (check: () => unknown) => {
    db = check
    const { status, json } = await ask('/readyz')
    assert.equal((await ask('/livez')).status, 200)
    assert.equal(json.checks.cache, 'ok')
    return [status, json.checks.db]
  }
  for (const good of [() => true, () => undefined, () => 0, async () => {}]) assert.deepEqual(await verdict(good), [200, 'ok'])
  assert.deepEqual(await verdict(() => false), [503, 'failed'])
  assert.deepEqual(await verdict(async () => false), [503, 'failed'])
  assert.equal(faults.length, 0)
  assert.deepEqual(await verdict(() => {
    throw new Error('no database at 10.0.0.5')
  }), [503, 'failed'])
  // No text can be made of it.
  assert.deepEqual(await verdict(() => Promise.reject(Object.create(null) as Error)), [503, 'failed'])
  assert.deepEqual(await verdict(() => Promise.reject(new Error('gone'))), [503, 'failed'])
  assert.equal(faults.length, 3)
  assert.match(faults[0]!.where, /db/)
  assert.deepEqual(await verdict(() => new Promise(() => {})), [503, 'timeout'])
  const gone = () => Promise.reject(new Error('gone'))
  await verdict(gone)
  assert.equal(faults.length, 3, 'said once: probes come again and again')
  assert.deepEqual(await verdict(() => true), [200, 'ok'], 'and back')
  await verdict(gone)
  assert.equal(faults.length, 4, 'said again')
  await close()
})

test('what a check throws is not told to strangers', async () => {
  const { ask, close } = await probed({ checks: { db: () => Promise.reject(new Error('password=hunter2')) } })
  assert.ok(!(await ask('/readyz')).text.includes('hunter2'))
  await close()
})

test('a check that hangs is told when its time is over', async () => {
  let told = false
  const hang = (signal: AbortSignal) => new Promise(() => signal.addEventListener('abort', () => {
    told = true
  }))
  const { ask, close } = await probed({ checks: { hang }, timeoutMs: 40 })
  const started = performance.now()
  assert.equal((await ask('/readyz')).status, 503)
  assert.ok(performance.now() - started >= 35)
  assert.equal(told, true)
  await close()
})

test('probes at the same time share one run of the checks', async () => {
  let runs = 0
  const { site, close } = await probed({
    checks: {
      slow: async () => {
        runs++
        await sleep(50)
      },
    },
  })
  const clients = await Promise.all(Array.from({ length: 10 }, () => Client.open(site.address)))
  // All of them are accepted.
  for (const client of clients) client.request('/livez')
  for (const client of clients) await client.answer()
  for (const client of clients) client.request('/readyz')
  for (const client of clients) assert.equal((await client.answer()).status, 200)
  assert.equal(runs, 1)
  for (const client of clients) client.destroy()
  await close()
})

test('out of rotation, readiness fails at once and asks no check', async () => {
  let runs = 0
  const { site, ask, close } = await probed({ checks: { db: () => void runs++ } })
  site.duck!.lameduck()
  const { status, json } = await ask('/readyz')
  assert.equal(status, 503)
  assert.equal(json.state, 'lameduck')
  assert.equal(runs, 0)
  await close()
})

test('a drain that begins while a check runs makes that very probe fail', async () => {
  const { site, ask, close } = await probed({ checks: { slow: () => sleep(80) } })
  const asked = ask('/readyz')
  await sleep(20)
  site.duck!.lameduck()
  const { status, answer } = await asked
  assert.equal(status, 503)
  assert.equal(answer.header('connection'), 'close')
  await close()
})

test('probes are not served requests', async () => {
  const { site, ask, close } = await probed({})
  await ask('/livez')
  await ask('/readyz')
  assert.equal(site.duck!.stats().counters.served, 0)
  assert.equal(site.duck!.stats().inFlight.length, 0)
  await close()
})

test('probes are answered in a drain that rejects all else', async () => {
  const site: Site = await rawWorld(false).start(() => ({ body: 'x' }), { options: { admit: 'reject', quietMs: 2_000 } })
  const clients = [await Client.open(site.address), await Client.open(site.address)]
  for (const client of clients) {
    client.request('/')
    await client.answer()
  }
  const [live, ready] = clients as [Client, Client]
  const drained = site.drain()
  live.request('/livez')
  ready.request('/readyz')
  const [alive, unready] = [await live.answer(), await ready.answer()]
  assert.equal(alive.status, 200)
  assert.equal(unready.status, 503)
  assert.equal(JSON.parse(unready.text).state, 'draining')
  assert.equal((await drained)?.rejected, 0)
  await site.close()
})
