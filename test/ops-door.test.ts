import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import { Client } from './_client.ts'
import { freshToken, openDoor, route, until, type Asking, type DoorSite } from './_ops-door.ts'
import { Problem } from '../src/ops/http/problem.ts'
import type { Param, Route } from '../src/ops/http/route.ts'

const CODES = {
  host: 'ERR_LAMEDUCK_OPS_HOST', origin: 'ERR_LAMEDUCK_OPS_ORIGIN', path: 'ERR_LAMEDUCK_OPS_PATH', header: 'ERR_LAMEDUCK_OPS_HEADER',
  param: 'ERR_LAMEDUCK_OPS_PARAM', body: 'ERR_LAMEDUCK_OPS_BODY', type: 'ERR_LAMEDUCK_OPS_BODY_TYPE', size: 'ERR_LAMEDUCK_OPS_BODY_SIZE',
}

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

/** An endpoint whose only handler counts. */
async function counted(params: Record<string, Param> = {}, more: Partial<Route> = {}, options = {}) {
  const seen: Record<string, unknown>[] = []
  const work = route('/work', 'diag', {
    method: 'POST', params,
    handler: call => {
      seen.push(call.params)
      return { json: { done: true } }
    },
    ...more,
  })
  const token = freshToken()
  const site = await openDoor({
    routes: [work, route('/info', 'read'), route('/livez', null)], token,
    options: { auth: { tokens: [{ name: 'ann', scopes: ['read', 'diag'], token }] }, ...options },
  })
  return { site, seen, token }
}

/** A problem document, whole and in order. */
function isProblem(answer: { status: number; headers?: Record<string, unknown>; json: Record<string, unknown> }, status: number, code: string): void {
  assert.equal(answer.status, status, JSON.stringify(answer.json))
  assert.equal(answer.json.code, code)
  assert.equal(answer.json.status, status)
  assert.equal(answer.json.type, 'about:blank')
  assert.equal(typeof answer.json.detail, 'string')
  if (answer.headers) assert.equal(answer.headers['content-type'], 'application/problem+json')
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

const PARAMS: Record<string, Param> = {
  seconds: { in: 'query', type: 'number', description: 'How long.', min: 0.1, max: 300, default: 5 },
  count: { in: 'query', type: 'integer', description: 'How many.', min: 0 },
  when: { in: 'query', type: 'string', description: 'When.', enum: ['now', 'after-gc'] },
  force: { in: 'query', type: 'boolean', description: 'Whether.' },
  name: { in: 'query', type: 'string', description: 'What.', min: 1, max: 5, pattern: '[a-z]+' },
  level: { in: 'body', type: 'string', description: 'Level.', required: true },
  options: { in: 'body', type: 'object', description: 'Any.' },
  limit: { in: 'body', type: 'integer', description: 'Any.' },
}

for (const [query, body, param, allowed] of [
  ['seconds=-5', {}, 'seconds', 'from 0.1 to 300'], ['seconds=1e9', {}, 'seconds', 'a number'], ['seconds=1000000000', {}, 'seconds', '300'], ['seconds=', {}, 'seconds', 'a number'],
  ['seconds=NaN', {}, 'seconds', 'a number'], ['seconds=0x10', {}, 'seconds', 'a number'], ['seconds=Infinity', {}, 'seconds', 'a number'], ['seconds=1&seconds=2', {}, 'seconds', 'once'],
  ['count=1.5', {}, 'count', 'an integer'], ['count=99999999999999999999', {}, 'count', 'an integer'], ['count=-1', {}, 'count', 'at least 0'],
  ['when=later', {}, 'when', "'now', 'after-gc'"], ['force=yes', {}, 'force', 'true or false'], ['force', {}, 'force', 'true or false'],
  ['name=', {}, 'name', 'from 1 to 5 characters'], ['name=abcdef', {}, 'name', 'characters'], ['name=A', {}, 'name', '[a-z]+'], ['name=a%0a', {}, 'name', 'a string'],
  ['sekonds=1', {}, "'sekonds'", 'seconds'], ['level=x', {}, "'level'", 'seconds'], ['access_token=abc', {}, "'access_token'", 'seconds'],
  ['', undefined, 'level', 'a string'], ['', {}, 'level', 'a string'], ['', { level: 1 }, 'level', 'a string'], ['', { level: null }, 'level', 'a string'],
  ['', { level: 'x', options: [] }, 'options', 'an object'], ['', { level: 'x', limit: '5' }, 'limit', 'an integer'], ['', { level: 'x', limit: 2 ** 53 }, 'limit', 'an integer'],
  ['', { level: 'x', seconds: 5 }, "'seconds'", 'level, options, limit'],
] as const) {
  test(`the parameters ?${query} and ${JSON.stringify(body)} are answered with 400 that names ${param}`, async () => {
    const { site, seen } = await counted(PARAMS)
    const whole = body === undefined || Object.keys(body).length > 0 || param === 'level' ? body : { level: 'x' }
    const answer = await site.ask(`/work?${query}`, { method: 'POST', ...(whole === undefined ? {} : { body: whole }) })
    isProblem(answer, 400, CODES.param)
    assert.equal(answer.json.param, param)
    assert.ok(String(answer.json.detail).includes(param) && String(answer.json.allowed).includes(allowed), JSON.stringify(answer.json))
    assert.ok(String(answer.json.detail).includes(String(answer.json.allowed)))
    assert.equal(seen.length, 0)
    await site.close()
  })
}

test('good parameters arrive as what they are, with defaults', async () => {
  const { site, seen } = await counted(PARAMS)
  const body = { level: 'multi\nline', options: { a: [1] }, limit: -3 }
  assert.equal((await site.ask('/work?count=7&when=after-gc&force=true&name=abc', { method: 'POST', body })).status, 200)
  assert.deepEqual(seen, [{ seconds: 5, count: 7, when: 'after-gc', force: true, name: 'abc', ...body }])
  await site.close()
})

test('a parameter in the path is decoded once, and a fixed path goes before it', async () => {
  const names: unknown[] = []
  const params: Record<string, Param> = { name: { in: 'path', type: 'string', description: 'Which.' } }
  const site = await openDoor({
    routes: [
      route('/loggers/{name}', 'read', { params, handler: call => (names.push(call.params.name), { json: {} }) }),
      route('/loggers/all', 'read', { handler: () => ({ json: { all: true } }) }),
    ],
  })
  for (const name of ['db', 'db%20pool', 'caf%C3%A9', '%40scope', 'a+b']) assert.equal((await site.ask(`/loggers/${name}`)).status, 200)
  assert.deepEqual(names, ['db', 'db pool', 'caf\u00e9', '@scope', 'a+b'])
  assert.deepEqual((await site.ask('/loggers/all')).json, { all: true })
  for (const path of ['/loggers/', '/loggers', '/loggers/a/b']) assert.equal((await site.ask(path)).status, 404)
  await site.close()
})

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
