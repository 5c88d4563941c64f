import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from '../src/core/index.ts'
import { unstalled } from './_stopwatch.ts'

async function listening(options: object) {
  const server = http.createServer((_req, res) => res.end('hello'))
  const lines: string[] = []
  const logger = { info: (line: string) => lines.push(line), warn: (line: string) => lines.push(line) }
  const duck = wrap(server, { signals: false, logger, ...options })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const get = async (path = '/') => {
    const req = http.get({ port, host: '127.0.0.1', path, agent: false })
    const [res] = await once(req, 'response') as [http.IncomingMessage]
    await once(res.resume(), 'end')
    return res.statusCode
  }
  return { duck, get, lines }
}

test('a client with a connection for each request is served through the lame duck, and a probe sees 503', () => unstalled(async () => {
  const { duck, get } = await listening({ lameduckMs: 4_000 })
  assert.equal(await get('/readyz'), 200)
  const drained = duck.drain()
  for (let i = 0; i < 8; i++) {
    await sleep(100)
    // No connection is open in between.
    assert.equal(await get(), 200)
    assert.equal(await get('/readyz'), 503)
  }
  assert.equal(duck.state, 'lameduck')
  assert.equal((await drained).served, 8)
}))

test('the lame duck ends early once no client comes any more', async () => {
  const { duck, get } = await listening({ lameduckMs: 20_000, deadlineMs: 25_000 })
  await get()
  const report = await duck.drain()
  assert.equal(report.outcome, 'clean')
  assert.ok(report.durationMs < 10_000)
})

test('the log says what abort() cut', async () => {
  const { duck, lines } = await listening({})
  await duck.abort('enough')
  assert.ok(lines.includes('lameduck: enough: destroying what is left: no connection'), lines.join('\n'))
})
