// How often a worker's own checks are asked, which may be queries.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Readiness, type Verdict } from '../src/cluster/readiness.ts'
import { wrap } from '../src/core/index.ts'
import { until } from './_until.ts'

test('a worker that is not ready is asked ever less often, and says so once; it is ready soon after its checks are', async t => {
  let asked = 0
  let ready = false
  const server = http.createServer()
  wrap(server, { signals: false, health: { checks: { database: () => {
    asked++
    return ready
  } } } })
  t.after(() => server.close())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const said: Verdict[] = []
  const readiness = new Readiness({ all: new Set([server]), state: 'running' }, undefined, verdict => said.push(verdict))
  readiness.look()
  await sleep(2_500)
  // Each 50 ms that would be 50.
  assert.ok(asked > 5 && asked < 40, `asked ${asked} times`)
  assert.deepEqual(said, [{ ready: false, why: '/readyz says 503: database' }])
  ready = true
  await until(() => said.length > 1, 'it says that it is ready', 5_000)
  assert.deepEqual(said.slice(1), [{ ready: true, why: '' }])
})
