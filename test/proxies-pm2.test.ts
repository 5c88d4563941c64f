import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildCore } from '../bench/_build.ts'
import { exampleApp } from '../bench/_proxy-examples.ts'
import { startPm2, type Pm2 } from '../bench/_proxy-pm2.ts'
import { rollingRestart } from '../bench/_proxy-rolling.ts'
import { DEFAULTS } from '../src/core/options.ts'

const require = createRequire(import.meta.url)
const installed = existsSync(new URL('../node_modules/pm2/package.json', import.meta.url))
const skip = installed ? false : 'pm2 is not installed'

async function start(t: TestContext): Promise<Pm2> {
  const core = await buildCore()
  t.after(() => core[Symbol.dispose]())
  const app = exampleApp('pm2/app.mjs', process.env['BENCH_CORE'] ?? '')
  t.after(() => app[Symbol.dispose]())
  const pm2 = await startPm2({ script: app.file })
  t.after(() => pm2.close())
  return pm2
}

/** The pids of pm2's processes, by its own list. */
async function pids(pm2: Pm2): Promise<number[]> {
  const list = JSON.parse((await pm2.command('jlist')).replace(/^[^[]*(?=\[)/, '')) as { pid: number }[]
  return list.map(({ pid }) => pid)
}

/** A zombie, whose parent has not asked for its end yet, is no process any more. */
function lives(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !existsSync(`/proc/${pid}/stat`) || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

test('pm2 gives a process more time to end than lameduck takes at most', () => {
  const { apps: [app] } = require('../examples/pm2/ecosystem.config.cjs') as { apps: [{ kill_timeout: number, wait_ready: boolean }] }
  assert.ok(app.kill_timeout > DEFAULTS.deadlineMs + 2_000)
  assert.equal(app.wait_ready, true)
  assert.match(readFileSync(new URL('../examples/pm2/app.mjs', import.meta.url), 'utf8'), /deadlineMs: 25_000/)
})

test("pm2 reload of the example fails nothing, GET or POST, executes nothing twice, and kills nobody", { skip }, async t => {
  const pm2 = await start(t)
  const before = await pids(pm2)
  const { get, post, restarts } = await rollingRestart({ port: pm2.port, upstream: pm2, restarts: 2, paceMs: 500 })
  assert.ok(post.ok > 300, `the load proves nothing: ${post.ok} POSTs`)
  const { failed, executed, twice } = post
  assert.deepEqual({ get: get.failed, failed, executed, twice }, { get: 0, failed: 0, executed: 0, twice: 0 }, pm2.output())
  assert.ok(restarts.every(({ killed }) => !killed), pm2.output())
  const after = await pids(pm2)
  assert.deepEqual(after.filter(pid => before.includes(pid)), [], 'nothing was replaced')
})

test('pm2 stop answers all that was executed, and pm2 kill leaves nothing behind', { skip }, async t => {
  const pm2 = await start(t)
  const all = await pids(pm2)
  assert.equal(all.length, 2)
  const stop = async () => {
    await pm2.command('stop', 'app')
    return { drainMs: 0, killed: false, code: 0 }
  }
  const { post } = await rollingRestart({ port: pm2.port, upstream: { ...pm2, restart: stop }, restarts: 1, paceMs: 500 })
  assert.ok(post.ok > 50, `the load proves nothing: ${post.ok} POSTs`)
  assert.equal(post.executed, 0, 'executed, and not answered')
  assert.doesNotMatch(pm2.output(), /SIGKILL/)
  assert.match(pm2.output(), /exited with code \[0\]/)
  await pm2.close()
  for (let i = 0; i < 100 && all.some(lives); i++) await sleep(20)
  assert.deepEqual(all.filter(lives), [])
})
