import assert from 'node:assert/strict'
import crypto, { createHash } from 'node:crypto'
import { chmodSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { syncBuiltinESMExports } from 'node:module'
import net from 'node:net'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { folder, freshToken, openDoor, request, route, until, type Answer, type DoorSite } from './_ops-door.ts'
import { Keyring } from '../src/ops/http/keyring.ts'
import { SCOPES, type Route, type Scope } from '../src/ops/http/route.ts'
import type { AuthOptions } from '../src/ops/options.ts'
import { settle } from '../src/ops/settle.ts'

const calm = { failures: { burst: 1_000, perSecond: 1_000 } }

/** One route for each scope, and one for everybody. */
function scoped(executed: string[] = []): Route[] {
  const note = (path: string) => ({ handler: () => (executed.push(path), { json: {} }) })
  return [...SCOPES.map(scope => route(`/${scope}`, scope, { method: 'POST', ...note(scope) })), route('/livez', null, note('livez'))]
}

const post = (site: DoorSite, path: string, token: string | null) => site.ask(path, { method: 'POST', token })

setFlagsFromString('--expose-gc')
/** A whole garbage collection. */
const collect = runInNewContext('gc') as () => void

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
      assert.deepEqual(lengths, Array(6).fill([32, 32]), token.slice(0, 10))
      return name
    })
    assert.deepEqual(found, ['t0', 't4', 'filed', undefined, undefined, undefined])
  } finally {
    crypto.timingSafeEqual = timingSafeEqual
    syncBuiltinESMExports()
  }
})

test('a token ends when it expires', async () => {
  const token = freshToken()
  const expires = new Date(Date.now() + 400).toISOString()
  const site = await openDoor({ token, options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], token, expires }] } } })
  assert.equal((await site.ask('/info')).status, 200)
  await sleep(500)
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

/** An endpoint with a file of tokens. */
async function filed(auth: (file: string) => AuthOptions, text: string) {
  const file = join(folder(), 'tokens')
  writeFileSync(file, text, { mode: 0o600 })
  const site = await openDoor({ options: { auth: auth(file), limits: calm } })
  const status = async (token: string) => (await site.ask('/info', { token })).status
  /** As a careful operator, or Kubernetes, does it. */
  const replace = (text: string, mode = 0o600) => {
    writeFileSync(`${file}.new`, text)
    chmodSync(`${file}.new`, mode)
    renameSync(`${file}.new`, file)
  }
  return { file, site, status, replace }
}

test('tokens are rotated while it runs: old, both, new; nobody is locked out in between', async () => {
  const [old, young] = [freshToken(), freshToken()]
  const { site, status, replace } = await filed(file => ({ tokens: [{ name: 'ann', scopes: ['read'], file }] }), `${old}\n`)
  assert.deepEqual([await status(old), await status(young)], [200, 401])
  replace(`${old}\n${young}\n`)
  // A look a second: without a call to reload().
  await sleep(1_100)
  assert.deepEqual([await status(old), await status(young)], [200, 200])
  replace(`${young}\n`)
  assert.deepEqual(site.endpoint.reload(), { tokens: 1, failed: [] })
  assert.deepEqual([await status(old), await status(young)], [401, 200])
  // Nothing in it revokes.
  replace('')
  assert.deepEqual(site.endpoint.reload(), { tokens: 0, failed: [] })
  assert.equal(await status(young), 401)
  await site.close()
})

test('a token file that cannot be used any more leaves the last good tokens in force, and the audit says why', async () => {
  const [one, two] = [freshToken(), freshToken()]
  const line = (token: string, name = 'ann') => JSON.stringify([{ name, scopes: ['read'], token }])
  const { file, site, status, replace } = await filed(file => ({ file }), line(one))
  const breaks: [what: () => void, why: RegExp][] = [
    [() => rmSync(file), /ENOENT/],
    [() => replace(line(two), 0o644), /mode 0644/],
    [() => replace('['), /not JSON/],
    [() => replace(line('hunter2')), /7 characters/],
    [() => replace(`[${line(two).slice(1, -1)},${line(two).slice(1, -1)}]`), /already/],
    [() => { rmSync(file); symlinkSync('/dev/zero', file) }, /is no file/],
  ]
  for (const [damage, why] of breaks) {
    damage()
    assert.deepEqual(site.endpoint.reload(), { tokens: 1, failed: [file] })
    assert.deepEqual([await status(one), await status(two)], [200, 401])
    const entry = site.entries.findLast(({ event }) => event === 'auth')
    assert.deepEqual([entry?.outcome, entry?.tokens], ['kept', 1])
    assert.match(String(entry?.reason), why)
  }
  rmSync(file)
  replace(line(two))
  assert.deepEqual(site.endpoint.reload(), { tokens: 1, failed: [] })
  assert.deepEqual([await status(one), await status(two)], [401, 200])
  assert.equal(site.entries.findLast(({ event }) => event === 'auth')?.outcome, 'read')
  assert.doesNotMatch(inspect(site.entries), /hunter2/)
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

test('failures are throttled: 429 with Retry-After, then again a try; who was let in before on a connection is not locked out', async () => {
  const token = freshToken()
  const site = await openDoor({ token, options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], token }] }, limits: { failures: { burst: 3, perSecond: 5 } } } })
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  assert.equal((await site.ask('/info', { agent })).status, 200)
  const statuses: number[] = []
  for (let i = 0; i < 8; i++) statuses.push((await site.ask('/info', { token: freshToken() })).status)
  assert.deepEqual([...new Set(statuses)], [401, 429])
  const refused = await site.ask('/info', { token: freshToken() })
  assert.equal(refused.status, 429)
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
  const site = await openDoor({ options: { auth: { tokens }, limits: { calls: { burst: 4, perSecond: 0.5 } } } })
  const statuses: number[] = []
  for (let i = 0; i < 6; i++) statuses.push((await site.ask('/info', { token: one })).status)
  assert.deepEqual(statuses, [200, 200, 200, 200, 429, 429])
  const refused = await site.ask('/info', { token: one })
  assert.deepEqual([refused.json.code, refused.headers['retry-after']], ['ERR_LAMEDUCK_OPS_THROTTLED', '2'])
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
  const sockets = await Promise.all(Array.from({ length: 10 }, async () => {
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
  for (const socket of sockets) socket.write(bytes.repeat(1_000))
  await until('all are answered', () => answers === 10_000, 30_000)
  const seconds = (performance.now() - startedAt) / 1_000
  assert.deepEqual(Object.keys(counts).sort(), ['401', '429'])
  assert.ok((counts['401'] ?? 0) <= 10 + seconds + 1, `${counts['401']} looked at in ${seconds} s`)
  assert.deepEqual(executed, [])
  for (const socket of sockets) socket.destroy()
  await sleep(1_200)
  // Two kinds: the first of each at once, and one line for each second that there were more.
  const lines = site.entries.length
  assert.ok(lines <= 2 * (2 + Math.ceil(seconds) + 1), `${lines} lines in ${seconds} s`)
  assert.equal(site.entries.reduce((sum, { count }) => sum + Number(count), 0), 10_000)
  collect()
  assert.ok(process.memoryUsage().heapUsed - before < 5e6)
  assert.equal((await post(site, '/read', token)).status, 200)
  await site.close()
})
