import assert from 'node:assert/strict'
import diagnostics from 'node:diagnostics_channel'
import http from 'node:http'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Readiness } from '../src/cluster/readiness.ts'
import { Servers } from '../src/cluster/worker-servers.ts'
import { wrap } from '../src/core/index.ts'

test('a worker that is ready is left in peace: looking at it is no reason to look again', async () => {
  let listens = 0
  const count = () => void listens++
  diagnostics.subscribe('tracing:net.server.listen:asyncEnd', count)
  let ready = () => {}
  const said = new Promise<void>(resolve => {
    ready = resolve
  })
  const servers = new Servers(() => readiness.look(), () => {})
  const readiness = new Readiness(servers, '/readyz', verdict => {
    if (verdict.ready) ready()
  })
  const server = http.createServer()
  const duck = wrap(server, { signals: false })
  server.listen(0, '127.0.0.1')
  await said
  const before = listens
  await sleep(600)
  diagnostics.unsubscribe('tracing:net.server.listen:asyncEnd', count)
  await duck.drain({ lameduckMs: 0 })
  assert.ok(before >= 2, 'the probes are not seen: this test proves nothing')
  // What happened during the first look may be looked at once more.
  assert.ok(listens - before <= 2, `${listens - before} further probes`)
})
