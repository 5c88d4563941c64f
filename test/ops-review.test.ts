import assert from 'node:assert/strict'
import http from 'node:http'
import net from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ops, type AuditEntry, type CustomRoute, type Leveled, type OpsOptions } from '../src/ops/index.ts'
import { ask, freshToken } from './_ops.ts'
import { openDoor, route, until } from './_ops-door.ts'

/** An endpoint with one token, which may do everything, and what its audit and its logger were told. */
async function site(options: OpsOptions = {}) {
  const token = freshToken()
  const entries: AuditEntry[] = []
  const lines: string[] = []
  const endpoint = await ops({
    thread: false, audit: false, listen: { port: 0 },
    auth: { tokens: [{ name: 'ann', scopes: ['read', 'diag', 'secrets', 'control', 'eval'], token }] },
    onAudit: entry => entries.push(entry),
    logger: { warn: line => lines.push(String(line)) },
    ...options,
  }).ready
  const go = (path: string, method = 'GET', body?: unknown) => ask(endpoint.address, path, { method, token, body })
  return { endpoint, token, entries, lines, go }
}

const options = (code: string) => ({ name: 'LameduckError', code })

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
  await sleep(200)
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
  assert.ok(took > 1_000 && took < 4_000, `${took} ms`)
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
