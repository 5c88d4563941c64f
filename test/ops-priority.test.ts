import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { ops } from '../src/ops/index.ts'
import { freshToken } from './_ops.ts'

/** Nice values of this process's threads; its own first. */
function nices(): number[] {
  const of = (id: string) => Number(readFileSync(`/proc/self/task/${id}/stat`, 'utf8').split(') ')[1]?.split(' ')[16])
  const ids = readdirSync('/proc/self/task')
  return [of(String(process.pid)), ...ids.filter(id => id !== String(process.pid)).map(of)]
}

test('the endpoint\'s thread stands back behind the application\'s', { skip: process.platform !== 'linux' && 'priorities are a thread\'s own on Linux only' }, async () => {
  const [own, ...others] = nices()
  const endpoint = ops({ listen: { port: 0 }, audit: false, auth: { tokens: [{ name: 'ann', scopes: ['read'], token: freshToken() }] } })
  try {
    await endpoint.ready
    const [now, ...more] = nices()
    assert.equal(now, own)
    const lower = (values: number[]) => values.filter(value => value > (own ?? 0)).length
    assert.equal(lower(more), lower(others) + 1)
  } finally {
    await endpoint.close()
  }
})
