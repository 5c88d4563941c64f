// What is asked of a main thread that does not come to it in time is not done later.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import net from 'node:net'
import { test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from '../src/core/index.ts'
import { ops } from '../src/ops/index.ts'
import { freshToken } from './_ops-door.ts'

/** An endpoint in a thread of its own, and what is asked of it while this thread stands still. */
async function standing(t: TestContext) {
  const server = http.createServer((_, res) => res.end('hello'))
  const duck = wrap(server)
  await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve))
  const token = freshToken()
  const app = { level: 'info' }
  const endpoint = ops({
    duck, listen: { port: 0 }, audit: false, loggers: { app }, logger: { warn() {} },
    auth: { tokens: [{ name: 'ann', scopes: ['read', 'diag', 'control'], token }] },
  })
  await endpoint.ready
  t.after(async () => {
    await endpoint.close()
    server.close()
  })
  /** Written before, answered meanwhile, read afterwards. */
  const blockedFor = async (ms: number, asked: [string, object?][]) => {
    const sockets = await Promise.all(asked.map(async () => {
      const socket = net.connect(Number(new URL(endpoint.url ?? '').port), '127.0.0.1').setEncoding('latin1')
      await once(socket, 'connect')
      return socket
    }))
    const texts = sockets.map(async socket => (await socket.toArray()).join(''))
    for (const [i, [line, json]] of asked.entries()) {
      const body = json === undefined ? '' : JSON.stringify(json)
      sockets[i]?.write(`${line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
    }
    const until = performance.now() + ms
    while (performance.now() < until);
    return Promise.all(texts)
  }
  return { endpoint, server: server.address() as AddressInfo, duck, app, blockedFor }
}

test('what was answered with 503 because the main thread was blocked is not carried out when that comes to it', async t => {
  const { endpoint, duck, app, blockedFor } = await standing(t)
  const done: string[] = []
  endpoint.register({ method: 'POST', path: '/cache', scope: 'control', timeoutMs: 1_000, handler: () => done.push('cache') })
  const answers = await blockedFor(4_000, [['POST /lameduck'], ['PUT /loggers/app', { level: 'debug' }], ['POST /cache']])
  for (const answer of answers) assert.match(answer, /^HTTP\/1\.1 503 [^]*ERR_LAMEDUCK_OPS_BLOCKED/)
  await sleep(300)
  assert.deepEqual([duck.state, app.level, done], ['running', 'info', []])
})

test('what the main thread comes to in time is carried out, however long it was blocked before', async t => {
  const { duck, app, blockedFor } = await standing(t)
  const answers = await blockedFor(800, [['POST /lameduck'], ['PUT /loggers/app', { level: 'debug' }]])
  for (const answer of answers) assert.match(answer, /^HTTP\/1\.1 200 /)
  assert.deepEqual([duck.state, app.level], ['lameduck', 'debug'])
})
