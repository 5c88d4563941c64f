import assert from 'node:assert/strict'
import crypto, { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { test } from 'node:test'
import { calm, folder, freshToken, openDoor, post, request, scoped, until, type Answer } from './_ops-door.ts'
import { Keyring } from '../src/ops/http/keyring.ts'
import { SCOPES, type Scope } from '../src/ops/http/route.ts'
import { settle } from '../src/ops/settle.ts'

/** What a stranger can tell one answer from another by. */
const seen = ({ status, headers, text }: Answer) => ({ status, text, headers: { ...headers, date: '' } })

test('each token does what its scopes say: 403 for what else there is, 404 for what is not', async () => {
  const executed: string[] = []
  const tokens = SCOPES.map(scope => ({ name: `t-${scope}`, scopes: [scope], token: freshToken() }))
  const site = await openDoor({ routes: scoped(executed), options: { auth: { tokens }, limits: calm } })
  for (const { scopes: [own], token } of tokens) {
    for (const scope of SCOPES) {
      const answer = await post(site, `/${scope}`, token)
      assert.equal(answer.status, scope === own ? 200 : 403)
      if (scope !== own) assert.deepEqual([answer.json.code, answer.json.scope], ['ERR_LAMEDUCK_OPS_SCOPE', scope])
    }
    assert.equal((await post(site, '/nope', token)).json.code, 'ERR_LAMEDUCK_OPS_NOT_FOUND')
  }
  assert.deepEqual(executed, [...SCOPES])
  await site.close()
})

test('a stranger cannot tell what there is: every path, method and wrong token gets the very same answer', async () => {
  const executed: string[] = []
  const site = await openDoor({ routes: scoped(executed), options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], token: freshToken() }] }, limits: calm } })
  const answers: Answer[] = []
  for (const path of ['/read', '/eval', '/nope', '/', '/openapi.json', '/repl', '/read/x']) {
    for (const method of ['GET', 'POST', 'DELETE', 'OPTIONS', 'PROPFIND']) {
      for (const token of [null, freshToken(), 'short', freshToken() + freshToken()]) answers.push(await site.ask(path, { method, token }))
    }
  }
  const [first] = answers as [Answer]
  assert.equal(first.status, 401)
  assert.equal(first.headers['www-authenticate'], 'Bearer realm="lameduck"')
  for (const answer of answers) assert.deepEqual(seen(answer), seen(first))
  // What is for everybody is so for the methods that it has, and no more is said.
  assert.deepEqual(seen(await post(site, '/livez', null)), seen(first))
  assert.equal((await site.ask('/livez', { token: null })).status, 200)
  assert.deepEqual(executed, ['livez'])
  await site.close()
})

test('a token counts in the Authorization header only, and is written down nowhere', async () => {
  const token = freshToken()
  const file = join(folder(), 'audit.log')
  const site = await openDoor({ routes: scoped(), file, options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], token }] }, limits: calm } })
  const ways: [path: string, headers: Record<string, string>][] = [
    [`/read?access_token=${token}`, {}], [`/read?token=${token}`, {}], [`/read/${token}`, {}], ['/read', { Cookie: `token=${token}; access_token=${token}` }],
    ['/read', { 'X-Api-Key': token }], ['/read', { 'Proxy-Authorization': `Bearer ${token}` }], ['/read', { Authorization: token }],
    ['/read', { Authorization: `Basic ${token}` }], ['/read', { Authorization: `Bearer${token}` }], ['/read', { Authorization: `Bearer ${token}, Bearer ${token}` }],
    ['/read', { Authorization: `Bearer "${token}"` }],
  ]
  for (const [path, headers] of ways) assert.equal((await site.ask(path, { method: 'POST', token: null, headers })).status, 401, path)
  // Two ways at once are one too many (RFC 6750 §2).
  assert.equal((await post(site, `/read?access_token=${token}`, token)).status, 400)
  for (const scheme of ['Bearer', 'bearer', 'BEARER']) {
    assert.equal((await site.ask('/read', { method: 'POST', token: null, headers: { Authorization: `${scheme} ${token}` } })).status, 200)
  }
  await site.close()
  const everything = readFileSync(file, 'utf8') + inspect(site.entries, { depth: 9, maxArrayLength: null }) + site.lines.join()
  assert.ok(everything.includes('ERR_LAMEDUCK_OPS_TOKEN'))
  assert.ok(!everything.includes(token))
})

for (const change of ['the last character', 'one character less', 'one character more', 'the other case', 'a space inside'] as const) {
  test(`a token that is right but for ${change} is wrong`, async () => {
    const token = freshToken()
    const site = await openDoor({ token })
    const last = token.at(-1) === 'A' ? 'B' : 'A'
    const wrong = {
      'the last character': token.slice(0, -1) + last, 'one character less': token.slice(0, -1), 'one character more': `${token}A`,
      'the other case': token.replace(/[a-z]/i, char => char === char.toUpperCase() ? char.toLowerCase() : char.toUpperCase()), 'a space inside': `${token.slice(0, 20)} ${token.slice(20)}`,
    }[change]
    assert.equal((await site.ask('/info', { token: wrong })).status, 401)
    assert.equal((await site.ask('/info')).status, 200)
    await site.close()
  })
}

test('every token is compared, found or not, by timingSafeEqual on digests of equal length', () => {
  const tokens = Array.from({ length: 5 }, (_, i) => ({ name: `t${i}`, scopes: ['read' as Scope], token: freshToken() }))
  const file = join(folder(), 'token')
  const filed = freshToken()
  writeFileSync(file, `${filed}\n`, { mode: 0o600 })
  const ring = new Keyring(settle({ auth: { tokens: [...tokens, { name: 'filed', scopes: ['diag'], file }] } }).auth)
  const { timingSafeEqual } = crypto
  const lengths: number[][] = []
  crypto.timingSafeEqual = (a, b) => {
    lengths.push([a.byteLength, b.byteLength])
    return timingSafeEqual(a, b)
  }
  syncBuiltinESMExports()
  try {
    const asked = [tokens[0]?.token, tokens[4]?.token, filed, freshToken(), 'x', 'y'.repeat(5_000)] as string[]
    const found = asked.map(token => {
      lengths.length = 0
      const name = ring.find(token)?.name
      assert.deepEqual(lengths, Array.from({ length: 6 }, () => [32, 32]), token.slice(0, 10))
      return name
    })
    assert.deepEqual(found, ['t0', 't4', 'filed', undefined, undefined, undefined])
  } finally {
    crypto.timingSafeEqual = timingSafeEqual
    syncBuiltinESMExports()
  }
})

test('a token ends when it expires', async t => {
  const token = freshToken()
  const expiresAt = Date.now() + 600_000
  const expires = new Date(expiresAt).toISOString()
  const site = await openDoor({ token, options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], token, expires }] } } })
  assert.equal((await site.ask('/info')).status, 200)
  t.mock.method(Date, 'now', () => expiresAt + 1)
  assert.equal((await site.ask('/info')).status, 401)
  assert.match(site.lines.join(), /the token of ann has expired/)
  await site.close()
})

test('a digest is as good as the token itself', async () => {
  const token = freshToken()
  const sha256 = createHash('sha256').update(token).digest('hex').toUpperCase()
  const site = await openDoor({ token, options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], sha256 }] } } })
  assert.equal((await site.ask('/info')).status, 200)
  assert.equal((await site.ask('/info', { token: sha256.toLowerCase() })).status, 401)
  await site.close()
})

test('the unix socket needs no token unless there are some; a wrong one is refused there, too', async () => {
  const path = join(folder(), 'door', 's')
  const listen = { path }
  const site = await openDoor({ routes: scoped(), options: { listen, auth: {} } })
  const statuses = await Promise.all(SCOPES.map(async scope => (await post(site, `/${scope}`, null)).status))
  assert.deepEqual(statuses, [200, 200, 403, 200, 403])
  assert.equal((await post(site, '/read', freshToken())).status, 401)
  await until('the audit has it', () => site.entries.some(({ event, who, from }) => event === 'end' && who === 'socket' && from === 'unix'))
  await site.close()
  const token = freshToken()
  const closed = await openDoor({ routes: scoped(), token, options: { listen, auth: { tokens: [{ name: 'ann', scopes: ['eval'], token }] } } })
  assert.equal((await post(closed, '/read', null)).status, 401)
  assert.equal((await post(closed, '/eval', token)).status, 200)
  await closed.close()
})

test('mounted in an application that listens on a unix socket, nobody is let in for that', async () => {
  const { endpoint, close } = await openDoor({ routes: scoped(), options: { listen: { path: join(folder(), 'own', 's') }, auth: {}, hosts: ['localhost'] } })
  const path = join(folder(), 'app')
  const app = http.createServer((req, res) => void endpoint.handle(req, res, { prefix: '/ops' })).listen(path)
  await new Promise(resolve => app.once('listening', resolve))
  assert.equal((await request('http://localhost', path, '/ops/read', { method: 'POST' })).status, 401)
  assert.equal((await request('http://localhost', path, '/ops/livez')).status, 200)
  assert.equal((await request('http://localhost', path, '/opslivez')).status, 401)
  app.close()
  await close()
})

test("the application's own function decides: by name and scopes, null, a throw, nonsense and never", async () => {
  const asked: unknown[] = []
  const site = await openDoor({
    routes: scoped(),
    options: { auth: { authorize: () => null }, limits: calm },
    authorize: request => {
      asked.push(request)
      const user = request.headers['x-user']
      if (user === 'ann') return { name: 'ann', scopes: ['read'] }
      if (user === 'bob') return Promise.resolve({ name: 'bob', scopes: ['control'] })
      if (user === 'throws') throw new Error('the directory\nis down')
      if (user === 'rejects') return Promise.reject(new Error('x'))
      if (user === 'nonsense') return { name: 'x', scopes: ['root' as Scope] }
      if (user === 'never') return new Promise(() => {})
      return null
    },
  })
  const ask = (user: string, path: string) => site.ask(path, { method: 'POST', token: null, headers: { 'X-User': user } })
  assert.deepEqual([(await ask('ann', '/read')).status, (await ask('ann', '/control')).status, (await ask('bob', '/control')).status], [200, 403, 200])
  assert.equal((await ask('eve', '/read')).status, 401)
  for (const user of ['throws', 'rejects', 'nonsense', 'never']) {
    const answer = await ask(user, '/read')
    assert.deepEqual([answer.status, answer.json.code], [503, 'ERR_LAMEDUCK_OPS_AUTHORIZE'], user)
    assert.doesNotMatch(answer.text, /directory/)
  }
  assert.ok(site.lines.some(line => line === 'authorize: the directory | is down'))
  const [first] = asked as [{ method: string; path: string; from: string; headers: Record<string, string> }]
  assert.deepEqual([first.method, first.path], ['POST', '/read'])
  assert.match(first.from, /^127\.0\.0\.1:\d+$/)
  await site.close()
})
