import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ops, type AuditEntry, type CustomRoute, type Leveled, type OpsOptions } from '../src/ops/index.ts'
import { ask, freshToken } from './_ops.ts'
import { folder, openDoor, route, until } from './_ops-door.ts'

/** An endpoint with one token, which may do everything, and what its audit and its logger were told. */
async function site(options: OpsOptions = {}) {
  const token = freshToken()
  const entries: AuditEntry[] = []
  const lines: string[] = []
  const endpoint = await ops({
    thread: false, audit: false, listen: { port: 0 },
    auth: { tokens: [{ name: 'ann', scopes: ['read', 'diag', 'secrets', 'control', 'eval'], token }] },
    onAudit: entry => entries.push(entry),
    logger: { warn: line => lines.push(line) },
    ...options,
  }).ready
  const go = (path: string, method = 'GET', body?: unknown) => ask(endpoint.address, path, { method, token, body })
  return { endpoint, token, entries, lines, go }
}

test('the audit says what was done: checked parameters before and after, without the secret ones', async () => {
  const token = freshToken()
  const params = {
    name: { in: 'path', type: 'string', description: 'A name' },
    deep: { in: 'query', type: 'boolean', default: false, description: 'How' },
    word: { in: 'body', type: 'string', secret: true, description: 'Nobody\'s business' },
  } as const
  const door = await openDoor({ token, routes: [route('/caches/{name}', 'control', { method: 'POST', params })] })
  await door.ask('/caches/prices?deep=true', { method: 'POST', token, body: { word: 'swordfish' } })
  await until('both lines', () => door.entries.some(({ event }) => event === 'end'))
  const lines = door.entries.filter(({ event }) => event === 'begin' || event === 'end')
  assert.deepEqual(lines.map(entry => entry.params), [{ name: 'prices', deep: true }, { name: 'prices', deep: true }])
  assert.ok(!JSON.stringify(door.entries).includes('swordfish'))
  await door.close()
})

test('the line before an evaluation has its digest already, for it may end the process', async () => {
  const { endpoint, entries, go } = await site({ eval: true })
  await go('/eval', 'POST', { expression: '6 * 7' })
  await endpoint.close()
  const begin = entries.find(({ event, path }) => event === 'begin' && path === '/eval')
  assert.match(String(begin?.sha256), /^[0-9a-f]{64}$/)
  assert.equal(begin?.length, 5)
  assert.ok(!JSON.stringify(entries).includes('6 * 7'))
})

test('a client that left before the answer is in the audit with 499, not 200', async () => {
  const { endpoint, entries, token } = await site()
  endpoint.register({ method: 'POST', path: '/slow', scope: 'control', handler: ({ signal }) => sleep(5_000, undefined, { signal }) })
  const { port } = new URL(endpoint.url ?? '')
  const req = http.request({ host: '127.0.0.1', port, path: '/slow', method: 'POST', headers: { Authorization: `Bearer ${token}` } })
  req.on('error', () => {})
  req.end()
  await until('it has begun', () => entries.some(({ event, path }) => event === 'begin' && path === '/slow'))
  req.destroy()
  await until('it has ended', () => entries.some(({ event }) => event === 'end'))
  const end = entries.find(({ event }) => event === 'end')
  assert.deepEqual([end?.status, end?.code], [499, 'ERR_LAMEDUCK_OPS_GONE'])
  await endpoint.close()
})

test('sixteen connections that send nothing, and come again whenever they are closed, lock nobody out', async () => {
  const { endpoint, go } = await site()
  const { port } = new URL(endpoint.url ?? '')
  const held = new Set<net.Socket>()
  let over = false
  let came = 0
  const hold = () => {
    if (over) return
    came++
    const socket = net.connect({ host: '127.0.0.1', port: Number(port) })
    held.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => {
      held.delete(socket)
      hold()
    })
  }
  for (let i = 0; i < 16; i++) hold()
  // The first have been sent away.
  for (const end = performance.now() + 5_000; came === 16 && performance.now() < end;) await sleep(20)
  for (let i = 0; i < 20; i++) {
    assert.equal((await ask(endpoint.address, '/livez')).status, 200)
    assert.equal((await go('/info')).status, 200)
  }
  assert.ok(came > 16, `${came} came`)
  over = true
  for (const socket of held) socket.destroy()
  await endpoint.close()
})

test('a connection that sends nothing is closed after two seconds, not when a request\'s time is over', async () => {
  const { endpoint } = await site()
  const socket = net.connect({ host: '127.0.0.1', port: Number(new URL(endpoint.url ?? '').port) }).resume()
  const began = performance.now()
  await new Promise<void>(resolve => void socket.once('close', () => resolve()))
  const took = performance.now() - began
  assert.ok(took > 1_000 && took < 4_500, `${took} ms`)
  await endpoint.close()
})

test('who is being answered keeps the connection, however many silent ones come', async () => {
  const { endpoint, go } = await site({ limits: { connections: 2 } })
  endpoint.register({ method: 'POST', path: '/work', scope: 'control', handler: () => sleep(500, { done: true }) })
  const answer = go('/work', 'POST', {})
  const silent = Array.from({ length: 6 }, () => net.connect({ host: '127.0.0.1', port: Number(new URL(endpoint.url ?? '').port) }).on('error', () => {}))
  assert.deepEqual((await answer).json, { done: true })
  for (const socket of silent) socket.destroy()
  await endpoint.close()
})

const OPTION = { name: 'LameduckError', code: 'ERR_LAMEDUCK_OPTION' }

/** Something to register, with a change to it. */
const custom = (more: object): CustomRoute => ({ method: 'GET', path: '/mine', scope: 'read', handler: () => ({ mine: true }), ...more }) as CustomRoute

test('a route that cannot go over to the endpoint is refused, and nothing of it stays', async () => {
  const { endpoint, go } = await site()
  const params = { name: { in: 'query', type: 'string', description: 'x', default: 'a', check() {} } }
  assert.throws(() => endpoint.register(custom({ params })), OPTION)
  // Nothing of it is in the way.
  endpoint.register(custom({}))
  assert.deepEqual((await go('/mine')).json, { mine: true })
  await endpoint.close()
})

for (const [what, more] of [
  ['with a path of the endpoint\'s own', { path: '/info' }],
  ['with a path of the endpoint\'s own, in other words', { path: '/loggers/{which}', params: { which: { in: 'path', type: 'string', description: 'x' } } }],
  ['with the path of the description', { path: '/openapi.json' }],
  ['with a path that is taken', { path: '/taken' }],
  ['with a parameter in its path that is not declared', { path: '/mine/{name}' }],
  ['with a parameter in an unknown place', { params: { name: { in: 'header', type: 'string', description: 'x' } } }],
  ['with a parameter of an unknown type', { params: { name: { in: 'query', type: 'date', description: 'x' } } }],
  ['with a parameter that is none', { params: { name: null } }],
  ['with a summary that is a function', { summary: () => {} }],
] as const) {
  test(`a route ${what} is refused where it is registered`, async () => {
    const { endpoint, lines } = await site()
    endpoint.register(custom({ path: '/taken' }))
    assert.throws(() => endpoint.register(custom(more)), OPTION)
    await endpoint.close()
    assert.deepEqual(lines, [])
  })
}

test('nothing at all cannot be registered, and nothing can be once the endpoint is being closed', async () => {
  const { endpoint } = await site()
  assert.throws(() => endpoint.register(undefined as unknown as CustomRoute), OPTION)
  const closed = endpoint.close()
  assert.throws(() => endpoint.register(custom({})), OPTION)
  await closed
})

test('a path of the endpoint\'s own that is registered before it is open is a warning', async () => {
  const lines: string[] = []
  const endpoint = ops({ thread: false, audit: false, logger: { warn: line => lines.push(line) }, listen: false })
  endpoint.register(custom({ path: '/info' }))
  await endpoint.ready
  await until('the warning', () => lines.some(line => /GET \/info cannot be registered/.test(line)))
  await endpoint.close()
})

test('an object with a status of its own, or another value in a member of a reply, is sent as JSON', async () => {
  const { endpoint, go } = await site()
  const answers: Record<string, object> = {
    text: { status: 'ok' }, low: { status: 100 }, half: { status: 200.5 }, both: { status: 'ok', json: { a: 1 } }, body: { body: { a: 1 } }, headers: { status: 200, headers: 'x' },
  }
  for (const [name, answer] of Object.entries(answers)) endpoint.register(custom({ path: `/answer/${name}`, handler: () => answer }))
  endpoint.register(custom({ path: '/made', handler: () => ({ status: 201, json: { made: new Date(0), skip() {} }, headers: { 'X-Made': 'yes' } }) }))
  for (const [name, answer] of Object.entries(answers)) {
    const { status, json } = await go(`/answer/${name}`)
    assert.deepEqual([status, json], [200, answer])
  }
  const made = await go('/made')
  assert.deepEqual([made.status, made.json, made.headers['x-made'], made.headers['content-type']], [201, { made: '1970-01-01T00:00:00.000Z' }, 'yes', 'application/json'])
  await endpoint.close()
})

test('a handler of the application that takes too long is answered with 504, or 503 when the main thread is blocked', async () => {
  const { endpoint, go } = await site()
  endpoint.register(custom({ path: '/slow', timeoutMs: 100, handler: ({ signal }: { signal: AbortSignal }) => sleep(2_000, null, { signal }) }))
  const slow = await go('/slow')
  assert.deepEqual([slow.status, slow.json.code], [504, 'ERR_LAMEDUCK_OPS_TIMEOUT'])
  const worker = await site({ thread: true })
  worker.endpoint.register(custom({
    path: '/block', timeoutMs: 300,
    handler() {
      const until = performance.now() + 3_000
      while (performance.now() < until);
    },
  }))
  const block = await worker.go('/block')
  assert.deepEqual([block.status, block.json.code], [503, 'ERR_LAMEDUCK_OPS_BLOCKED'])
  await Promise.all([endpoint.close(), worker.endpoint.close()])
})

test('what a handler of the application throws is in the log with its stack, and not in the answer', async () => {
  const { endpoint, lines, go } = await site()
  endpoint.register(custom({ path: '/fails', handler: () => Promise.reject(new Error('the password is swordfish')) }))
  const { status, json, text } = await go('/fails')
  assert.deepEqual([status, json.code], [500, 'ERR_LAMEDUCK_OPS_FAILED'])
  assert.ok(!text.includes('swordfish'))
  assert.match(lines.join(), /GET \/fails failed: Error: the password is swordfish \| .*ops-review/)
  await endpoint.close()
})

test('reload says how many tokens are in force, and which file could not be used', async () => {
  const file = join(folder(), 'token')
  writeFileSync(file, `${freshToken()}\n`, { mode: 0o600 })
  const { endpoint } = await site({ auth: { tokens: [{ name: 'ann', scopes: ['read'], file }] } })
  assert.deepEqual(await endpoint.reload(), { tokens: 1, failed: [] })
  rmSync(file)
  assert.deepEqual(await endpoint.reload(), { tokens: 1, failed: [file] })
  await endpoint.close()
})

test('a logger with no levels to tell is listed with the others; one whose level cannot be set is answered with 409', async () => {
  const loggers = {
    odd: { level: 'info', levels: null } as unknown as Leveled,
    odder: { level: 'info', levels: { values: null } } as unknown as Leveled,
    fixed: { get level() { return 'info' } } as Leveled,
  }
  const { endpoint, go } = await site({ loggers })
  const { status, json } = await go('/loggers')
  assert.deepEqual([status, (json as unknown as { name: string }[]).map(({ name }) => name)], [200, ['odd', 'odder', 'fixed']])
  const put = await go('/loggers/fixed', 'PUT', { level: 'debug' })
  assert.deepEqual([put.status, put.json.code], [409, 'ERR_LAMEDUCK_OPS_LOGGER_FIXED'])
  assert.equal((await go('/loggers/odd', 'PUT', { level: 'debug' })).json.level, 'debug')
  await endpoint.close()
})

test('an endpoint on TCP that nobody may do anything at is warned of; one with tokens is not', async () => {
  const alone = await site({ auth: {} })
  assert.match(alone.lines.join(), /nobody may do anything/)
  const usual = await site()
  assert.deepEqual(usual.lines, [])
  await Promise.all([alone.endpoint.close(), usual.endpoint.close()])
})

test('an error of the other thread whose code is a number is told as it is', async () => {
  const { endpoint } = await site()
  // A function cannot go over: a DOMException with the code 25.
  await assert.rejects(endpoint.rules.arm((() => {}) as never), { name: 'LameduckError', code: 'ERR_LAMEDUCK_OPS_START' })
  await endpoint.close()
})
