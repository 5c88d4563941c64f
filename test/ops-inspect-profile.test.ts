import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import { Profile } from 'pprof-format'
import { Problem } from '../src/ops/http/problem.ts'
import { connector, settled } from '../src/ops/inspect/inspector.ts'
import { loadPprof } from '../src/ops/inspect/pprof.ts'
import { heapProfile, type CpuProfile, type HeapNode } from '../src/ops/inspect/profile.ts'
import { HeapSampler } from '../src/ops/inspect/sampler.ts'
import { Shared, type Service } from './fixtures/ops-inspect-client.ts'

const shared = new Shared()
const inThread = new Shared('in-thread')
after(() => Promise.all([shared.close(), inThread.close()]))

// V8 tells the time of a function at its caller when it inlined it, and Node 20's when it optimised it while it ran (OSR) before the profile began.
const ours = (file: string | undefined) => /ops-inspect-service/.test(file ?? '')

interface Job {
  id: string
  state: string
  result?: { name: string; kind: string; type: string; bytes: number }
  problem?: { code: string; status: number }
}

async function profile(service: Service, path: string): Promise<{ job: Job; content: Buffer }> {
  const { status, json } = await service.ask(path)
  assert.equal(status, 202, JSON.stringify(json))
  const job = (await service.ask(`/jobs?id=${(json as Job).id}`, undefined, 'GET')).json as Job
  const content = job.result ? (await service.ask(`/artifacts?name=${job.result.name}`, undefined, 'GET')).json as string : ''
  return { job, content: Buffer.from(content, 'base64') }
}

test('a CPU profile of a main thread in a busy loop names what it does', () => shared.with(async it => {
  await it.busy('/spin?ms=20000')
  const { job, content } = await profile(it, '/cpu/profile?seconds=1')
  await it.free()
  assert.deepEqual([job.state, job.result!.kind, job.result!.type, job.result!.bytes], ['done', 'cpu-profile', 'application/json', content.length])
  const { nodes, samples } = JSON.parse(String(content)) as CpuProfile
  const spin = new Set<number>()
  // A node comes before its children.
  for (const { id, callFrame, children = [] } of nodes) {
    if (spin.has(id) || ours(callFrame.url)) for (const one of [id, ...children]) spin.add(one)
  }
  const share = samples!.filter(id => spin.has(id)).length / samples!.length
  assert.ok(share > 0.2, `${share} of the samples`)
}))

test('a CPU profile as pprof has its stacks with functions, files and lines', () => shared.with(async it => {
  await it.busy('/spin?ms=20000')
  const { content } = await profile(it, '/cpu/profile?seconds=1&format=pprof&intervalUs=2000')
  await it.free()
  const found = Profile.decode(gunzipSync(content))
  const text = (index: number | bigint) => found.stringTable.strings[Number(index)]
  assert.deepEqual(found.sampleType.map(({ type, unit }) => [text(type), text(unit)]), [['samples', 'count'], ['cpu', 'nanoseconds']])
  const spin = found.function.filter(({ filename }) => ours(text(filename)))
  assert.ok(spin.every(({ filename, startLine }) => /ops-inspect-service/.test(text(filename)!) && Number(startLine) > 0))
  const at = found.location.filter(({ line }) => spin.some(({ id }) => id === line[0]!.functionId)).map(({ id }) => id)
  const of = (samples: typeof found.sample) => samples.reduce((sum, { value }) => sum + Number(value[1]), 0)
  const share = of(found.sample.filter(({ locationId }) => locationId.some(id => at.includes(id)))) / of(found.sample)
  assert.ok(share > 0.2, `${share} of the time`)
  assert.ok(found.sample.every(({ locationId }) => locationId.length > 0))
}))

/** Allocates again and again: whenever the profile begins, something of it is seen. */
async function keep(it: Parameters<Parameters<typeof shared.with>[0]>[0]): Promise<void> {
  for (let i = 0; i < 8; i++) {
    await it.get('/keep?ms=100')
    await sleep(150)
  }
}

test('a heap profile has the stacks that allocated what still lives', () => shared.with(async it => {
  const keeping = keep(it)
  const { job, content } = await profile(it, '/heap/profile?seconds=2&intervalBytes=16384')
  await keeping
  assert.deepEqual([job.state, job.result!.kind], ['done', 'heap-profile'])
  const { head } = JSON.parse(String(content)) as { head: HeapNode }
  const size = (node: HeapNode, name: string, inside = false): number => {
    const within = inside || node.callFrame.functionName === name
    return (within ? node.selfSize : 0) + node.children.reduce((sum, child) => sum + size(child, name, within), 0)
  }
  // What 300 ms of a starved machine allocate.
  assert.ok(size(head, 'keepThings') > 16_384, JSON.stringify(head).slice(0, 3_000))
}))

test('a heap profile as pprof has bytes in use', () => shared.with(async it => {
  const keeping = keep(it)
  const { content } = await profile(it, '/heap/profile?seconds=2&intervalBytes=16384&format=pprof')
  await keeping
  const found = Profile.decode(gunzipSync(content))
  const text = (index: number | bigint) => found.stringTable.strings[Number(index)]
  assert.deepEqual(found.sampleType.map(({ type, unit }) => [text(type), text(unit)]), [['inuse_space', 'bytes']])
  assert.ok(found.function.some(({ name }) => text(name) === 'keepThings'), found.function.map(({ name }) => text(name)).join(' | '))
}))

test('a profile of a main thread that does not come round fails in time, and leaves nothing switched on', () => shared.with(async it => {
  await it.native(async () => {
    const begun = performance.now()
    const [cpu, heap] = await Promise.all([profile(it, '/cpu/profile?seconds=1'), profile(it, '/heap/profile?seconds=1')])
    for (const { job } of [cpu, heap]) assert.deepEqual([job.state, job.problem!.code], ['failed', 'ERR_LAMEDUCK_OPS_BLOCKED'])
    // When it would have come round by itself.
    assert.ok(performance.now() - begun < 19_000)
  })
  assert.equal(await it.get('/'), 'hello')
  // It would be refused if the one before were still on.
  assert.equal((await profile(it, '/heap/profile?seconds=1')).job.state, 'done')
  assert.equal((await profile(it, '/cpu/profile?seconds=1')).job.state, 'done')
  assert.equal(await it.get('/debugger'), 'not paused')
}))

test('a cancelled profile ends at once, and leaves nothing switched on', () => shared.with(async it => {
  const { json } = await it.ask('/heap/profile?seconds=20')
  const id = (json as Job).id
  await sleep(300)
  await it.ask(`/jobs/cancel?id=${id}`, undefined, 'GET')
  assert.equal(((await it.ask(`/jobs?id=${id}`, undefined, 'GET')).json as Job).state, 'cancelled')
  assert.equal((await profile(it, '/heap/profile?seconds=1')).job.state, 'done')
}))

test('on the main thread itself both profiles are to be had', () => inThread.with(async it => {
  assert.equal((await profile(it, '/cpu/profile?seconds=1')).job.state, 'done')
  assert.equal((await profile(it, '/heap/profile?seconds=1')).job.state, 'done')
}))

test('somebody else\'s sampling of the heap is not ended by ours', async () => {
  const connect = connector(false)
  const other = connect()
  await other.post('HeapProfiler.startSampling', {})
  let refunds = 0
  const work = { id: '1', signal: new AbortController().signal, progress() {}, refund: () => void refunds++ }
  await assert.rejects(heapProfile(new HeapSampler(connect), undefined as never, { seconds: 1, intervalBytes: 32_768, format: 'heapprofile', by: 'me' }, work),
    ({ status, code }: Problem) => status === 409 && code === 'ERR_LAMEDUCK_OPS_SAMPLING')
  // Nothing was taken: the next one need not wait for it.
  assert.equal(refunds, 1)
  await other.post('HeapProfiler.stopSampling')
  other.disconnect()
})

test('the heap has one sampler: who comes second is refused, waits or joins, and nobody ends what another one has', async () => {
  const sampler = new HeapSampler(connector(false))
  // At once: of two that look before either has begun, one is the second.
  const [first, joined, refused] = await Promise.allSettled([sampler.sample(32_768, 'waits'), sampler.sample(1_024, 'joins'), sampler.sample(1_024, 'refused')])
  assert.ok(first.status === 'fulfilled' && joined.status === 'fulfilled')
  assert.equal((refused as PromiseRejectedResult).reason.code, 'ERR_LAMEDUCK_OPS_SAMPLING')
  assert.equal(joined.value.intervalBytes, 32_768)
  joined.value.leave()
  joined.value.leave()
  assert.ok((await first.value.profile()).head)
  let began = false
  const waiting = sampler.sample(65_536, 'waits').then(sampling => {
    began = true
    return sampling
  })
  await sleep(50)
  assert.equal(began, false)
  first.value.leave()
  const second = await waiting
  assert.equal(second.intervalBytes, 65_536)
  assert.ok((await second.profile()).head)
  sampler.close()
  await assert.rejects(sampler.sample(1_024, 'joins'), { code: 'ERR_LAMEDUCK_OPS_CLOSED' })
})

test('pprof without its package is refused with the package\'s name', () =>
  assert.rejects(loadPprof(() => Promise.reject(new Error('Cannot find package'))),
    ({ status, code, more }: Problem) => status === 501 && code === 'ERR_LAMEDUCK_OPS_PEER' && more.package === 'pprof-format'))

test('what V8 refuses is a problem, and so is a call after the end', async () => {
  const session = connector(false)()
  await assert.rejects(session.post('Nothing.atAll'), ({ status, code }: Problem) => status === 500 && code === 'ERR_LAMEDUCK_OPS_INSPECTOR')
  const never = session.post('Runtime.evaluate', { expression: 'new Promise(() => {})', awaitPromise: true })
  session.disconnect()
  await assert.rejects(never, Problem)
  await assert.rejects(session.post('Runtime.evaluate', { expression: '1' }), ({ status, code }: Problem) => status === 503 && code === 'ERR_LAMEDUCK_OPS_CLOSED')
  await settled()
})
