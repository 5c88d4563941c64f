// What becomes of workers that die, hang or grow, with real processes. The rules themselves are in cluster-rules.test.ts.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import http2 from 'node:http2'
import { test } from 'node:test'
import { Client } from './_client.ts'
import { buildCluster } from './_cluster-build.ts'
import { freePort, until, world } from './_cluster.ts'

const sent = (message: object) => `/send?message=${encodeURIComponent(JSON.stringify(message))}`

test('a worker that crashes is replaced; connections of the others never notice', () => world(async it => {
  const clients: Client[] = []
  for (let i = 0; i < 6; i++) {
    const client = await Client.open(it.address)
    client.request('/')
    await client.answer()
    clients.push(client)
  }
  const pidOf = (client: Client) => (JSON.parse(client.answers[0]!.text) as { pid: number }).pid
  const doomed = pidOf(clients[0]!)
  const others = clients.filter(client => pidOf(client) !== doomed)
  assert.ok(others.length > 0)
  clients[0]!.request('/crash')
  assert.notEqual(await clients[0]!.ended(10_000), 'open')
  await until(() => it.steps.some(({ what, why }) => what === 'crashed' && /crashed by request/.test(why ?? '')), 'the crash with its reason')
  for (const client of others) {
    client.request('/')
    assert.equal((await client.answer()).status, 200)
    client.destroy()
  }
  await until(() => it.supervisor.status().ready === 2, 'two ready workers')
  assert.equal(it.supervisor.status().workers.reduce((sum, { restarts }) => sum + restarts, 0), 1)
}))

test('a blocked event loop: found by its silence, replaced, killed; not while a pause is announced', () => world(async it => {
  await it.get('/pause?ms=8000')
  const paused = await Client.open(it.address)
  paused.request('/block?ms=3500')
  assert.equal((await paused.answer(20_000)).status, 200)
  assert.deepEqual(it.steps.filter(({ what }) => what === 'stuck'), [])
  paused.destroy()
  await it.get('/pause?ms=-1')
  const stuck = await Client.open(it.address)
  stuck.request('/block?ms=60000')
  await until(() => it.steps.some(({ what }) => what === 'stuck'), 'the discovery', 20_000)
  assert.notEqual(await stuck.ended(20_000), 'open')
  await until(() => it.steps.some(({ what }) => what === 'exited'), 'its end')
  // The new one was there before.
  const whats = it.steps.filter(({ what }) => ['stuck', 'ready', 'exited'].includes(what)).map(({ what }) => what)
  assert.deepEqual(whats.slice(whats.indexOf('stuck')), ['stuck', 'ready', 'exited'])
  assert.equal((await it.who()).generation, '1')
}, { workers: 1, heartbeatMs: 200, stuckMs: 2_500 }))

test('a Ctrl-C in a reload is no second signal to a worker that was told to go: what is in flight on it is answered, and it leaves clean', () => world(async it => {
  const client = await it.use()
  const { pid } = JSON.parse(client.answers[0]!.text) as { pid: number }
  // Longer than the next worker's start takes on any machine: it is told to go only then.
  client.request('/slow?ms=6000')
  const reload = it.supervisor.reload()
  await until(() => it.steps.some(step => step.what === 'retiring' && step.pid === pid), 'the message to it')
  // Its own turn, so that the message comes first.
  await it.who()
  process.kill(pid, 'SIGINT')
  assert.equal((await client.answer()).text, 'slow')
  assert.equal((await reload).outcome, 'reloaded')
  assert.equal(it.steps.find(step => step.what === 'exited' && step.pid === pid)?.why, 'exit code 0')
}, { workers: 1 }))

test('a worker that has answered enough, or uses too much memory, is replaced, and nobody notices', () => world(async it => {
  const first = await it.who()
  const client = await Client.open(it.address)
  for (let i = 0; i < 40; i++) {
    client.request('/')
    const { status, header } = await client.answer()
    assert.equal(status, 200)
    // It has gone, for this reason, while we were asking.
    if (header('connection') === 'close') break
  }
  await until(async () => (await it.who()).pid !== first.pid, 'another worker')
  assert.match(it.steps.find(({ what }) => what === 'recycling')?.why ?? '', /it has answered \d+ requests/)
  const second = await it.who()
  await it.get('/grow?ms=200')
  await until(async () => (await it.who()).pid !== second.pid, 'another worker again')
  assert.match(it.steps.filter(({ what }) => what === 'recycling').at(-1)?.why ?? '', /it uses \d+ MiB of memory/)
}, { workers: 1, maxRequests: 30, maxRssBytes: 230 * 2 ** 20, jitter: 0 }))

/** One request over HTTP/2, on a session of its own. */
function askHttp2(port: number): Promise<void> {
  return new Promise(resolve => {
    const session = http2.connect(`http://127.0.0.1:${port}`)
    session.on('error', () => {}).once('close', resolve)
    session.request({ ':path': '/' }).on('error', () => {}).resume().once('close', () => session.close())
  })
}

test('requests over HTTP/2 count: one that has answered enough is replaced, a canary that answers with 5xx taken back', () => world(async it => {
  for (let i = 0; i < 10; i++) await askHttp2(it.port)
  const [first] = it.supervisor.status().workers
  await until(() => it.supervisor.status().workers[0]?.requests === 10, 'ten requests, and none of the probes')
  for (let i = 0; i < 25; i++) await askHttp2(it.port)
  await until(() => it.supervisor.status().workers.every(({ pid, state }) => pid !== first!.pid && state === 'ready'), 'another worker')
  assert.match(it.steps.find(({ what }) => what === 'recycling')?.why ?? '', /it has answered \d+ requests/)
  it.app.status = 500
  let over = false
  const clients = Array.from({ length: 3 }, async () => {
    while (!over) await askHttp2(it.port)
  })
  const { outcome, code } = await it.supervisor.reload()
  over = true
  await Promise.all(clients)
  assert.deepEqual([outcome, code], ['rolled-back', 'ERR_LAMEDUCK_CLUSTER_CANARY'])
}, { workers: 1, maxRequests: 30, jitter: 0, canaryMs: 3_000 }, { http2: true }))

test('isolate: the worker leaves the rotation with a successor in its place, and comes back', () => world(async it => {
  assert.deepEqual(JSON.parse((await it.get(sent({ lameduck: 'lastReady' }))).text), { lameduck: 'lastReady', ready: 1, last: true })
  const before = await it.who()
  const kept = await Client.open(it.address)
  kept.request('/')
  await kept.answer()
  kept.request(sent({ lameduck: 'isolate' }))
  assert.deepEqual(JSON.parse((await kept.answer(20_000)).text), { lameduck: 'isolated', ok: true })
  assert.deepEqual(it.supervisor.status().workers.map(({ pid, state }) => [pid === before.pid, state]), [[true, 'isolated'], [false, 'ready']])
  kept.destroy()
}, { workers: 1 }))

test('the CommonJS build does the same, for a script in CommonJS', async () => {
  using built = await buildCluster('cjs')
  const port = await freePort()
  const program = `
    const { supervise } = require(${JSON.stringify(built.main)})
    const options = { script: ${JSON.stringify(built.app)}, workers: 1, readyMs: 0, control: false, heartbeatMs: 50 }
    const supervisor = supervise(options)
    supervisor.ready.then(async () => {
      while (supervisor.status().workers[0].inFlight !== 0) await new Promise(resolve => setTimeout(resolve, 20))
      console.log((await supervisor.reload()).outcome)
      process.kill(process.pid, 'SIGTERM')
    })`
  const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', program], {
    env: { ...process.env, NODE_OPTIONS: '', APP: JSON.stringify({ port }) }, encoding: 'utf8', timeout: 30_000,
  })
  assert.deepEqual([stdout, status], ['reloaded\n', 0], stderr)
})
