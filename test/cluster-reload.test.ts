import assert from 'node:assert/strict'
import { test } from 'node:test'
import { world } from './_cluster.ts'

test('a reload replaces every worker by one of the new release', () => world(async it => {
  const before = await it.crowd()
  assert.deepEqual([...new Set(before.map(({ slot }) => slot))].sort(), ['0', '1'])
  it.app.version = 'two'
  const result = await it.supervisor.reload()
  assert.equal(result.outcome, 'reloaded', result.reason)
  assert.equal(result.readyBefore, 2)
  assert.equal(result.readyLeast, 2)
  const after = await it.crowd()
  assert.deepEqual([...new Set(after.map(({ version }) => version))], ['two'])
  assert.equal(after.some(({ pid }) => before.some(who => who.pid === pid)), false)
}))
