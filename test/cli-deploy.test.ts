// The real command line against a real supervisor: a rollback that fails, what a reload waits for, and starts that cannot be.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { freePort } from '../bench/_ports.ts'
import { built, cli, ended, lastLine, Site, taken, Visitor, type Ended } from './_cli-site.ts'
import { Child } from './_child.ts'
import type { App } from './fixtures/cluster-app.ts'

test('a bad release whose predecessor was deleted meanwhile: exit code 1, both serve, and the next reload replaces both', () => Site.with([], async site => {
  site.deploy('r2')
  rmSync(join(site.folder, 'r1'), { recursive: true })
  site.tell({ version: 'new', badSlot: '1' })
  const visitor = new Visitor(site)
  const { code, stdout, stderr } = await site.reload()
  await visitor.stop()
  assert.deepEqual([code, stdout], [1, ''], stderr)
  assert.match(lastLine(stderr), /^lameduck: mixed: .*bad slot.*; two releases serve: `lameduck status` says which; .* \[ERR_LAMEDUCK_CLUSTER_DIED\]$/)
  const { ready, workers } = await site.status()
  assert.deepEqual([ready, workers.filter(({ state }) => state === 'ready').map(({ slot, generation }) => [slot, generation])], [2, [[0, 2], [1, 1]]])
  site.tell({ version: 'good' })
  assert.equal((await site.reload()).code, 0)
  assert.deepEqual((await site.status()).workers.map(({ generation }) => generation), [3, 3])
  assert.deepEqual(visitor.failed, [])
}))

// A request that is not answered keeps the first reload from its end, until the test ends it.
const patient: Partial<App> = { version: 'old', options: { deadlineMs: 60_000 } }

test('a reload that waits for another one, or for an isolated worker, says so, and then shows its own steps', () => Site.with(['--deadline', '60s'], async site => {
  const { client } = await site.use()
  client.request('/hang')
  await client.flushed()
  const first = site.command('reload')
  await first.says(/retiring/)
  const second = site.command('reload')
  await second.says(/waiting: another reload goes on/)
  client.destroy()
  const [one, two] = await Promise.all([ended(first), ended(second)])
  assert.deepEqual([one.code, two.code], [0, 0], `${one.stderr}\n${two.stderr}`)
  assert.doesNotMatch(one.stderr, /waiting/)
  assert.match(two.stderr, /^reloading\nwaiting: another reload goes on\n(?:.*\n)*reloading\nworker 0 \(pid \d+\) of generation 3: starting\n/)
  assert.match(two.stdout, /^reloaded: generation 3 /)

  const { client: own, who } = await site.use()
  own.request(`/send?message=${encodeURIComponent('{"lameduck":"isolate"}')}`)
  assert.deepEqual(JSON.parse((await own.answer()).text), { lameduck: 'isolated', ok: true })
  const waits = site.command('reload')
  assert.equal(await waits.says(/waiting: worker \d \(pid (\d+)\) is isolated, for a heap snapshot or the like/), String(who.pid))
  own.request(`/send?message=${encodeURIComponent('{"lameduck":"return","retire":true}')}`)
  const three = await ended(waits)
  assert.equal(three.code, 0, three.stderr)
  assert.match(three.stderr, /is isolated, .*\n(?:.*\n)*reloading\n(?:.*\n)*worker 0 \(pid \d+\) of generation 4: starting\n/)
  own.destroy()
}, patient))

test('a start that cannot be: 2 for what is wrong with the command, 1 for what the script does, a line with the code at the end, and nothing is left running', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-cli-start-'))
  const free = await freePort()
  const run = (app: Partial<App>, ...argv: string[]) => ended(new Child(cli, ['run', '--no-config', '--control', 'off', ...argv], { env: { APP: JSON.stringify({ port: free, ...app }) } }))
  const cases: [run: () => Promise<Ended>, exit: number, end: RegExp][] = [
    [() => run({}, join(folder, 'none.js')), 2, /cannot run .*none\.js: ENOENT.* \[ERR_LAMEDUCK_CLUSTER_SCRIPT\]$/],
    ...['0', '-1', '9999'].map((workers): [() => Promise<Ended>, number, RegExp] => [() => run({}, built.app, `--workers=${workers}`), 2, new RegExp(`options\\.workers is ${workers}; allowed: a whole number from 1 to 256 \\[ERR_LAMEDUCK_CLUSTER_OPTION\\]$`)]),
    [() => run({ fault: 'throws' }, built.app), 1, /exit code 1 before it was ready: Error: no such module: config \[ERR_LAMEDUCK_CLUSTER_DIED\]$/],
    [() => run({ fault: 'exits' }, built.app), 1, /exit code 0 before it was ready \[ERR_LAMEDUCK_CLUSTER_DIED\]$/],
    [() => run({ fault: 'silent' }, built.app, '--ready-timeout', '3s'), 1, /it did not listen within 3000 ms \[ERR_LAMEDUCK_CLUSTER_SILENT\]$/],
    [() => run({ port: taken }, built.app), 1, new RegExp(`EADDRINUSE.*:${taken} \\[ERR_LAMEDUCK_CLUSTER_DIED\\]$`)],
    [() => run({}, built.app, '--control', folder), 1, /is not a socket: it is left alone \[ERR_LAMEDUCK_CLUSTER_CONTROL\]$/],
  ]
  try {
    for (const [start, exit, end] of cases) {
      const { code, stdout, stderr } = await start()
      assert.equal(code, exit, stderr)
      assert.equal(stdout, '')
      assert.match(lastLine(stderr), end)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})
