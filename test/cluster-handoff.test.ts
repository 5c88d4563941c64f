import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { call, type Called } from './_call.ts'
import { Client } from './_client.ts'
import { freePort, until, World, world } from './_cluster.ts'

// More than enough: without the remedy nearly every one of them leaves a client behind.
const KILLS = 12

/** Connects, asks, and goes; again and again. */
class Callers {
  readonly ends: Record<Called, number> = { ok: 0, cut: 0, refused: 0, hung: 0 }
  #on = true
  #loops: Promise<void>[]

  constructor(it: World, count: number) {
    this.#loops = Array.from({ length: count }, async () => {
      // The machine may be busy.
      while (this.#on) this.ends[await call(it.port, 15_000)]++
    })
  }

  async stop(): Promise<Record<Called, number>> {
    this.#on = false
    await Promise.all(this.#loops)
    return this.ends
  }
}

test(`${KILLS} workers that are killed under load leave no client hanging, and the service goes on`, () => world(async it => {
  const callers = new Callers(it, 20)
  await until(() => callers.ends.ok > 50, 'fifty answers')
  for (let kills = 0; kills < KILLS; kills++) {
    await until(() => it.supervisor.status().ready >= 2, 'two ready workers', 30_000)
    const ready = it.supervisor.status().workers.filter(({ state }) => state === 'ready')
    process.kill(ready[kills % ready.length]!.pid!, 'SIGKILL')
    await sleep(50)
  }
  await until(() => it.supervisor.status().ready === 3, 'three ready workers again')
  const { ok } = callers.ends
  await until(() => callers.ends.ok > ok + 20, 'more answers')
  const ends = await callers.stop()
  assert.equal(ends.hung, 0, JSON.stringify(ends))
  assert.equal(it.supervisor.status().workers.length, 3)
}, { workers: 3, readyMs: 0, crashLimit: 1_000 }))

test('a client that waits for a worker which never got ready is not left hanging by a stop', async () => {
  const it = new World(await freePort(), { fault: 'unready' })
  try {
    const supervisor = it.start({ workers: 1, readyTimeoutMs: 60_000 })
    supervisor.ready.catch(() => {})
    let client: Client | undefined
    await until(async () => {
      client = await Client.open(it.address).catch(() => undefined)
      return client !== undefined
    }, 'somebody who listens')
    client!.request('/')
    await sleep(500)
    const { outcome } = await supervisor.stop()
    assert.equal(outcome, 'clean')
    assert.notEqual(await client!.ended(), 'open')
    assert.deepEqual(client!.answers, [])
  } finally {
    await it.close()
  }
})

test('a request in flight may still listen on a port of its own while the supervisor stops', () => world(async it => {
  const client = await it.use()
  client.request('/listen?ms=500')
  await sleep(100)
  const { outcome } = await it.supervisor.stop()
  assert.deepEqual([(await client.answer()).text, outcome], ['listened', 'clean'])
}, { workers: 1 }))
