import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import type net from 'node:net'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket, WebSocketServer } from 'ws'
import { Client } from './_client.ts'
import { freshToken, openDoor, request, route, until, type DoorSite } from './_ops-door.ts'
import { Problem } from '../src/ops/http/problem.ts'
import type { Call, Route, Scope } from '../src/ops/http/route.ts'

const head = (path: string, token: string) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n\r\n`

function dial(site: DoorSite): Promise<Client> {
  return Client.open({ host: '127.0.0.1', port: Number(new URL(site.url).port) })
}

test('a large answer waits for a slow reader, and arrives whole', async () => {
  const token = freshToken()
  const total = 64
  let made = 0
  const big = route('/big', 'diag', {
    handler: () => ({
      type: 'application/octet-stream',
      body: new Readable({ read() { this.push(made < total ? Buffer.alloc(2 ** 20, ++made) : null) } }),
    }),
  })
  const site = await openDoor({ token, routes: [big] })
  const client = await dial(site)
  client.pause()
  client.note('1')
  client.write(head('/big', token))
  await sleep(300)
  assert.ok(made < total / 2, `${made} MB were made for a reader that takes none`)
  client.resume()
  const answer = await client.answer(20_000)
  assert.equal(answer.body.length, total * 2 ** 20)
  assert.ok(answer.body.at(-1) === total)
  client.destroy()
  await until('the audit', () => site.entries.some(({ event, bytes }) => event === 'end' && bytes === total * 2 ** 20))
  await site.close()
})

test('a client that leaves aborts its call and ends its stream, and the audit says so', async () => {
  const token = freshToken()
  let signal: AbortSignal | undefined
  const body = new Readable({ read() {} })
  const site = await openDoor({ token, routes: [
    route('/work', 'diag', { handler: call => { signal = call.signal; return once(call.signal, 'abort').then(() => { throw call.signal.reason }) } }),
    route('/stream', 'diag', { handler: () => ({ body, type: 'text/plain' }) }),
  ] })
  for (const path of ['/work', '/stream']) {
    const client = await dial(site)
    client.note('1')
    client.write(head(path, token))
    await until('it has begun', () => site.entries.at(-1)?.event === 'begin')
    client.destroy()
    await until('it has ended', () => site.entries.at(-1)?.event === 'end')
    assert.deepEqual([site.entries.at(-1)?.path, site.entries.at(-1)?.code], [path, 'ERR_LAMEDUCK_OPS_GONE'])
  }
  assert.ok(signal?.aborted)
  assert.ok(body.destroyed)
  await site.close()
})

test('a stream that fails at once is a problem document; one that fails later is cut, not made to look whole', async () => {
  const site = await openDoor({ routes: [
    route('/at-once', 'read', { handler: () => ({ headers: { 'Content-Encoding': 'gzip' }, body: new Readable({ read() { this.destroy(new Problem(507, 'ERR_LAMEDUCK_OPS_DISK', 'full')) } }) }) }),
    route('/later', 'read', { handler: () => ({ body: Readable.from((async function* () { yield 'x'; await sleep(20); throw new Error('y') })()) }) }),
  ] })
  const first = await site.ask('/at-once')
  assert.deepEqual([first.status, first.json.code, first.headers['content-encoding']], [507, 'ERR_LAMEDUCK_OPS_DISK', undefined])
  await assert.rejects(site.ask('/later'), { code: 'ECONNRESET' })
  await site.close()
})

const events = route('/events', 'read', {
  success: { status: 200, types: ['text/event-stream'], description: 'Events.' },
  handler: ({ res, signal }) => {
    res.writeHead(200, { 'Content-Type': 'text/event-stream' })
    res.write('data: 1\n\n')
    signal.addEventListener('abort', () => res.end('data: bye\n\n'))
    return undefined
  },
})

test('an event stream passes the same checks, has a HEAD, and is told when the endpoint closes', async () => {
  const token = freshToken()
  const site = await openDoor({ token, routes: [events] })
  assert.equal((await site.ask('/events', { token: null })).status, 401)
  const alone = await site.ask('/events', { method: 'HEAD' })
  assert.deepEqual([alone.status, alone.headers['content-type']], [200, 'text/event-stream'])
  const client = await dial(site)
  client.note('1')
  client.write(head('/events', token))
  await client.received(100)
  await site.close()
  assert.equal((await client.answer()).text, 'data: 1\n\ndata: bye\n\n')
})

test('closing lets an answer that is on its way out, ends what does not end by itself, and is done within a second', async () => {
  const token = freshToken()
  const site = await openDoor({ token, routes: [
    route('/soon', 'control', { handler: () => sleep(100).then(() => ({ json: { done: true } })) }),
    route('/never', 'control', { handler: () => new Promise<never>(() => {}) }),
  ] })
  const [soon, never, idle] = await Promise.all([dial(site), dial(site), dial(site)])
  for (const [client, path] of [[soon, '/soon'], [never, '/never']] as const) {
    client.note('1')
    client.write(head(path, token))
  }
  await until('both run', () => site.entries.filter(({ event }) => event === 'begin').length === 2)
  const startedAt = performance.now()
  await site.close()
  assert.ok(performance.now() - startedAt < 3_000)
  assert.deepEqual(JSON.parse((await soon.answer()).text), { done: true })
  await assert.rejects(never.answer(), /ended/)
  assert.notEqual(await idle.ended(), 'open')
  await assert.rejects(dial(site), { code: 'ECONNREFUSED' })
  await assert.rejects(site.endpoint.listen(), { code: 'ERR_LAMEDUCK_OPS_CLOSED' })
})

/** A WebSocket that says everything back. */
function echo(scope: Scope | null, calls: Call[] = []): Route {
  const server = new WebSocketServer({ noServer: true })
  return route('/repl', scope, {
    params: { from: { in: 'query', type: 'integer', description: 'Any.', max: 9 } },
    handler: () => { throw new Problem(426, 'ERR_LAMEDUCK_OPS_UPGRADE', 'this is a WebSocket') },
    upgrade: call => {
      calls.push(call)
      if (call.params.from === 9) throw new Problem(409, 'ERR_LAMEDUCK_OPS_BUSY', 'somebody else has it')
      server.handleUpgrade(call.req, call.req.socket, call.head, ws => ws.on('message', (data: Buffer) => ws.send(`> ${data.toString()}`)))
    },
  })
}

function shake(site: DoorSite, path: string, headers: Record<string, string>): Promise<{ status: number; code?: unknown; close: string | undefined }> {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(`${site.url.replace('http', 'ws')}${path}`, { headers })
    ws.on('unexpected-response', (_, res) => {
      let text = ''
      res.on('data', (chunk: Buffer) => (text += chunk.toString())).on('end', () => resolve({
        status: res.statusCode ?? 0, code: (JSON.parse(text) as { code: unknown }).code, close: res.headers.connection,
      }))
    })
    ws.on('open', () => { ws.close(); resolve({ status: 101, close: undefined }) })
    ws.on('error', reject)
  })
}

test('a WebSocket passes the same checks before it is one; a refusal is a whole HTTP answer', async () => {
  const calls: Call[] = []
  const token = freshToken()
  const low = freshToken()
  const tokens = [{ name: 'ann', scopes: ['eval' as Scope], token }, { name: 'bob', scopes: ['read' as Scope], token: low }]
  const site = await openDoor({ token, routes: [echo('eval', calls), route('/info', 'eval')], options: { auth: { tokens }, limits: { failures: { burst: 100, perSecond: 1 } } } })
  const Authorization = `Bearer ${token}`
  const said: [path: string, headers: Record<string, string>, status: number, code: string][] = [
    ['/repl', {}, 401, 'ERR_LAMEDUCK_OPS_TOKEN'], ['/nope', {}, 401, 'ERR_LAMEDUCK_OPS_TOKEN'], [`/repl?access_token=${token}`, {}, 401, 'ERR_LAMEDUCK_OPS_TOKEN'],
    ['/repl', { Authorization: `Bearer ${low}` }, 403, 'ERR_LAMEDUCK_OPS_SCOPE'], ['/nope', { Authorization }, 404, 'ERR_LAMEDUCK_OPS_NOT_FOUND'],
    ['/info', { Authorization }, 400, 'ERR_LAMEDUCK_OPS_UPGRADE'], ['/repl?from=10', { Authorization }, 400, 'ERR_LAMEDUCK_OPS_PARAM'],
    ['/repl', { Authorization, Origin: 'https://evil.example' }, 403, 'ERR_LAMEDUCK_OPS_ORIGIN'], ['/repl', { Authorization, Host: 'evil.example' }, 421, 'ERR_LAMEDUCK_OPS_HOST'],
  ]
  for (const [path, headers, status, code] of said) assert.deepEqual(await shake(site, path, headers), { status, code, close: 'close' }, path)
  assert.equal(calls.length, 0)
  assert.deepEqual(await shake(site, '/repl?from=9', { Authorization }), { status: 409, code: 'ERR_LAMEDUCK_OPS_BUSY', close: 'close' })
  assert.equal((await shake(site, '/repl', { Authorization })).status, 101)
  assert.equal((await site.ask('/repl')).status, 426)
  await site.close()
})

test('a WebSocket works, is in the audit with its begin and end, and ends with the endpoint', async () => {
  const calls: Call[] = []
  const token = freshToken()
  const site = await openDoor({ token, routes: [echo('eval', calls)] })
  const ws = new WebSocket(`${site.url.replace('http', 'ws')}/repl`, { headers: { Authorization: `Bearer ${token}` } })
  await once(ws, 'open')
  ws.send('1 + 1')
  const [said] = await once(ws, 'message') as [Buffer]
  assert.equal(said.toString(), '> 1 + 1')
  await until('begin', () => site.entries.some(({ event, who, path }) => event === 'begin' && who === 'ann' && path === '/repl'))
  const closed = once(ws, 'close')
  await site.close()
  await closed
  assert.ok(calls[0]?.signal.aborted)
  assert.equal(site.entries.at(-1)?.event, 'end')
})

test('an upgrade to something else, and CONNECT, are refused with an answer', async () => {
  const token = freshToken()
  const site = await openDoor({ token, routes: [echo('eval')] })
  for (const bytes of [`GET /repl HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n`, 'CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost\r\n\r\n']) {
    const client = await dial(site)
    client.note('1')
    client.write(bytes)
    const { status } = await client.answer()
    assert.ok(status === 426 || status === 400, String(status))
    assert.equal(await client.ended(), 'fin')
  }
  await site.close()
})

test('mounted under a path of an application it works as alone, and takes no right of other origins over', async () => {
  const token = freshToken()
  const { endpoint, ask: _, close, entries } = await openDoor({ token, routes: [route('/info', 'read'), echo('eval'), route('/set', 'control', { method: 'POST', params: { a: { in: 'body', type: 'integer', description: 'Any.' } }, handler: call => ({ json: call.params }) })] })
  const app = http.createServer((req, res) => {
    res.setHeader('Access-Control-Allow-Origin', '*')
    if (req.url?.startsWith('/ops')) void endpoint.handle(req, res, { prefix: '/ops', ...(req.headers['x-parsed'] ? { body: { a: 7 } } : {}) })
    else res.end('the app')
  })
  app.on('upgrade', (req, socket, head) => void endpoint.upgrade(req, socket, head, { prefix: '/ops' }))
  app.listen(0, '127.0.0.1')
  await once(app, 'listening')
  const url = `http://127.0.0.1:${(app.address() as net.AddressInfo).port}`
  const ask = (path: string, more = {}) => request(url, undefined, path, { token, ...more })
  const info = await ask('/ops/info')
  assert.deepEqual([info.status, info.headers['access-control-allow-origin']], [200, undefined])
  assert.deepEqual((await ask('/ops/set', { method: 'POST', body: { a: 5 } })).json, { a: 5 })
  assert.deepEqual((await ask('/ops/set', { method: 'POST', headers: { 'X-Parsed': '1' } })).json, { a: 7 })
  assert.equal((await ask('/ops/info', { token: null })).status, 401)
  assert.equal((await ask('/ops/../info')).status, 400)
  assert.equal((await ask('/other')).text, 'the app')
  const ws = new WebSocket(`${url.replace('http', 'ws')}/ops/repl`, { headers: { Authorization: `Bearer ${token}` } })
  await once(ws, 'open')
  ws.terminate()
  await until('its end', () => entries.at(-1)?.event === 'end')
  app.close()
  await close()
})
