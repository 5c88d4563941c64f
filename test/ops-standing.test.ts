// Calls that outlive the check at their beginning: an event stream, the REPL.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import http from 'node:http'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket, type RawData } from 'ws'
import { Problem } from '../src/ops/http/problem.ts'
import { Standing } from '../src/ops/http/standing.ts'
import { ops, type AuditEntry, type OpsOptions } from '../src/ops/index.ts'
import { ask, freshToken } from './_ops.ts'
import { folder } from './_ops-door.ts'

async function site(t: TestContext, auth: (token: string, file: string) => OpsOptions['auth'], heard = (_entry: AuditEntry) => {}) {
  const token = freshToken()
  const dir = folder()
  const file = join(dir, 'token')
  writeFileSync(file, token, { mode: 0o600 })
  const entries: AuditEntry[] = []
  const endpoint = ops({
    listen: { port: 0 }, thread: false, eval: true, audit: false, logger: { warn() {} }, files: { dir }, onAudit: entry => {
      entries.push(entry)
      heard(entry)
    },
    auth: auth(token, file) ?? {},
  })
  t.after(() => endpoint.close())
  await endpoint.ready
  return { endpoint, token, file, entries, url: endpoint.url ?? '' }
}

/** Opens `/gc/stream`. @returns What settles when it has ended. */
async function stream(url: string, token: string): Promise<{ ended: Promise<void> }> {
  const req = http.get(`${url}/gc/stream`, { agent: false, headers: { Authorization: `Bearer ${token}` } })
  const [res] = await once(req, 'response') as [http.IncomingMessage]
  assert.equal(res.statusCode, 200)
  res.resume()
  return { ended: once(res, 'end').then(() => {}) }
}

const late = (ms: number) => sleep(ms, 'still open', { ref: false })

test('an event stream and a REPL end as soon as the token that they were opened with is revoked', async t => {
  const { endpoint, token, file, url } = await site(t, (_, file) => ({ tokens: [{ name: 'ann', scopes: ['read', 'eval'], file }] }))
  const { ended } = await stream(url, token)
  const repl = new WebSocket(`${url.replace('http', 'ws')}/repl`, { headers: { Authorization: `Bearer ${token}` } })
  await once(repl, 'message')
  const closed = once(repl, 'close') as Promise<[number]>
  writeFileSync(file, freshToken())
  await endpoint.reload()
  assert.equal(await Promise.race([ended, late(4_000)]), undefined)
  const [code] = await closed
  assert.equal(code, 1008)
  assert.equal((await ask(endpoint.address, '/gc', { token })).status, 401)
})

for (const [what, moment] of [
  ['as it has been let in, and before it is open', (entry: AuditEntry) => entry.event === 'begin' && entry.path === '/repl'],
  ['with its first line', (entry: AuditEntry) => entry.event === 'begin' && entry.sha256 !== undefined],
] as const) {
  test(`a REPL whose token is revoked ${what}, ends with 1008`, async t => {
    let revoke: ((entry: AuditEntry) => void) | undefined
    const { endpoint, token, file, url } = await site(t, (_, file) => ({ tokens: [{ name: 'ann', scopes: ['eval'], file }] }), entry => revoke?.(entry))
    let reloaded: Promise<unknown> | undefined
    revoke = entry => {
      if (reloaded !== undefined || !moment(entry)) return
      writeFileSync(file, freshToken())
      reloaded = endpoint.reload()
    }
    const repl = new WebSocket(`${url.replace('http', 'ws')}/repl`, { headers: { Authorization: `Bearer ${token}` } })
    const closed = once(repl, 'close') as Promise<[number]>
    repl.once('message', () => repl.send(JSON.stringify({ id: 1, type: 'eval', code: '1' })))
    const [code] = await closed
    assert.equal(code, 1008)
    await reloaded
    assert.ok(reloaded)
  })
}

test('an event stream ends when its token expires, and goes on while it has not', async t => {
  const expires = new Date(Date.now() + 8_000).toISOString()
  const lasting = freshToken()
  const { token, url } = await site(t, token => ({
    tokens: [{ name: 'ann', scopes: ['read'], token, expires }, { name: 'bob', scopes: ['read'], token: lasting }],
  }))
  const [short, long] = [await stream(url, token), await stream(url, lasting)]
  assert.equal(await Promise.race([short.ended, late(20_000)]), undefined)
  assert.ok(Date.now() >= Date.parse(expires))
  assert.equal(await Promise.race([long.ended, late(200)]), 'still open')
})

test('that it cannot be found out now whether a caller still may ends nothing that lasts', async () => {
  const answers = [new Problem(503, 'ERR_LAMEDUCK_OPS_AUTHORIZE', 'main is blocked'), new Problem(429, 'ERR_LAMEDUCK_OPS_THROTTLED', 'too many')]
  const lost: string[] = []
  const standing = new Standing(async () => {
    const answer = answers.shift()
    if (answer) throw answer
  }, ({ code }) => lost.push(code))
  try {
    await assert.rejects(standing.check(), { status: 503 })
    await assert.rejects(standing.check(), { status: 429 })
    await standing.check()
    assert.deepEqual(lost, [])
    answers.push(new Problem(403, 'ERR_LAMEDUCK_OPS_SCOPE', 'a scope was taken away'))
    await assert.rejects(standing.check(), { status: 403 })
    assert.deepEqual(lost, ['ERR_LAMEDUCK_OPS_SCOPE'])
  } finally {
    standing.end()
  }
})

test('completions in a REPL are in the audit by their number, however fast one types', async t => {
  const { token, url, entries } = await site(t, token => ({ tokens: [{ name: 'ann', scopes: ['eval'], token }] }))
  const repl = new WebSocket(`${url.replace('http', 'ws')}/repl`, { headers: { Authorization: `Bearer ${token}` } })
  const say = async (code: string) => {
    repl.send(JSON.stringify({ id: 1, type: 'complete', code }))
    const [data] = await once(repl, 'message') as [RawData]
    return JSON.parse((data as Buffer).toString('utf8')) as { type: string }
  }
  await once(repl, 'message')
  const began = performance.now()
  const sum = () => lines().reduce((all, { count }) => all + (count as number), 0)
  const lines = () => entries.filter(({ event }) => event === 'complete')
  // An error where a machine stands still for longer than an answer may take: asked is asked.
  const answers = new Set<string>()
  for (let i = 0; i < 40; i++) {
    answers.add((await say('process.ar')).type)
    // The first is there before its answer.
    assert.ok(lines().length > 0)
  }
  repl.close()
  await once(repl, 'close')
  for (const end = performance.now() + 15_000; sum() < 40 && performance.now() < end;) await sleep(20)
  assert.ok(answers.has('completion'))
  const counts = lines().map(({ count }) => count as number)
  assert.equal(sum(), 40)
  // The first, the last, and one every ten seconds.
  assert.ok(counts.length <= 3 + (performance.now() - began) / 10_000, `${counts.length} lines`)
  assert.deepEqual(lines().map(({ who, path }) => [who, path])[0], ['ann', '/repl'])
})
