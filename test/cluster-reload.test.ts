import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { APP, freePort, until, World, world } from './_cluster.ts'
import { Swarm } from './_cluster-load.ts'

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-reload-'))
  try {
    await run(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const versions = (who: { version?: string }[]) => [...new Set(who.map(({ version }) => version))]

test('three reloads under 50 keep-alive connections, GET and POST: no request fails, none is executed unanswered or twice', async () => {
  const it = new World(await freePort(), { delayMs: 2, options: { lameduckMs: 6_000, quietMs: 100 } })
  const journal = join(it.folder, 'journal')
  it.app.journal = journal
  try {
    await it.start().ready
    const swarm = new Swarm(it.address, 50, 20)
    await until(() => swarm.answered > 200, '200 answers')
    for (let round = 1; round <= 3; round++) {
      it.app.version = String(round)
      const result = await it.supervisor.reload()
      assert.equal(result.outcome, 'reloaded', result.reason)
      assert.equal(result.readyLeast, 2)
      const { answered } = swarm
      await until(() => swarm.answered > answered + 50, '50 more answers')
    }
    assert.deepEqual(versions(await it.crowd()), ['3'])
    const tally = await swarm.stop(journal)
    assert.deepEqual({ ...tally, answered: tally.answered > 0 }, { answered: true, failed: [], ghosts: [], twice: [] })
  } finally {
    await it.close()
  }
})

test('a release that fails: the old workers stay, and the result says why', () => world(async it => {
  it.app.version = 'old'
  assert.equal((await it.supervisor.reload()).outcome, 'reloaded')
  const before = it.pids
  const attempts = [
    { fault: 'throws', code: 'ERR_LAMEDUCK_CLUSTER_DIED', reason: /before it was ready: Error: no such module: config/ },
    { fault: 'exits', code: 'ERR_LAMEDUCK_CLUSTER_DIED', reason: /exit code 0 before it was ready/ },
    { fault: 'dies', code: 'ERR_LAMEDUCK_CLUSTER_DIED', reason: /exit code 3 before it was ready/ },
    { fault: 'unready', code: 'ERR_LAMEDUCK_CLUSTER_UNREADY', reason: /was not ready within 8000 ms: \/readyz says 503: database$/ },
    { fault: 'unready', readyPath: '/healthz/ready', code: 'ERR_LAMEDUCK_CLUSTER_UNREADY', reason: /was not ready within 8000 ms: \/healthz\/ready says 503: database$/ },
  ] as const
  for (const { code, reason, ...app } of attempts) {
    it.app = { port: it.port, version: 'new', ...app }
    const result = await it.supervisor.reload()
    assert.equal(result.outcome, 'rolled-back')
    assert.equal(result.code, code, result.reason)
    assert.match(result.reason ?? '', reason)
    assert.equal(result.readyLeast, 2)
    // Not one of them was served by what failed.
    assert.deepEqual(versions(await it.crowd(10)), ['old'])
  }
  const status = it.supervisor.status()
  assert.equal(status.generation, 2)
  assert.equal(status.ready, 2)
  await until(() => it.supervisor.status().workers.length === 2, 'the failed ones have gone')
  assert.deepEqual(it.pids, before)
}, { readyTimeoutMs: 8_000 }))

test('a release whose second worker fails: the first one is replaced by the old release again', () => world(async it => {
  it.app.version = 'old'
  assert.equal((await it.supervisor.reload()).outcome, 'reloaded')
  it.app.version = 'new'
  it.app.badSlot = '1'
  const result = await it.supervisor.reload()
  assert.equal(result.outcome, 'rolled-back')
  assert.match(result.reason ?? '', /bad slot/)
  assert.equal(result.readyLeast, 2)
  assert.deepEqual(versions(await it.crowd()), ['old'])
  assert.deepEqual(it.supervisor.status().workers.filter(({ state }) => state === 'ready').map(({ slot, generation }) => [slot, generation]), [[0, 2], [1, 2]])
}))

test('a reload follows the symlink of a deploy; what dies is replaced by the release that it was of', async () => {
  const it = new World(await freePort(), {})
  const current = join(it.folder, 'current')
  const deploy = (name: string) => {
    const folder = join(it.folder, name)
    mkdirSync(folder)
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
    writeFileSync(join(folder, 'app.js'), `process.env.EXTRA = ${JSON.stringify(name)} + process.cwd().slice(-2)\nawait import(${JSON.stringify(APP)})\n`)
    rmSync(current, { force: true })
    symlinkSync(folder, current)
  }
  const extras = async () => [...new Set((await it.crowd(10)).map(({ extra }) => extra))]
  try {
    deploy('r1')
    await it.start({ script: 'app.js', cwd: current }).ready
    assert.deepEqual(await extras(), ['r1r1'])
    deploy('r2')
    process.kill((await it.who()).pid, 'SIGKILL')
    await until(() => it.steps.some(({ what }) => what === 'crashed'), 'the crash')
    await until(() => it.supervisor.status().ready === 2, 'two ready workers')
    assert.deepEqual(await extras(), ['r1r1'])
    assert.equal((await it.supervisor.reload()).outcome, 'reloaded')
    assert.deepEqual(await extras(), ['r2r2'])
    // A deploy that went wrong.
    rmSync(current)
    const result = await it.supervisor.reload()
    assert.equal(result.code, 'ERR_LAMEDUCK_CLUSTER_SCRIPT')
    assert.equal(result.outcome, 'rolled-back')
    assert.deepEqual(await extras(), ['r2r2'])
  } finally {
    await it.close()
  }
})

test('an env file is read anew at each reload; one that has gone is a reason to stay', async () => {
  const it = new World(await freePort(), {})
  const envFile = join(it.folder, 'env')
  const extras = async () => [...new Set((await it.crowd(10)).map(({ extra }) => extra))]
  try {
    writeFileSync(envFile, 'EXTRA=first\n')
    await it.start({ envFile }).ready
    writeFileSync(envFile, 'EXTRA="second"\n')
    assert.deepEqual(await extras(), ['first'])
    assert.equal((await it.supervisor.reload()).outcome, 'reloaded')
    assert.deepEqual(await extras(), ['second'])
    rmSync(envFile)
    const result = await it.supervisor.reload()
    assert.equal(result.code, 'ERR_LAMEDUCK_CLUSTER_ENV')
    assert.deepEqual(await extras(), ['second'])
  } finally {
    await it.close()
  }
})

test('reloads do not overlap: a second one waits, further ones share what waits', () => world(async it => {
  const first = it.supervisor.reload()
  await sleep(10)
  const second = it.supervisor.reload()
  const third = it.supervisor.reload()
  assert.equal(second, third)
  assert.notEqual(first, second)
  assert.deepEqual((await Promise.all([first, second])).map(({ outcome, generation }) => [outcome, generation]), [['reloaded', 2], ['reloaded', 3]])
}, { workers: 1 }))

test('a canary that answers with 5xx is taken back, and so is one that dies', () => world(async it => {
  it.app.status = 500
  let asking = true
  const ask = async () => {
    while (asking) await it.get('/').catch(() => {})
  }
  const clients = [ask(), ask()]
  const failing = await it.supervisor.reload()
  assert.equal(failing.outcome, 'rolled-back')
  assert.equal(failing.code, 'ERR_LAMEDUCK_CLUSTER_CANARY')
  assert.match(failing.reason ?? '', /answered 100\.0 % of \d+ requests with 5xx; the others 0\.0 % of \d+/)
  it.app = { port: it.port, diesOfRequest: true }
  const dying = await it.supervisor.reload()
  assert.equal(dying.code, 'ERR_LAMEDUCK_CLUSTER_CANARY', dying.reason)
  assert.match(dying.reason ?? '', /died while it served alone: Error: died by itself/)
  it.app = { port: it.port, version: 'good' }
  assert.equal((await it.supervisor.reload()).outcome, 'reloaded')
  asking = false
  await Promise.all(clients)
}, { canaryMs: 2_000 }))

test('a crash loop leaves its slot empty and the others alone; a reload is the way out', () => inFolder(folder => world(async it => {
  it.app.badSlot = '1'
  writeFileSync(join(folder, 'die'), '')
  await until(() => it.steps.some(({ what, slot }) => what === 'gave up' && slot === 1), 'the end of the loop')
  const { workers, ready } = it.supervisor.status()
  assert.equal(ready, 1)
  assert.equal(workers[1]!.state, 'gave up')
  assert.match(workers[1]!.error ?? '', /worker 1 died too often .* died by itself/)
  assert.ok(workers[1]!.restarts <= 3, 'no hot loop')
  assert.deepEqual([...new Set((await it.crowd(5)).map(({ slot }) => slot))], ['0'])
  it.app = { port: it.port, fault: 'throws' }
  const bad = await it.supervisor.reload()
  assert.equal(bad.outcome, 'rolled-back')
  assert.equal(it.supervisor.status().workers[1]!.state, 'gave up')
  it.app = { port: it.port, version: 'good' }
  const good = await it.supervisor.reload()
  assert.equal(good.outcome, 'reloaded', good.reason)
  assert.deepEqual([good.readyBefore, it.supervisor.status().ready], [1, 2])
}, { crashLimit: 3 }, { diesOfFile: join(folder, 'die'), onlySlot: '1' })))

test('it grows and shrinks while it runs', () => world(async it => {
  await it.supervisor.scale(3)
  assert.deepEqual([...new Set((await it.crowd()).map(({ slot }) => slot))].sort(), ['0', '1', '2'])
  await it.supervisor.scale(1)
  assert.equal(it.supervisor.status().workers.length, 1)
  assert.deepEqual([...new Set((await it.crowd(5)).map(({ slot }) => slot))], ['0'])
  await assert.rejects(it.supervisor.scale(0), { code: 'ERR_LAMEDUCK_CLUSTER_OPTION' })
  it.app.fault = 'throws'
  // New ones are of the release that runs.
  await it.supervisor.scale(2)
  assert.equal(it.supervisor.status().ready, 2)
}, { workers: 1 }))
