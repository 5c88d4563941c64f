import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import { Client } from './_client.ts'
import { CODES, counted, freshToken, isProblem, openDoor, route, until, type Asking, type DoorSite } from './_ops-door.ts'
import { Problem } from '../src/ops/http/problem.ts'
import type { Param } from '../src/ops/http/route.ts'

/** A connection on which the test decides about every byte. */
function raw({ url, path }: DoorSite): Promise<Client> {
  return Client.open(path === undefined ? { host: '127.0.0.1', port: Number(new URL(url).port) } : { path })
}

/** Sends these bytes as one request. */
async function send(site: DoorSite, bytes: string, method = 'GET') {
  const client = await raw(site)
  client.note('1', method)
  client.write(bytes)
  const answer = await client.answer()
  client.destroy()
  return answer
}

test('every answer forbids caching, sniffing and referrers, and allows no other origin', async () => {
  const { site } = await counted()
  const answers = await Promise.all(([['/info'], ['/info', { token: null }], ['/nope'], ['/work', { method: 'OPTIONS' }], ['/livez', { token: null }]] as [string, Asking?][])
    .map(([path, asking]) => site.ask(path, asking)))
  assert.deepEqual(answers.map(({ status }) => status), [200, 401, 404, 405, 200])
  for (const { headers } of answers) {
    assert.equal(headers['cache-control'], 'no-store')
    assert.equal(headers['x-content-type-options'], 'nosniff')
    assert.equal(headers['referrer-policy'], 'no-referrer')
    assert.deepEqual(Object.keys(headers).filter(name => name.startsWith('access-control-')), [])
  }
  await site.close()
})

for (const host of ['evil.example', '127.0.0.1.evil.example', 'localhost.evil.example', 'localhost@evil.example', '[::2]', '169.254.169.254', 'localhost:80:80', ' ', '127.0.0.2']) {
  test(`a request under the name ${JSON.stringify(host)} is answered with 421, even one for everybody`, async () => {
    const { site } = await counted()
    for (const path of ['/info', '/livez', '/nope']) isProblem(await site.ask(path, { headers: { Host: host } }), 421, CODES.host)
    await site.close()
  })
}

test('a request under a name of its own is answered, with a port and without', async () => {
  const { site } = await counted({}, {}, { hosts: ['ops.example', 'other.example:8443'] })
  const status = async (host: string) => (await site.ask('/info', { headers: { Host: host } })).status
  assert.deepEqual(await Promise.all(['ops.example', 'OPS.example:9000', 'other.example:8443'].map(status)), [200, 200, 200])
  // The address that the connection came in on, always.
  assert.equal(await status('127.0.0.1:1'), 200)
  assert.deepEqual(await Promise.all(['other.example', 'other.example:1', 'localhost', 'x.ops.example'].map(status)), [421, 421, 421, 421])
  await site.close()
})

test('a page of another origin is refused, one of its own is not', async () => {
  const { site, seen } = await counted()
  const { port } = new URL(site.url)
  const foreign: Record<string, string>[] = [
    { Origin: 'https://evil.example' }, { Origin: 'null' }, { Origin: `http://127.0.0.1:${Number(port) + 1}` }, { Origin: `http://localhost:${port}` },
    { Origin: 'http://127.0.0.1' }, { 'Sec-Fetch-Site': 'cross-site' }, { 'Sec-Fetch-Site': 'same-site' }, { 'Sec-Fetch-Site': 'whatever' },
    { Origin: `http://127.0.0.1:${port}`, 'Sec-Fetch-Site': 'cross-site' },
  ]
  for (const headers of foreign) isProblem(await site.ask('/work', { method: 'POST', headers }), 403, CODES.origin)
  assert.equal(seen.length, 0)
  const own: Record<string, string>[] = [{ Origin: `http://127.0.0.1:${port}` }, { 'Sec-Fetch-Site': 'same-origin' }, { 'Sec-Fetch-Site': 'none' }, {}]
  for (const headers of own) assert.equal((await site.ask('/work', { method: 'POST', headers })).status, 200)
  assert.equal(seen.length, 4)
  await site.close()
})

for (const trick of [
  '/../info', '/x/../info', '/./info', '/info/..', '/%2e%2e/info', '/%2E/info', '/x/%2e%2e/info', '/%252e%252e/info', '/x%2finfo', '/x%5cinfo',
  '//info', '/x//info', '/\\info', '/info%00', '/info%0d%0aX: 1', '/info%7f', '/%zz', '/%', '/%c0%ae%c0%ae/info', '/%ff', '/info#x', '/info?x=%',
  'info', '*', 'http://localhost/info', '/caf\u00e9',
]) {
  test(`the path ${JSON.stringify(trick)} is refused, with a token and without`, async () => {
    const { site, token } = await counted()
    for (const authorization of ['', `Authorization: Bearer ${token}\r\n`]) {
      const answer = await send(site, `GET ${trick} HTTP/1.1\r\nHost: localhost\r\n${authorization}Connection: close\r\n\r\n`)
      assert.equal(answer.status, 400, answer.text)
      assert.match(answer.text, /ERR_LAMEDUCK_OPS_(PATH|HTTP)/)
    }
    await site.close()
  })
}

test('a path in another spelling is another path', async () => {
  const { site } = await counted()
  for (const path of ['/info/', '/INFO', '/%69nfo', '/info;x=1', '/info%20', '/']) assert.equal((await site.ask(path)).status, 404, path)
  await site.close()
})

for (const [name, lines] of Object.entries({
  'two Host headers': 'Host: localhost\r\nHost: localhost', 'no Host header': 'X: 1',
  'two tokens': `Host: localhost\r\nAuthorization: Bearer ${freshToken()}\r\nAuthorization: Bearer ${freshToken()}`,
  'two origins': 'Host: localhost\r\nOrigin: http://localhost\r\nOrigin: http://localhost',
})) {
  test(`a request with ${name} is answered with 400`, async () => {
    const { site } = await counted()
    const answer = await send(site, `GET /info HTTP/1.1\r\n${lines}\r\nConnection: close\r\n\r\n`)
    assert.equal(answer.status, 400)
    assert.match(answer.text, /ERR_LAMEDUCK_OPS_HEADER/)
    await site.close()
  })
}

for (const [name, bytes] of Object.entries({
  'no HTTP': 'hello\r\n\r\n', 'TLS': '\x16\x03\x01\x02\x00', 'a length and chunks': 'POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  'a bare CR in the head': 'GET /info HTTP/1.1\rHost: localhost\r\n\r\n', 'a negative length': 'POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n',
})) {
  test(`what is ${name} is answered with 400 and nothing is done`, async () => {
    const { site, seen } = await counted()
    const answer = await send(site, bytes)
    assert.equal(answer.status, 400)
    assert.match(answer.text, /"code":"ERR_LAMEDUCK_OPS_HTTP"/)
    assert.equal(answer.header('cache-control'), 'no-store')
    assert.equal(seen.length, 0)
    assert.equal((await site.ask('/info')).status, 200)
    await site.close()
  })
}

test('a huge head is answered with 431, whatever it holds', async () => {
  const { site } = await counted({}, {}, { limits: { headBytes: 2_048 } })
  for (const head of [`GET /${'x'.repeat(9_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`, `GET /info HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(9_000)}\r\n\r\n`]) {
    const answer = await send(site, head)
    assert.equal(answer.status, 431)
    assert.match(answer.text, /"code":"ERR_LAMEDUCK_OPS_HEAD_SIZE"/)
  }
  assert.equal((await site.ask('/info')).status, 200)
  await site.close()
})

test('a huge body is answered with 413 before it is there: by its announced length, and by what has come', async () => {
  const { site, seen, token } = await counted({}, {}, { limits: { bodyBytes: 1_000 } })
  const head = `POST /work HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\n`
  const announced = await send(site, `${head}Content-Length: 1000000000000\r\n\r\n{`, 'POST')
  assert.equal(announced.status, 413)
  assert.match(announced.text, /"code":"ERR_LAMEDUCK_OPS_BODY_SIZE"/)
  const client = await raw(site)
  client.note('1', 'POST')
  client.write(`${head}Transfer-Encoding: chunked\r\n\r\n`)
  for (let i = 0; i < 30; i++) client.write(`100\r\n${' '.repeat(256)}\r\n`)
  const chunked = await client.answer()
  assert.equal(chunked.status, 413)
  assert.equal(chunked.header('connection'), 'close')
  client.destroy()
  assert.equal(seen.length, 0)
  await site.close()
})

test('an upload of 20 MB without a token gets its 401 whole, not a reset', async () => {
  const { site } = await counted()
  for (let i = 0; i < 5; i++) {
    const { status, json } = await site.ask('/work', { method: 'POST', token: null, body: 'x'.repeat(20e6), headers: { 'Content-Type': 'application/json' } })
      .catch((error: NodeJS.ErrnoException) => ({ status: error.code, json: {} as Record<string, unknown> }))
    assert.equal(status, 401)
    assert.equal(json.code, 'ERR_LAMEDUCK_OPS_TOKEN')
  }
  await site.close()
})

test('a client that asks before it sends its body is told no without having sent it, or to go on', async () => {
  const { site, seen, token } = await counted({ text: { in: 'body', type: 'string', description: 'Any.' } })
  const head = 'POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 12\r\nExpect: 100-continue\r\n'
  const stranger = await raw(site)
  stranger.note('1', 'POST')
  stranger.write(`${head}\r\n`)
  assert.equal((await stranger.answer()).status, 401)
  assert.deepEqual(stranger.interim, [])
  stranger.destroy()
  const known = await raw(site)
  known.note('1', 'POST')
  const interim = known.interimAnswer()
  known.write(`${head}Authorization: Bearer ${token}\r\n\r\n`)
  assert.equal(await interim, 100)
  known.write('{"text":"x"}')
  assert.equal((await known.answer()).status, 200)
  known.destroy()
  assert.deepEqual(seen, [{ text: 'x' }])
  await site.close()
})

test('a request that does not become whole is answered with 408: in its head, in its body, and before its first byte', async () => {
  const { site, token } = await counted({}, {}, { limits: { requestMs: 200 } })
  const auth = `Host: localhost\r\nAuthorization: Bearer ${token}\r\n`
  const answers = await Promise.all([
    send(site, `GET /info HTTP/1.1\r\n${auth}`),
    send(site, `POST /work HTTP/1.1\r\n${auth}Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{`, 'POST'),
    send(site, ''),
  ])
  for (const answer of answers) {
    assert.equal(answer.status, 408)
    assert.match(answer.text, /"code":"ERR_LAMEDUCK_OPS_TIMEOUT"/)
  }
  await site.close()
})

test('more connections than the cap are closed at once; those that are there go on', async () => {
  const { site, token } = await counted({}, {}, { limits: { connections: 3 } })
  const held = await Promise.all([1, 2, 3].map(() => raw(site)))
  for (const client of held) {
    client.note('0')
    client.write(`GET /info HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n\r\n`)
    assert.equal((await client.answer()).status, 200)
  }
  const more = await Promise.all([1, 2, 3, 4, 5].map(() => raw(site)))
  for (const client of more) assert.notEqual(await client.ended(), 'open')
  const [first] = held as [Client]
  first.note('1')
  first.write(`GET /info HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n\r\n`)
  assert.equal((await first.answer()).status, 200)
  for (const client of held) client.destroy()
  await until('the audit says so', () => site.entries.some(({ code }) => code === 'ERR_LAMEDUCK_OPS_CONNECTIONS'))
  await site.close()
})

test('connections of strangers whose probes have no answer yet keep nobody out', async () => {
  const waiting: (() => void)[] = []
  const probe = route('/probe', null, { handler: () => new Promise(resolve => void waiting.push(() => resolve({ json: {} }))) })
  const site = await openDoor({ routes: [route('/info', 'read'), probe], options: { limits: { connections: 3 } } })
  const strangers = await Promise.all([1, 2, 3].map(() => raw(site)))
  for (const client of strangers) client.write('GET /probe HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await until('they wait', () => waiting.length === 3)
  for (let i = 0; i < 3; i++) assert.equal((await site.ask('/info')).status, 200)
  for (const answer of waiting) answer()
  for (const client of strangers) client.destroy()
  await site.close()
})

for (const [name, type, body] of [
  ['no media type', '', '{}'], ['a form', 'application/x-www-form-urlencoded', 'a=1'], ['text', 'text/plain', '{}'], ['another charset', 'application/json; charset=latin1', '{}'],
] as const) {
  test(`a body with ${name} is answered with 415`, async () => {
    const { site, seen } = await counted()
    isProblem(await site.ask('/work', { method: 'POST', body, headers: type === '' ? {} : { 'Content-Type': type } }), 415, CODES.type)
    assert.equal(seen.length, 0)
    await site.close()
  })
}

for (const body of ['{', 'nothing', '[]', '"x"', '1', 'null', '{"a":1,}', '\ufeff\u0000', '{"__proto__":{"x":1}}']) {
  test(`the body ${JSON.stringify(body)} is answered with 400`, async () => {
    const { site, seen } = await counted()
    isProblem(await site.ask('/work', { method: 'POST', body, headers: { 'Content-Type': 'application/json' } }), 400, CODES.body)
    assert.equal(seen.length, 0)
    await site.close()
  })
}

test('a wrong method is answered with 405 and what is allowed, OPTIONS too; HEAD is answered where GET is', async () => {
  const { site, seen } = await counted()
  for (const method of ['GET', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE', 'PROPFIND']) {
    const answer = await site.ask('/work', { method })
    isProblem(answer, 405, 'ERR_LAMEDUCK_OPS_METHOD')
    assert.equal(answer.headers.allow, 'POST')
  }
  assert.equal((await site.ask('/work', { method: 'HEAD' })).status, 405)
  assert.equal((await site.ask('/info', { method: 'OPTIONS' })).headers.allow, 'GET, HEAD')
  const head = await site.ask('/info', { method: 'HEAD' })
  assert.deepEqual([head.status, head.text, head.headers['content-length']], [200, '', '17'])
  assert.equal(seen.length, 0)
  await site.close()
})

test('a GET with a body is answered with 400', async () => {
  const { site } = await counted()
  isProblem(await site.ask('/info', { body: {} }), 400, CODES.body)
  await site.close()
})

test('a handler that fails is answered with 500 without its stack; the log has it, on one line; the endpoint goes on', async () => {
  const routes = [
    route('/throws', 'read', { handler: () => { throw new Error('the password\nis hunter2') } }),
    route('/rejects', 'read', { handler: () => Promise.reject(new TypeError('x')) }),
    route('/nothing', 'read', { handler: () => { throw undefined as unknown as Error } }),
    route('/problem', 'read', { handler: () => { throw new Problem(409, 'ERR_LAMEDUCK_OPS_BUSY', 'busy', { since: 'noon', retryAfterMs: 1_500 }) } }),
  ]
  const site = await openDoor({ routes })
  for (const path of ['/throws', '/rejects', '/nothing']) {
    const answer = await site.ask(path)
    isProblem(answer, 500, 'ERR_LAMEDUCK_OPS_FAILED')
    assert.doesNotMatch(answer.text, /hunter2|TypeError|at /)
  }
  assert.match(site.lines[0] ?? '', /GET \/throws failed: Error: the password \| is hunter2.*ops-door\.test\.ts/)
  assert.ok(site.lines.every(line => !line.includes('\n')))
  const busy = await site.ask('/problem')
  isProblem(busy, 409, 'ERR_LAMEDUCK_OPS_BUSY')
  assert.deepEqual([busy.json.since, busy.headers['retry-after']], ['noon', '2'])
  await site.close()
})

test('routes come and go while it runs, and none takes the place of another', async () => {
  const site = await openDoor()
  const remove = site.endpoint.add([route('/mine', 'read'), route('/mine/{id}', 'read', { params: { id: { in: 'path', type: 'string', description: 'Which.' } } })])
  assert.equal((await site.ask('/mine')).status, 200)
  const code = (code: string) => (error: { code?: string }) => error.code === code
  assert.throws(() => site.endpoint.add([route('/new', 'read'), route('/info', 'read')]), code('ERR_LAMEDUCK_OPTION'))
  assert.equal((await site.ask('/new')).status, 404)
  const param: Param = { in: 'path', type: 'string', description: 'Which.' }
  for (const bad of [
    route('mine', 'read'), route('/a b', 'read'), route('/{id}', 'read'), route('/x/../y', 'read'), route('/mine/{other}', 'read', { params: { other: param } }),
    route('/x', 'read', { params: { id: param } }), route('/x', 'read', { params: { n: { ...param, in: 'query', pattern: '(' } } }),
    route('/x', 'read', { params: { n: { ...param, in: 'query', type: 'integer', default: 'x' } } }),
  ]) assert.throws(() => site.endpoint.add([bad]), code('ERR_LAMEDUCK_OPTION'), bad.path)
  remove()
  assert.equal((await site.ask('/mine')).status, 404)
  await site.close()
})

test('an address that is taken is an error at the start', async () => {
  const taken = net.createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => taken.once('listening', resolve))
  const { port } = taken.address() as net.AddressInfo
  await assert.rejects(openDoor({ options: { listen: { port } } }), { code: 'EADDRINUSE' })
  taken.close()
})
