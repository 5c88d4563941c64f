import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import http from 'node:http'
import { syncBuiltinESMExports } from 'node:module'
import net from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { freshToken, openDoor, post, scoped, until } from './_ops-door.ts'
import type { Scope } from '../src/ops/http/route.ts'

setFlagsFromString('--expose-gc')
/** A whole garbage collection. */
const collect = runInNewContext('gc') as () => void

test('failures are throttled: 429 with Retry-After, then again a try; who was let in before on a connection is not locked out', async () => {
  const token = freshToken()
  const site = await openDoor({ token, options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], token }] }, limits: { failures: { burst: 3, perSecond: 5 } } } })
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  assert.equal((await site.ask('/info', { agent })).status, 200)
  const statuses: number[] = []
  let refused = await site.ask('/info', { token: freshToken() })
  // Four, unless the machine is so slow that tries come back meanwhile.
  for (let i = 0; i < 100 && refused.status !== 429; i++) {
    statuses.push(refused.status)
    refused = await site.ask('/info', { token: freshToken() })
  }
  assert.equal(refused.status, 429)
  assert.deepEqual([statuses.length >= 3, [...new Set(statuses)]], [true, [401]])
  assert.deepEqual([refused.json.code, refused.headers['retry-after']], ['ERR_LAMEDUCK_OPS_THROTTLED', '1'])
  assert.ok(Number(refused.json.retryAfterMs) > 0 && Number(refused.json.retryAfterMs) <= 200)
  assert.equal((await site.ask('/info', { agent })).status, 200)
  agent.destroy()
  await sleep(300)
  assert.equal((await site.ask('/info')).status, 200)
  await site.close()
})

test('a flood of callers without a token locks nobody out who has one', async () => {
  const token = freshToken()
  const site = await openDoor({ token, options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], token }] }, limits: { failures: { burst: 3, perSecond: 0.01 } } } })
  for (let i = 0; i < 5; i++) await site.ask('/info', { token: null })
  assert.equal((await site.ask('/info', { token: null })).status, 429)
  assert.equal((await site.ask('/info', { token: 'short' })).status, 429)
  assert.equal((await site.ask('/info')).status, 200)
  await site.close()
})

test('a stranger who goes on asking is slowed down, and whoever was let in before is not', async () => {
  const token = freshToken()
  const site = await openDoor({ token, options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], token }] }, limits: { failures: { burst: 2, perSecond: 0.01 } } } })
  const [stranger, ann] = [new http.Agent({ keepAlive: true, maxSockets: 1 }), new http.Agent({ keepAlive: true, maxSockets: 1 })]
  assert.equal((await site.ask('/info', { agent: ann })).status, 200)
  for (let i = 0; i < 2; i++) await site.ask('/info', { agent: stranger, token: null })
  const times = { stranger: 0, ann: 0 }
  for (let i = 0; i < 21; i++) {
    const began = performance.now()
    assert.equal((await site.ask('/info', { agent: stranger, token: null })).status, 429)
    const between = performance.now()
    assert.equal((await site.ask('/info', { agent: ann })).status, 200)
    times.stranger += between - began
    times.ann += performance.now() - between
  }
  // 50 ms behind each but the last.
  assert.ok(times.stranger >= 900 - times.ann, `${times.stranger} ms`)
  for (const agent of [stranger, ann]) agent.destroy()
  await site.close()
})

test('while failures are throttled no token is looked at', async () => {
  const site = await openDoor({ options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], token: freshToken() }] }, limits: { failures: { burst: 3, perSecond: 0.01 } } } })
  const { timingSafeEqual } = crypto
  let compared = 0
  crypto.timingSafeEqual = (a, b) => (compared++, timingSafeEqual(a, b))
  syncBuiltinESMExports()
  try {
    for (let i = 0; i < 20; i++) await site.ask('/info', { token: freshToken() })
    assert.equal(compared, 3)
  } finally {
    crypto.timingSafeEqual = timingSafeEqual
    syncBuiltinESMExports()
  }
  await site.close()
})

test('each token has so many calls, and one that has none left takes nothing from another', async () => {
  const [one, two] = [freshToken(), freshToken()]
  const tokens = [{ name: 'ann', scopes: ['read' as Scope], token: one }, { name: 'bob', scopes: ['read' as Scope], token: two }]
  const site = await openDoor({ options: { auth: { tokens }, limits: { calls: { burst: 4, perSecond: 0.01 } } } })
  const statuses: number[] = []
  for (let i = 0; i < 6; i++) statuses.push((await site.ask('/info', { token: one })).status)
  assert.deepEqual(statuses, [200, 200, 200, 200, 429, 429])
  const refused = await site.ask('/info', { token: one })
  assert.equal(refused.json.code, 'ERR_LAMEDUCK_OPS_THROTTLED')
  const wait = Number(refused.headers['retry-after'])
  assert.ok(wait > 80 && wait <= 100, `${wait} s`)
  assert.equal((await site.ask('/info', { token: two })).status, 200)
  await site.close()
})

test('10,000 unauthorised requests in a burst: nothing is executed, the audit has a few lines, and memory stays', async () => {
  const executed: string[] = []
  const token = freshToken()
  const site = await openDoor({ token, routes: scoped(executed), options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], token }] } } })
  const { port } = new URL(site.url)
  const wrong = freshToken()
  const bytes = `POST /read HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${wrong}\r\nContent-Length: 0\r\n\r\n`
  const counts: Record<string, number> = {}
  let answers = 0
  // No more than may be silent for a moment: they have not said anything before all are there.
  const sockets = await Promise.all(Array.from({ length: 8 }, async () => {
    const socket = net.connect(Number(port), '127.0.0.1').setEncoding('latin1')
    await new Promise(resolve => socket.once('connect', resolve))
    let rest = ''
    return socket.on('data', (text: string) => {
      const parts = (rest + text).split('HTTP/1.1 ')
      rest = `HTTP/1.1 ${parts.pop()}`
      // The last one of a connection ends with its document.
      if (rest.endsWith('}\n')) {
        parts.push(rest.slice(9))
        rest = ''
      }
      for (const part of parts.filter(Boolean)) {
        counts[part.slice(0, 3)] = (counts[part.slice(0, 3)] ?? 0) + 1
        answers++
      }
    })
  }))
  collect()
  const before = process.memoryUsage().heapUsed
  const startedAt = performance.now()
  for (const socket of sockets) socket.write(bytes.repeat(1_250))
  await until('all are answered', () => answers === 10_000, 30_000)
  const seconds = (performance.now() - startedAt) / 1_000
  assert.deepEqual(Object.keys(counts).sort(), ['401', '429'])
  assert.ok((counts['401'] ?? 0) <= 10 + seconds + 1, `${counts['401']} looked at in ${seconds} s`)
  assert.deepEqual(executed, [])
  for (const socket of sockets) socket.destroy()
  await sleep(1_200)
  await until('the last line', () => site.entries.reduce((sum, { count }) => sum + Number(count), 0) >= 10_000)
  // Two kinds: the first of each at once, and one line for each second that there were more.
  const lines = site.entries.length
  assert.ok(lines <= 2 * (2 + Math.ceil(seconds) + 1), `${lines} lines in ${seconds} s`)
  assert.equal(site.entries.reduce((sum, { count }) => sum + Number(count), 0), 10_000)
  collect()
  assert.ok(process.memoryUsage().heapUsed - before < 5e6)
  assert.equal((await post(site, '/read', token)).status, 200)
  await site.close()
})
