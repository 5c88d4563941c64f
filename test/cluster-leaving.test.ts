// How a worker goes, and with which exit code.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from './_client.ts'
import { until, world, type World } from './_cluster.ts'

const exits = (it: World) => it.steps.filter(({ what }) => what === 'exited').map(({ why }) => why)

test('a script without lameduck that closes its server on SIGTERM ends by itself, and the stop is clean', () => world(async it => {
  assert.equal((await it.supervisor.reload()).outcome, 'reloaded')
  const report = await it.supervisor.stop()
  assert.deepEqual([report.outcome, report.code, new Set(exits(it))], ['clean', 0, new Set(['exit code 0'])])
}, { workers: 1 }, { bare: true, closesOnSignal: true }))

for (const [how, signals] of [['which listens for signals', undefined], ['with signals: false', false]] as const) {
  test(`a worker ${how} and whose hook failed exits with 1, told by the supervisor`, () => world(async it => {
    const report = await it.supervisor.stop()
    assert.deepEqual([report.outcome, exits(it)], ['forced', ['exit code 1']])
  }, { workers: 1 }, { hookFails: true, options: { lameduckMs: 100, ...(signals === false && { signals }) } }))
}

test('a signal to the whole group beside the supervisor\'s word: what is done lastly is done, and the exit code is that of the drain', () => world(async it => {
  for (const pid of it.pids) process.kill(pid, 'SIGTERM')
  const report = await it.supervisor.stop()
  await until(() => it.out.includes('lastly'), 'what is done lastly')
  assert.deepEqual([report.outcome, exits(it)], ['forced', ['exit code 1']])
}, { workers: 1 }, { hookFails: true, lastlyMs: 300, options: { lameduckMs: 300 } }))

test('SIGHUP to the whole group cuts nothing in the workers', () => world(async it => {
  const clients = await Promise.all([it.use(), it.use(), it.use()])
  for (const client of clients) client.request('/slow?ms=500')
  await sleep(100)
  const { pids } = it
  for (const pid of pids) process.kill(pid, 'SIGHUP')
  for (const client of clients) assert.equal((await client.answer()).text, 'slow')
  assert.deepEqual(it.pids, pids)
}))

test('while the only worker that may have connections is blocked, the primary does not spin', () => world(async it => {
  const reload = it.supervisor.reload()
  await until(() => it.supervisor.status().workers.length === 2, 'the new worker')
  // It listens, and is not proved.
  await sleep(1_500)
  const blocked = await it.use()
  blocked.request('/block?ms=3000')
  await sleep(200)
  const waiting = await Promise.all(Array.from({ length: 4 }, () => Client.open(it.address)))
  for (const client of waiting) client.request('/')
  await sleep(100)
  const before = process.cpuUsage()
  await sleep(1_000)
  const { user, system } = process.cpuUsage(before)
  // A spin takes what it gets; two timers in 5 ms do not.
  assert.ok((user + system) / 1_000 < 500, `${(user + system) / 1_000} ms of CPU time in a second`)
  for (const client of waiting) assert.equal((await client.answer(20_000)).status, 200)
  assert.equal((await reload).outcome, 'reloaded')
}, { workers: 1, readyMs: 8_000 }))
