// What the endpoint's thread leaves behind when it crashes, and how it comes back.
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { ops, type AuditEntry, type OpsOptions } from '../src/ops/index.ts'
import { ask, freshToken } from './_ops.ts'
import { folder } from './_ops-door.ts'

const PATIENCE_MS = 30_000

/** There are others in this process: clients of the test, and, on Node 22 and later, one that was there before the endpoint's. */
const isEndpoint = (thread: Worker) => thread.resourceLimits?.maxOldGenerationSizeMb === 192

/** An endpoint in a thread of its own, those threads as they are started, and what the audit heard. */
async function site(t: TestContext, options: OpsOptions = {}) {
  const token = freshToken()
  const threads: Worker[] = []
  const entries: AuditEntry[] = []
  const note = (thread: Worker) => void (isEndpoint(thread) && threads.push(thread))
  process.on('worker', note)
  const endpoint = ops({
    listen: { port: 0 }, audit: false, logger: { warn() {} }, files: { dir: folder() }, onAudit: entry => entries.push(entry),
    auth: { tokens: [{ name: 'ann', scopes: ['read', 'diag', 'control'], token }] },
    ...options,
  })
  t.after(async () => {
    process.off('worker', note)
    await endpoint.close()
  })
  await endpoint.ready
  /** While it is being started again nobody answers. */
  const go = async (path: string, method = 'GET') => {
    for (const end = performance.now() + PATIENCE_MS; ; await sleep(100)) {
      const answer = await ask(endpoint.address, path, { token, method }).catch((error: unknown) => {
        if (performance.now() > end) throw error
        return undefined
      })
      if (answer) return answer
    }
  }
  return { endpoint, token, threads, entries, go }
}

/** One request from a thread of its own, as from a client that a blocked main thread is nothing to. Blocks until it is answered. */
function askBlocked(url: string, token: string): { status: number; text: string } {
  const shared = new SharedArrayBuffer(16_384)
  const [flags, text] = [new Int32Array(shared, 0, 3), new Uint8Array(shared, 12)]
  const client = new Worker(`
    const { workerData: { shared, url, token } } = require('node:worker_threads')
    const [flags, text] = [new Int32Array(shared, 0, 3), new Uint8Array(shared, 12)]
    require('node:http').request(url, { method: 'POST', agent: false, headers: { Authorization: 'Bearer ' + token } }, async res => {
      let all = ''
      for await (const part of res) all += part
      flags[2] = new TextEncoder().encodeInto(all, text).written
      flags[1] = res.statusCode
      Atomics.store(flags, 0, 1)
    }).end()
  `, { eval: true, workerData: { shared, url, token } })
  client.on('error', () => {})
  const end = performance.now() + PATIENCE_MS
  while (Atomics.load(flags, 0) === 0) if (performance.now() > end) throw new Error('no answer')
  return { status: flags[1] ?? 0, text: new TextDecoder().decode(text.slice(0, flags[2])) }
}

for (const [what, heavy, code] of [
  ['the cooldown goes on', { cooldownMs: 600_000, perDay: 50 }, 'ERR_LAMEDUCK_OPS_COOLDOWN'],
  ['the day\'s budget is no new one', { cooldownMs: 0, perDay: 1 }, 'ERR_LAMEDUCK_OPS_BUDGET'],
] as const) {
  test(`after a crash of the endpoint's thread its job has failed and says why, and ${what}, though main heard of neither before`, async t => {
    const { endpoint, token, threads, entries, go } = await site(t, { heavy })
    const { status, text } = askBlocked(`${endpoint.url}/heap/profile?seconds=60`, token)
    assert.equal(status, 202, text)
    // In the same turn: main has had no time to hear what the thread says.
    void threads[0]?.terminate()
    const { id } = JSON.parse(text) as { id: string }
    await new Promise(resolve => endpoint.on('crash', resolve))
    const { json } = await go(`/jobs/${id}`)
    assert.deepEqual([json.state, (json.problem as { code?: string }).code, json.by], ['failed', 'ERR_LAMEDUCK_OPS_CRASHED', 'ann'])
    assert.equal(typeof json.endedAt, 'string')
    assert.ok(entries.some(({ event, job, code }) => event === 'job' && job === id && code === 'ERR_LAMEDUCK_OPS_CRASHED'))
    const next = await go('/heap/profile?seconds=1', 'POST')
    assert.deepEqual([next.status, next.json.code], [429, code])
    // Once more: what is kept is kept again.
    void threads.at(-1)?.terminate()
    await new Promise(resolve => endpoint.on('crash', resolve))
    assert.deepEqual((await go('/jobs')).json, { jobs: [json] })
  })
}

test('a thread that crashes again and again is started ever more slowly, and serves again when nothing crashes it any more', async t => {
  const { endpoint, threads, go } = await site(t)
  let faulty = true
  let starts = 0
  const fault = (thread: Worker) => {
    if (!isEndpoint(thread)) return
    starts++
    if (faulty) void thread.terminate()
  }
  process.on('worker', fault)
  try {
    const began = performance.now()
    void threads[0]?.terminate()
    await sleep(2_500)
    faulty = false
    const took = performance.now() - began
    // 100 ms, then 200, 400, …: n starts take 100 x (2^n - 1) ms at least.
    const most = Math.floor(Math.log2(took / 100 + 1))
    assert.ok(starts >= 1 && starts <= most, `${starts} starts in ${took} ms, at most ${most} were to be`)
    assert.equal((await go('/info')).status, 200)
    const before = starts
    await sleep(300)
    assert.equal(starts, before)
    assert.ok(endpoint.url)
  } finally {
    process.off('worker', fault)
  }
})
