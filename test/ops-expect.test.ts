// What a client expects of us goes through the same door as any request.
import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import { counted, isProblem, until } from './_ops-door.ts'

test('an expectation that nobody knows is answered with 417 behind every check, and nothing is done', async () => {
  const { site, seen } = await counted()
  const headers = { Expect: 'x' }
  const stranger = await site.ask('/info', { token: null, headers })
  isProblem(stranger, 401, 'ERR_LAMEDUCK_OPS_TOKEN')
  assert.equal(stranger.headers['x-content-type-options'], 'nosniff')
  isProblem(await site.ask('/info', { headers: { ...headers, Host: 'evil.example' } }), 421, 'ERR_LAMEDUCK_OPS_HOST')
  isProblem(await site.ask('/work', { method: 'POST', headers }), 417, 'ERR_LAMEDUCK_OPS_EXPECT')
  isProblem(await site.ask('/livez', { token: null, headers }), 417, 'ERR_LAMEDUCK_OPS_EXPECT')
  assert.deepEqual(seen, [])
  assert.ok(site.entries.some(({ event, code }) => event === 'refused' && code === 'ERR_LAMEDUCK_OPS_TOKEN'))
  await site.close()
})

test('a stranger who expects something and does not wait is cut off as any', async () => {
  const { site } = await counted()
  const socket = net.connect(Number(new URL(site.url).port), '127.0.0.1').on('error', () => {}).resume()
  socket.write('GET /info HTTP/1.1\r\nHost: localhost\r\nExpect: x\r\n\r\n'.repeat(1_000))
  await until('it is cut off', () => socket.destroyed)
  assert.ok(site.entries.some(({ status, code }) => status === 400 && code === 'ERR_LAMEDUCK_OPS_HTTP'))
  await site.close()
})
