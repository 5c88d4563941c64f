import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Worker } from 'node:worker_threads'
import { WebSocket, type RawData } from 'ws'
import { wrap } from '../src/core/index.ts'
import { ops } from '../src/ops/index.ts'
import { Child } from './_child.ts'
import { ask, askUntil, freshToken } from './_ops.ts'

const auth = (token: string) => ({ tokens: [{ name: 'operator', scopes: ['read' as const, 'control' as const], token }] })

test('rules are listed, refused when wrong, and still armed after the endpoint\'s thread has crashed', async () => {
  const token = freshToken()
  const workers: Worker[] = []
  const note = (worker: Worker) => void workers.push(worker)
  process.on('worker', note)
  const endpoint = ops({ listen: { port: 0 }, audit: false, logger: { warn() {} }, auth: auth(token) })
  try {
    await endpoint.ready
    const armed = await endpoint.rules.arm({ name: 'full', when: { series: 'usedHeap', overPercent: 90 }, action: 'log' })
    assert.equal(armed.state, 'armed')
    await endpoint.rules.arm({ name: 'gone', when: { leak: 'suspected' }, action: 'log' })
    assert.equal(await endpoint.rules.disarm('gone'), true)
    await assert.rejects(endpoint.rules.arm({ name: 'bad', when: { series: 'usedHeap', overPercent: 900 }, action: 'log' }), { code: 'ERR_LAMEDUCK_OPS_RULE' })
    assert.equal((await ask(endpoint.address, '/rules/byhand', { method: 'PUT', token, body: { when: { leak: 'suspected' }, action: 'log' } })).status, 200)
    const crashed = new Promise<Error>(resolve => void endpoint.on('crash', resolve))
    void workers.at(-1)?.terminate()
    await crashed
    for (let i = 0; i < 100 && workers.length < 2; i++) await new Promise(resolve => void setTimeout(resolve, 50))
    const { json } = await askAgain(endpoint.address, token)
    assert.deepEqual((json.rules as { name: string }[]).map(({ name }) => name), ['full', 'byhand'])
    assert.deepEqual((await endpoint.rules.list()).map(({ name, by }) => `${name} by ${by}`), ['full by code', 'byhand by operator'])
  } finally {
    process.off('worker', note)
    await endpoint.close()
  }
})

/** While it is being started again nobody answers. */
async function askAgain(at: { url?: string }, token: string): ReturnType<typeof ask> {
  for (let i = 0; ; i++) {
    const answer = await ask(at, '/rules', { token }).catch((error: unknown) => {
      if (i > 100) throw error
      return undefined
    })
    if (answer) return answer
    await new Promise(resolve => void setTimeout(resolve, 100))
  }
}

test('a main thread that hangs from the moment on at which the endpoint is ready: what it said before is answered', async () => {
  const token = freshToken()
  const server = http.createServer()
  const duck = wrap(server, { signals: false })
  const endpoint = ops({ duck, listen: { port: 0 }, audit: false, auth: auth(token) })
  const { address } = await endpoint.ready
  const asked = new Promise<string>(resolve => {
    // Written before the block, answered in it.
    http.get(`${address.url}/state`, { headers: { Authorization: `Bearer ${token}` } }, res => {
      let text = ''
      res.setEncoding('utf8').on('data', (part: string) => (text += part)).on('end', () => resolve(`${res.statusCode} ${text}`))
    }).once('finish', () => setImmediate(() => {
      const until = performance.now() + 1_200
      while (performance.now() < until);
    }))
  })
  assert.match(await asked, /^200 .*"state":"running"/)
  await endpoint.close()
  await duck.drain({ lameduckMs: 0 })
})

test('duck.readiness() runs the checks, and is not ready out of rotation', async () => {
  let well = true
  const duck = wrap(http.createServer(), { signals: false, health: { checks: { database: () => well } } })
  assert.deepEqual(await duck.readiness(), { ready: true, state: 'running', checks: { database: 'ok' } })
  well = false
  assert.deepEqual(await duck.readiness(), { ready: false, state: 'running', checks: { database: 'failed' } })
  well = true
  duck.lameduck()
  assert.deepEqual(await duck.readiness(), { ready: false, state: 'lameduck', checks: {} })
  duck.resume()
  await duck.drain({ lameduckMs: 0 })
  const plain = wrap(http.createServer(), { signals: false, health: false })
  assert.deepEqual(await plain.readiness(), { ready: true, state: 'running', checks: {} })
  await plain.drain({ lameduckMs: 0 })
})

test('a REPL ends with the token that it was opened with, before its next line is evaluated', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'lameduck-revoke-'))
  const file = join(dir, 'token')
  const token = freshToken()
  writeFileSync(file, token, { mode: 0o600 })
  const endpoint = ops({
    listen: { port: 0 }, thread: false, eval: true, audit: join(dir, 'audit.log'), logger: { warn() {} },
    auth: { tokens: [{ name: 'operator', scopes: ['eval'], file }] },
  })
  try {
    const { url = '' } = await endpoint.ready
    const client = new WebSocket(`${url.replace('http', 'ws')}/repl`, { headers: { Authorization: `Bearer ${token}` } })
    const said = async () => {
      const [data] = await once(client, 'message') as [RawData]
      return JSON.parse((data as Buffer).toString('utf8')) as { type: string; text?: string }
    }
    assert.equal((await said()).type, 'hello')
    client.send(JSON.stringify({ id: 1, type: 'eval', code: '20 + 1', timeoutMs: 10_000 }))
    assert.equal((await said()).text, '21')
    writeFileSync(file, '')
    assert.deepEqual((await endpoint.reload()).tokens, 0)
    client.send(JSON.stringify({ id: 2, type: 'eval', code: 'globalThis.lasting = 1', sideEffects: true }))
    const [code] = await once(client, 'close') as [number]
    assert.equal(code, 1008)
    assert.equal(Object.hasOwn(globalThis, 'lasting'), false)
  } finally {
    await endpoint.close()
    rmSync(dir, { recursive: true, force: true })
  }
})

test('an endpoint that cannot start leaves nothing on the process', async () => {
  const before = process.listenerCount('exit')
  const first = await ops({ listen: { port: 0 }, audit: false, logger: { warn() {} } }).ready
  const second = ops({ listen: { port: Number(new URL(first.url ?? '').port) }, audit: false, logger: { warn() {} } })
  const closed = new Promise<void>(resolve => void second.on('closed', resolve))
  await assert.rejects(second.ready)
  await closed
  await first.close()
  assert.equal(process.listenerCount('exit'), before)
})

test('/metrics has what the application adds, beside counters that say so', async () => {
  const token = freshToken()
  const endpoint = ops({ listen: { port: 0 }, audit: false, auth: auth(token), metrics: () => 'own_metric 7\n' })
  const { address } = await endpoint.ready
  const found = await askUntil(address, '/metrics', { token }, ({ text }) => text.includes('own_metric 7'))
  assert.match(found.text, /^# TYPE lameduck_gc_total counter$/m)
  await endpoint.close()
})

test('/metrics when those of the application fail: lameduck\'s own come, one of them says so, and the logger hears why, once', async () => {
  const token = freshToken()
  const warnings: string[] = []
  const wanted: (() => unknown)[] = [
    () => 'own_metric 7', () => Promise.reject(new Error('no such register')), () => ({ not: 'text' }),
    () => Promise.reject(new Error('no\n\u001b[31mpeace')),
    // What is no error, or not even text.
    () => Promise.reject(null as never), () => Promise.reject(Object.create(null) as Error),
  ]
  let now = 0
  const endpoint = ops({
    listen: { port: 0 }, audit: false, auth: auth(token), logger: { warn: message => void warnings.push(message) },
    metrics: () => wanted[now]?.() as string,
  })
  const { address } = await endpoint.ready
  try {
    for (let next = 1; next < wanted.length; next++) {
      now = 0
      await askUntil(address, '/metrics', { token }, ({ text }) => text.includes('lameduck_app_metrics_up 1\n') && text.includes('own_metric 7'))
      now = next
      for (const _ of [1, 2]) {
        const { status, text } = await askUntil(address, '/metrics', { token }, answer => answer.text.includes('lameduck_app_metrics_up 0\n'))
        assert.equal(status, 200)
        assert.match(text, /^lameduck_state_age_seconds /m)
        assert.doesNotMatch(text, /own_metric|object Object/)
      }
    }
    // A machine that stands still is another reason.
    assert.deepEqual(warnings.filter(warning => !warning.includes('did not answer')), [
      'lameduck: metrics failed: no such register',
      'lameduck: metrics failed: returned object; allowed: a string, or a promise of one',
      'lameduck: metrics failed: no\\u000a\\u001b[31mpeace',
      'lameduck: metrics failed: null',
      'lameduck: metrics failed: (no text)',
    ])
  } finally {
    await endpoint.close()
  }
})

test('an application that goes on loading for longer than an endpoint may take to start: that answers meanwhile, and has started', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-slow-'))
  const path = join(folder, 'ops.sock')
  const child = new Child('ops-slow-start.ts', [path])
  try {
    await child.says(/^loading$/m)
    let answer: Awaited<ReturnType<typeof ask>> | undefined
    while (!answer) answer = await ask({ path }, '/livez').catch(() => sleep(50, undefined))
    assert.ok([200, 503].includes(answer.status), `${answer.status}`)
    assert.doesNotMatch(child.stdout, /loaded/)
    await child.says(/^ready$/m)
    assert.equal(child.stderr, '')
  } finally {
    await child.close()
    rmSync(folder, { recursive: true })
  }
})

test('/metrics of an application that takes a while over its own, and blocks itself by that: they come, as long as it is less than a second', async () => {
  const token = freshToken()
  const warnings: string[] = []
  let blockMs = 300
  const endpoint = ops({
    listen: { port: 0 }, audit: false, auth: auth(token), logger: { warn: message => void warnings.push(message) },
    metrics: () => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, blockMs)
      return 'own_metric 7'
    },
  })
  const { address } = await endpoint.ready
  try {
    await askUntil(address, '/metrics', { token }, ({ text }) => text.includes('own_metric 7'))
    blockMs = 1_500
    // This test's own client is blocked by it as well.
    await askUntil(address, '/metrics', { token }, ({ text }) => text.includes('lameduck_app_metrics_up 0\n') && warnings.length > 0)
    assert.deepEqual([...new Set(warnings)], ['lameduck: metrics failed: the main thread did not answer within 1000 ms'])
  } finally {
    await endpoint.close()
  }
})

for (const thread of [true, false]) test(`what is registered while the endpoint opens is served, ${thread ? 'by its thread' : 'on this one'}`, async () => {
  const token = freshToken()
  const endpoint = ops({ thread, listen: { port: 0 }, audit: false, auth: auth(token) })
  const register = (path: string) => endpoint.register({ method: 'GET', path, scope: 'read', handler: () => ({ path }) })
  register('/one')
  for (let i = 0; i < 3; i++) {
    await new Promise(resolve => setImmediate(resolve))
    register(`/a${i}`)
    register(`/b${i}`)()
    register(`/c${i}`)
  }
  const { address } = await endpoint.ready
  for (const path of ['/one', '/a0', '/c0', '/a1', '/c1', '/a2', '/c2']) assert.deepEqual((await ask(address, path, { token })).json, { path })
  for (const path of ['/b0', '/b1', '/b2']) assert.equal((await ask(address, path, { token })).status, 404)
  await endpoint.close()
})

for (const thread of [true, false]) test(`authorize may throw anything, and nobody has to be let in, or to die, by that, ${thread ? 'in a thread' : 'here'}`, async () => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  const fickle = {
    get message() {
      throw new Error('of the message')
    },
  }
  const thrown = [undefined, null, 'no', { message: () => {} }, Object.create(null) as object, fickle, proxy]
  for (const what of thrown) {
    const endpoint = ops({ thread, listen: { port: 0 }, audit: false, logger: { warn() {} }, auth: { authorize: () => Promise.reject(what as Error) } })
    const { address } = await endpoint.ready
    // Where nobody catches it, the runner fails this test.
    const { status } = await ask(address, '/state', {})
    assert.ok(status === 401 || status === 403 || status === 503, `${status}`)
    await endpoint.close()
  }
})

test('a process that ends while it is still loading leaves no socket behind', async () => {
  for (const how of ['exit', 'throw']) {
    const folder = mkdtempSync(join(tmpdir(), 'lameduck-slow-'))
    const path = join(folder, 'ops.sock')
    const child = new Child('ops-slow-start.ts', [path, how])
    try {
      await child.says(/^loading$/m)
      // By then it was there: else nothing could be left behind.
      await child.says(/^loaded beside a socket$/m)
      assert.equal((await child.exited).code, how === 'exit' ? 3 : 1)
      assert.equal(existsSync(path), false)
    } finally {
      await child.close()
      rmSync(folder, { recursive: true })
    }
  }
})

test('what was asked for when the process ends is not begun', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-end-'))
  const path = join(folder, 'ops.sock')
  const child = new Child('ops-slow-end.ts', [path])
  try {
    await child.says(/^blocked$/m)
    const asked = ask({ path }, '/clear', { method: 'POST' })
    await assert.rejects(asked)
    assert.equal((await child.exited).code, 3)
    assert.doesNotMatch(child.stdout, /cleared/)
    assert.equal(existsSync(path), false)
  } finally {
    await child.close()
    rmSync(folder, { recursive: true })
  }
})
