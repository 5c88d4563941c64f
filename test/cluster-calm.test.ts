import assert from 'node:assert/strict'
import diagnostics from 'node:diagnostics_channel'
import http from 'node:http'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Readiness } from '../src/cluster/readiness.ts'
import { Servers } from '../src/cluster/worker-servers.ts'
import { wrap } from '../src/core/index.ts'

// Where lameduck answers, it is asked itself, and runs its checks; at any other path only a request can tell, and each opens a listener of its own.
for (const [asked, path] of [['itself', '/readyz'], ['by a request', '/health']] as const) {
  test(`a worker that is ready is left in peace: looking at it (asked ${asked}) is no reason to look again`, async () => {
    let checks = 0
    let listens = 0
    const count = () => void listens++
    diagnostics.subscribe('tracing:net.server.listen:asyncEnd', count)
    let ready = () => {}
    const said = new Promise<void>(resolve => {
      ready = resolve
    })
    const servers = new Servers(() => readiness.look(), () => {})
    const readiness = new Readiness(servers, path, verdict => {
      if (verdict.ready) ready()
    })
    const server = http.createServer((_, res) => res.end())
    const duck = wrap(server, { signals: false, health: { checks: { counted: () => void checks++ } } })
    server.listen(0, '127.0.0.1')
    await said
    // The server's own is no look.
    const looks = () => path === '/readyz' ? checks : listens - 1
    const before = looks()
    const began = performance.now()
    await sleep(600)
    const elapsedMs = performance.now() - began
    diagnostics.unsubscribe('tracing:net.server.listen:asyncEnd', count)
    await duck.drain({ lameduckMs: 0 })
    assert.ok(before >= 1, 'the looks are not seen: this test proves nothing')
    // What happened during the first look may be looked at once more; and it is looked after now and then, which a machine that stood still sees.
    assert.ok(looks() - before <= 2 + elapsedMs / 2_000, `${looks() - before} further looks in ${elapsedMs} ms`)
    assert.ok(path === '/readyz' ? listens === 1 : checks === 0, 'it was asked in the other way')
  })
}
