import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { networkInterfaces } from 'node:os'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ghosts, startLoad } from '../bench/_load.ts'
import { spawnServer } from '../bench/_spawn.ts'
import { wrap, type Duck } from '../src/core/index.ts'
import { Child } from './_child.ts'
import * as threads from './_load.ts'
import { addressOf, listen } from './_world.ts'

const skip = process.platform === 'linux' ? false : 'other systems take a new limit of the accept queue for no socket that listens'
const connections = 600

// Each answer says `close`, and all come back at once: at the moment when the listener closes, some hundred are at the door.
test('clients that come back without a pause are refused when the listener closes: none has sent a request that a RST meets', { skip }, async () => {
  const server = await spawnServer({ peer: 'lameduck', handlerMs: 5, lameduckMs: 300 })
  try {
    const load = await startLoad({ port: server.port, connections, thinkMs: 60, reconnect: true })
    await sleep(200)
    const { code, killed } = await server.terminate(30_000)
    // Whose SYN was dropped asks again a second later.
    await Promise.race([load.ended, sleep(20_000, undefined, { ref: false })])
    await load.stop(5_000)
    const seen = JSON.stringify(load.counts)
    assert.deepEqual([code, killed], [0, false], seen)
    assert.deepEqual(ghosts(server.executed(), load), [], seen)
    assert.ok(load.counts.refused > connections / 2, `too few came back to prove anything: ${seen}`)
    assert.equal(load.counts.reset, 0, seen)
  } finally {
    await server.dispose()
  }
})

const hasIPv6 = Object.values(networkInterfaces()).flat().some(one => one?.address === '::1')

for (const [host, client, lacks] of [['127.0.0.1', '127.0.0.1', skip], ['0.0.0.0', '127.0.0.1', skip], ['::', '127.0.0.1', skip || !hasIPv6], ['::1', '::1', skip || !hasIPv6]] as const) test(`listening on ${host}: who connects behind the last look into the accept queue, and before the listener closes, is refused and has sent nothing`, { skip: lacks }, async () => {
  const server = http.createServer((_, res) => res.end())
  server.listen(0, host)
  await once(server, 'listening')
  const address = { host: client, port: (server.address() as AddressInfo).port }
  const { _handle: handle } = server as unknown as { _handle: { close(...args: unknown[]): void } }
  const { close } = handle
  let load: threads.Load | undefined
  handle.close = (...args) => {
    load = threads.startLoad({ address, connections: 10, mode: 'burst', thinkMs: 0 })
    threads.blockFor(1_500)
    close.apply(handle, args)
  }
  await wrap(server, { signals: false }).drain({ lameduckMs: 0 })
  const { lost, statuses } = await (load as unknown as threads.Load).result
  assert.deepEqual([lost, statuses], [[], Array.from({ length: 10 }, () => 0)])
})

for (const [who, drain] of [
  ['its child goes on, for which it does not wait', async (duck: Duck, { process: child }: Child) => {
    child.unref()
    child.channel?.unref()
    await duck.drain({ lameduckMs: 0 })
    child.ref()
    child.kill('SIGSTOP')
  }],
  ['its parent goes on', async (_: Duck, child: Child) => {
    child.process.send('drain')
    assert.deepEqual(await child.exited, { code: 0, signal: null })
  }],
] as const) {
  test(`a socket that two processes have goes on with its queue when one drains and ${who}: fifty clients connect while nobody accepts`, { skip }, async () => {
    const server = http.createServer((_, res) => res.end('parent'))
    const duck = wrap(server, { signals: false })
    await listen(server)
    const address = addressOf(server)
    const child = new Child('shared-socket.ts', [], { ipc: true })
    try {
      await once(child.process, 'message')
      child.process.send('take', server)
      await once(child.process, 'message')
      await drain(duck, child)
      const load = threads.startLoad({ address, connections: 50, mode: 'burst', thinkMs: 0 })
      load.block()
      child.process.kill('SIGCONT')
      const { resets, statuses } = await load.result
      assert.deepEqual([resets, statuses.length], [0, 50])
    } finally {
      await child.close()
      server.close()
      server.closeAllConnections()
    }
  })
}
