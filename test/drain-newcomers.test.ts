import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ghosts, startLoad } from '../bench/_load.ts'
import { spawnServer } from '../bench/_spawn.ts'

const skip = process.platform === 'linux' ? false : 'other systems take a new limit of the accept queue for no socket that listens'
const connections = 600

// Each answer says `close`, and all come back at once: at the moment when the listener closes, some hundred are at the door.
test('clients that come back without a pause are refused when the listener closes: hardly one has sent a request that a RST meets', { skip }, async () => {
  const server = await spawnServer({ peer: 'lameduck', handlerMs: 5, lameduckMs: 300 })
  try {
    const load = await startLoad({ port: server.port, connections, thinkMs: 60, reconnect: true })
    await sleep(200)
    const { code, killed } = await server.terminate(30_000)
    // Whose SYN was dropped asks again a second later.
    await Promise.race([load.ended, sleep(20_000, undefined, { ref: false })])
    await load.stop(5_000)
    assert.deepEqual([code, killed], [0, false])
    assert.deepEqual(ghosts(server.executed(), load), [])
    assert.ok(load.counts.refused > connections / 2, `${load.counts.refused} were refused: too few came back to prove anything`)
    assert.ok(load.counts.reset <= connections / 20, `${load.counts.reset} of ${connections} got a RST`)
  } finally {
    await server.dispose()
  }
})
