import assert from 'node:assert/strict'
import { chmodSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { calm, folder, freshToken, openDoor } from './_ops-door.ts'
import type { AuthOptions } from '../src/ops/options.ts'

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
