import assert from 'node:assert/strict'
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createAudit } from '../src/ops/http/audit-trail.ts'
import type { AuditEntry } from '../src/ops/http/audit.ts'
import { SCOPES } from '../src/ops/http/route.ts'
import { settle } from '../src/ops/settle.ts'
import { folder, freshToken, openDoor, post, root, route, scoped, until } from './_ops-door.ts'

const linesOf = (file: string) => readFileSync(file, 'utf8').trimEnd().split('\n').map(line => JSON.parse(line) as AuditEntry)
const entry = { event: 'job', who: 'ann', from: 'unix' } as const

test('each call but reading leaves a line before and one after: who, what, from where, outcome, bytes, duration', async () => {
  const file = join(folder(), 'a', 'audit.log')
  const routes = [
    route('/info', 'read'), route('/livez', null),
    route('/stack', 'diag', { handler: async call => (call.note({ job: 'j1' }), await sleep(20), { json: {} }) }),
    route('/fails', 'control', { method: 'POST', handler: () => { throw new Error('x') } }),
  ]
  const site = await openDoor({ routes, file })
  for (const path of ['/info', '/livez', '/stack']) assert.equal((await site.ask(path)).status, 200)
  assert.equal((await post(site, '/fails', null)).status, 401)
  assert.equal((await site.ask('/fails', { method: 'POST' })).status, 500)
  await until('four lines', () => site.entries.filter(({ event }) => event === 'begin' || event === 'end').length === 4)
  await site.close()
  const [one, two, refused, three, four, ...more] = linesOf(file)
  assert.deepEqual(more, [])
  assert.deepEqual([one?.event, one?.who, one?.method, one?.path, one?.call], ['begin', 'ann', 'GET', '/stack', 1])
  assert.match(String(one?.from), /^127\.0\.0\.1:\d+$/)
  assert.deepEqual([two?.event, two?.call, two?.status, two?.bytes, two?.job], ['end', 1, 200, 3, 'j1'])
  assert.ok(Number(two?.durationMs) >= 15)
  assert.deepEqual([refused?.event, refused?.who, refused?.status, refused?.count], ['refused', '-', 401, 1])
  assert.deepEqual([three?.event, three?.call, four?.call, four?.status, four?.code], ['begin', 2, 2, 500, 'ERR_LAMEDUCK_OPS_FAILED'])
  assert.deepEqual([(statSync(file).mode & 0o777).toString(8), (statSync(dirname(file)).mode & 0o777).toString(8)], ['600', '700'])
})

test('when the audit cannot be written, secrets and eval are refused, and everything else goes on', async () => {
  const executed: string[] = []
  const file = join(folder(), 'audit.log')
  mkdirSync(file)
  const site = await openDoor({ routes: scoped(executed), file })
  for (const scope of SCOPES) {
    const answer = await site.ask(`/${scope}`, { method: 'POST' })
    const refused = scope === 'secrets' || scope === 'eval'
    assert.equal(answer.status, refused ? 503 : 200, scope)
    if (refused) assert.equal(answer.json.code, 'ERR_LAMEDUCK_OPS_AUDIT')
  }
  assert.deepEqual(executed, ['read', 'diag', 'control'])
  // Told once, not for each call.
  assert.equal(site.lines.filter(line => line.includes('the audit trail cannot be written')).length, 1)
  // It can again: nothing has to be started anew.
  rmSync(file, { recursive: true })
  assert.equal((await site.ask('/eval', { method: 'POST' })).status, 200)
  await site.close()
})

test('without a trail a handler sees nobody with the scopes secrets and eval, either', async () => {
  const file = join(folder(), 'audit.log')
  mkdirSync(file)
  const site = await openDoor({ file, routes: [route('/artifact', 'diag', { handler: ({ who }) => ({ json: { scopes: [...who.scopes] } }) })] })
  assert.deepEqual((await site.ask('/artifact')).json, { scopes: ['read', 'diag', 'control'] })
  await site.close()
})

test('a symbolic link, a file of more than one reader and a FIFO in the place of the audit are not written through', async () => {
  const dir = folder()
  writeFileSync(join(dir, 'target'), '')
  symlinkSync(join(dir, 'target'), join(dir, 'link'))
  const linked = createAudit({ file: join(dir, 'link') })
  await assert.rejects(linked.write(entry), { code: 'ELOOP' })
  await linked.close()
  assert.equal(statSync(join(dir, 'target')).size, 0)
  writeFileSync(join(dir, 'open'), '')
  chmodSync(join(dir, 'open'), 0o644)
  const open = createAudit({ file: join(dir, 'open') })
  await open.write(entry)
  assert.equal(statSync(join(dir, 'open')).mode & 0o777, 0o600)
  await open.close()
})

test('a folder of our own that others got at first, or lead elsewhere, has no audit; one that was chosen must not be everybody\'s', async () => {
  const dir = folder()
  const at = (name: string, mode: number) => {
    mkdirSync(join(dir, name))
    chmodSync(join(dir, name), mode)
    return join(dir, name, 'audit.log')
  }
  mkdirSync(join(dir, 'elsewhere'), { mode: 0o700 })
  symlinkSync(join(dir, 'elsewhere'), join(dir, 'link'))
  const fails = async (file: string, isOurs: boolean) => {
    const audit = createAudit({ file, isOurs })
    await assert.rejects(audit.write(entry), { code: 'ERR_LAMEDUCK_OPS_FOLDER' }, file)
    await audit.close()
    assert.equal(existsSync(file), false)
  }
  await fails(at('open', 0o755), true)
  await fails(join(dir, 'link', 'audit.log'), true)
  if (root) {
    const file = at('other', 0o700)
    chownSync(join(dir, 'other'), 12_345, 12_345)
    await fails(file, true)
  }
  await fails(at('everybody', 0o777), false)
  for (const [file, isOurs] of [[at('private', 0o700), true], [at('sticky', 0o1777), false], [at('group', 0o2775), false], [join(dir, 'new', 'er', 'audit.log'), true]] as const) {
    const audit = createAudit({ file, isOurs })
    await audit.write(entry)
    await audit.close()
    assert.equal(linesOf(file).length, 1)
  }
  const known = [settle({}), settle({ audit: join(dir, 'audit.log') })].map(({ ownAudit }) => ownAudit)
  assert.deepEqual(known, [true, false])
})

test('nothing that a client sends begins a line of its own or turns the text around', async () => {
  const file = join(folder(), 'audit.log')
  const audit = createAudit({ file, onEntry: one => seen.push(one) })
  const seen: AuditEntry[] = []
  const evil = 'x\r\n{"event":"end"}\u0000\u001b[2J\u0085\u2028\u202e\ud800'
  await audit.write({ ...entry, who: evil, path: evil, more: { [evil]: [evil] } })
  await audit.close()
  const text = readFileSync(file, 'utf8')
  assert.equal(text.split('\n').length, 2)
  for (const shown of [text.trimEnd(), JSON.stringify(seen), seen[0]?.who ?? '']) assert.doesNotMatch(shown, /[\p{Cc}\p{Cs}\u2028\u202e]/u)
  assert.equal(seen[0]?.who, 'x\\u000d\\u000a{"event":"end"}\\u0000\\u001b[2J\\u0085\\u2028\\u202e\\ud800')
})

test('a line is never longer than 8 KB, and the last 500 entries are at hand', async () => {
  const file = join(folder(), 'audit.log')
  const audit = createAudit({ file })
  await audit.write({ ...entry, big: Array.from({ length: 100 }, () => 'y'.repeat(900)) })
  await Promise.all(Array.from({ length: 600 }, (_, i) => audit.write({ ...entry, i })))
  await audit.close()
  const lines = readFileSync(file, 'utf8').split('\n')
  assert.ok((lines[0]?.length ?? 0) < 8_192)
  assert.equal((JSON.parse(lines[0] ?? '') as AuditEntry).shortened, true)
  assert.deepEqual(linesOf(file).slice(1).map(({ i }) => i), Array.from({ length: 600 }, (_, i) => i))
  assert.deepEqual(audit.recent().map(({ i }) => i), Array.from({ length: 500 }, (_, i) => i + 100))
})

test('at its size the file is rotated once, and nothing is lost in between', async () => {
  const file = join(folder(), 'audit.log')
  const audit = createAudit({ file, maxBytes: 5_000 })
  for (let i = 0; i < 60; i++) await audit.write({ ...entry, i })
  await audit.close()
  const [old, young] = [linesOf(`${file}.1`), linesOf(file)]
  assert.ok(statSync(file).size <= 5_000 && statSync(`${file}.1`).size <= 5_000)
  const all = [...old, ...young].map(({ i }) => Number(i))
  assert.deepEqual(all, Array.from({ length: all.length }, (_, i) => 60 - all.length + i))
  assert.ok(old.length > 20 && young.length > 0)
})

test('two processes that share the file and rotate it at the same moment lose no line to that', async () => {
  const file = join(folder(), 'audit.log')
  const audits = [1, 2].map(() => createAudit({ file, maxBytes: 1_000 }))
  for (let i = 0; i < 60; i++) await Promise.all(audits.map(audit => audit.write({ ...entry, i })))
  for (const audit of audits) await audit.close()
})

test('a file that a log rotation moved away is made anew', async () => {
  const file = join(folder(), 'audit.log')
  const audit = createAudit({ file })
  await audit.write({ ...entry, i: 1 })
  renameSync(file, `${file}.old`)
  await sleep(1_050)
  await audit.write({ ...entry, i: 2 })
  assert.deepEqual(linesOf(file).map(({ i }) => i), [2])
  unlinkSync(file)
  await sleep(1_050)
  await audit.write({ ...entry, i: 3 })
  assert.ok(existsSync(file))
  await audit.close()
})

test('a full disk is an error of the call that needs the trail, and the next line is whole', { skip: existsSync('/dev/full') ? false : 'no /dev/full here' }, async () => {
  const audit = createAudit({ file: '/dev/full' })
  await assert.rejects(audit.write(entry))
  await audit.close()
})

test('what was refused is told at once, and then once a second with a count', async () => {
  const site = await openDoor({ options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], token: freshToken() }] }, limits: { failures: { burst: 100, perSecond: 100 } } } })
  const told = () => site.entries.reduce((sum, { count }) => sum + Number(count), 0)
  const began = performance.now()
  await site.ask('/x', { token: null })
  assert.deepEqual(site.entries.map(({ count }) => count), [1])
  for (let i = 1; i < 20; i++) await site.ask(`/x${i}`, { token: null })
  await until('the other lines', () => told() === 20)
  const seconds = (performance.now() - began) / 1_000
  assert.ok(site.entries.length >= 2 && site.entries.length <= 2 + seconds, `${site.entries.length} lines in ${seconds} s`)
  await site.ask('/x', { token: null })
  await site.close()
  assert.equal(told(), 21)
})
