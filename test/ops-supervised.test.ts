import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import net, { type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { supervise, type Step, type Supervisor } from '../src/cluster/index.ts'
import { ask, askUntil } from './_ops.ts'

interface World {
  supervisor: Supervisor
  folder: string
  port: number
  steps: Step[]
  /** The pid that answers. */
  who(): Promise<string>
}

async function world(t: TestContext): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), 'ld-sup-'))
  const probe = net.createServer()
  await new Promise<void>(resolve => void probe.listen(0, '127.0.0.1', resolve))
  const { port } = probe.address() as AddressInfo
  await new Promise<void>(resolve => void probe.close(() => resolve()))
  const supervisor = supervise({
    script: fileURLToPath(new URL('fixtures/cluster-ops.ts', import.meta.url)),
    workers: 1,
    readyMs: 100,
    control: join(folder, 'control.sock'),
    exit: false,
    signals: false,
    execArgv: ['--import', 'tsx'],
    env: { PORT: String(port), FOLDER: folder, NODE_TEST_CONTEXT: '' },
    heartbeatMs: 200,
    // Less than the snapshot's pause: who does not announce it is killed as stuck.
    stuckMs: 1_000,
  })
  const steps: Step[] = []
  supervisor.onStep(step => steps.push(step))
  t.after(async () => {
    await supervisor.stop().catch(() => {})
    await supervisor.closed
    rmSync(folder, { recursive: true, force: true })
  })
  await supervisor.ready
  return { supervisor, folder, port, steps, who: async () => (await fetch(`http://127.0.0.1:${port}/`)).text() }
}

/** Clients with a connection for each request, as long as `until` has not settled. @returns Who answered how often; what failed. */
async function load({ who }: World, until: Promise<unknown>): Promise<{ pids: Map<string, number>; failed: unknown[] }> {
  let over = false
  void until.finally(() => {
    over = true
  })
  const pids = new Map<string, number>()
  const failed: unknown[] = []
  await Promise.all(Array.from({ length: 4 }, async () => {
    while (!over) {
      await who().then(pid => pids.set(pid, (pids.get(pid) ?? 0) + 1), (error: unknown) => failed.push(error))
      await sleep(20)
    }
  }))
  return { pids, failed }
}

async function snapshot({ folder }: World, pid: string, query: string): Promise<Record<string, unknown>> {
  const at = { path: join(folder, pid, 'ops.sock') }
  const started = await ask(at, `/heap/snapshots?${query}`, { method: 'POST' })
  assert.equal(started.status, 202, started.text)
  const ended = await askUntil(at, `/jobs/${String(started.json.id)}`, {}, ({ json }) => json.state !== 'running', 60_000)
  return ended.json
}

test('an isolated snapshot under the supervisor: a replacement serves meanwhile, nobody notices, and the worker is back', async t => {
  const site = await world(t)
  const first = await site.who()
  const job = snapshot(site, first, 'isolate=true')
  const { pids, failed } = await load(site, job)
  assert.equal((await job).state, 'done', JSON.stringify(await job))
  assert.deepEqual(failed, [])
  assert.equal(pids.size, 2, JSON.stringify([...pids]))
  for (let i = 0; i < 200 && await site.who() !== first; i++) await sleep(50)
  assert.equal(await site.who(), first)
  assert.equal(site.supervisor.status().workers.filter(({ state }) => state === 'ready').length, 1)
})

test('with recycle the worker that was looked into goes for good once its file was fetched, whole, and its replacement stays', async t => {
  const site = await world(t)
  const first = await site.who()
  const job = snapshot(site, first, 'recycle=true&compress=false')
  const { failed } = await load(site, job)
  assert.deepEqual(failed, [])
  const { result } = await job as { result: { artifact: { name: string } } }
  // The worker goes with its endpoint, but waits for whoever asked.
  const file = await ask({ path: join(site.folder, first, 'ops.sock') }, `/artifacts/${result.artifact.name}`)
  assert.deepEqual(Object.keys(file.json).slice(0, 2), ['snapshot', 'nodes'])
  for (let i = 0; i < 200 && site.supervisor.status().workers.some(({ pid }) => String(pid) === first); i++) await sleep(50)
  assert.ok(!site.supervisor.status().workers.some(({ pid }) => String(pid) === first))
  assert.notEqual(await site.who(), first)
})
