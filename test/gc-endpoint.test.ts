import assert from 'node:assert/strict'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import vm from 'node:vm'
import { MessageChannel, Worker } from 'node:worker_threads'
import { collect } from '../src/ops/gc/index.ts'
import { gcLog, type Logged, type MajorSample } from '../src/ops/gc/log.ts'
import { gcOutpost, type GCBeat, type ToldMajor } from '../src/ops/gc/outpost.ts'
import { gcPart } from '../src/ops/gc/part.ts'
import { GcStreams } from '../src/ops/gc/stream.ts'
import type { Problem } from '../src/ops/http/problem.ts'
import type { Call, Reply } from '../src/ops/http/route.ts'
import { Link } from '../src/ops/link.ts'
import type { Bench, Post } from '../src/ops/part.ts'
import { litter, until } from './_gc.ts'

/** Both ends in one thread, as with `thread: false`. */
function bothEnds(t: TestContext, outpost = true) {
  const { port1, port2 } = new MessageChannel()
  const [mainEnd, endpointEnd] = [new Link(port1), new Link(port2)]
  const stop = outpost ? gcOutpost({ link: mainEnd } as Post) : undefined
  const log = gcLog(endpointEnd)
  const part = gcPart({ main: endpointEnd } as Bench)
  t.after(() => {
    stop?.()
    void part.close?.()
    mainEnd.close()
    endpointEnd.close()
  })
  const route = (method: string, path: string) => part.routes.find(each => each.method === method && each.path === path)
  const ask = async (method: string, path: string, params: Record<string, unknown> = {}) => {
    const reply = await route(method, path)?.handler({ params, note() {} } as unknown as Call)
    return (reply as Reply).json as Record<string, unknown>
  }
  return { mainEnd, endpointEnd, log, part, ask }
}

test('GET /gc tells the source, the pauses by kind, and the last major GCs with what they left', async t => {
  const { log, ask } = bothEnds(t)
  for (let round = 1; round <= 3; round++) {
    collect()
    await until(() => log.last >= round)
  }
  const body = await ask('GET', '/gc', { last: 2 })
  const { source, why } = body['source'] as { source: string, why: string }
  assert.ok(['gc-stats', 'perf_hooks'].includes(source) && why.length > 0)
  const majors = body['majors'] as Logged[]
  assert.deepEqual(majors.map(({ id }) => id), [log.last - 1, log.last])
  for (const { after, forced, spaces, pauseMs } of majors) {
    assert.ok(forced && pauseMs > 0)
    assert.ok(after.used > 0 && after.limit > after.total && (after.rss ?? 0) > 0)
    assert.ok((spaces['old_space'] ?? 0) > 0)
  }
  const { major } = body['pauses'] as { major: { count: number, forced: number, sumMs: number, maxMs: number, p50Ms: number, p99Ms: number, classes: number[] } }
  assert.equal(major.count, log.last)
  assert.ok(major.forced >= 3)
  assert.equal(major.classes.reduce((sum, count) => sum + count, 0), major.count)
  assert.ok(major.p50Ms > 0 && major.p50Ms <= major.p99Ms && major.p99Ms <= major.maxMs && major.maxMs <= major.sumMs)
  assert.deepEqual(await ask('GET', '/gc', { last: 0 }).then(({ majors }) => majors), [])
})

test('hundreds of minor GCs reach the endpoint as sums, once a second, and none is missing in them', async t => {
  const { log, endpointEnd } = bothEnds(t)
  const beats: { at: number, minor: number }[] = []
  endpointEnd.on<GCBeat>('gc', ({ pauses, majors }) => majors.length === 0 && beats.push({ at: performance.now(), minor: pauses.minor?.count ?? 0 }))
  const from = performance.now()
  await litter(() => performance.now() - from > 2_500 && beats.length >= 2)
  const seconds = (performance.now() - from) / 1000
  assert.ok(beats.length <= seconds + 1, `${beats.length} beats in ${seconds} s`)
  const minors = beats.reduce((sum, { minor }) => sum + minor, 0)
  assert.ok(minors > beats.length, `${minors} minor GCs`)
  assert.ok((log.pauses()['minor']?.count ?? 0) >= minors)
})

test('POST /gc answers with the heap before and after; a second one within the minute is told how long to wait', async t => {
  const { ask } = bothEnds(t)
  // Right before the look at the heap: earlier garbage may be collected earlier.
  const { runInNewContext } = vm
  t.mock.method(vm, 'runInNewContext', (code: string) => {
    Array.from({ length: 200_000 }, (_, i) => ({ i }))
    return runInNewContext(code) as unknown
  })
  const body = await ask('POST', '/gc')
  const { before, after } = body as { before: { used: number, rss: number }, after: { used: number } }
  assert.equal(body['freedBytes'], before.used - after.used)
  assert.ok(before.used - after.used > 5e6 && (body['pauseMs'] as number) > 0 && before.rss > before.used)
  await assert.rejects(ask('POST', '/gc'), ({ status, code, more }: Problem) => {
    const wait = more['retryAfterMs'] as number
    return status === 429 && code === 'ERR_LAMEDUCK_OPS_COOLDOWN' && wait > 50_000 && wait <= 60_000
  })
})

test('POST /gc to a main thread that does not answer fails within seconds, does not count, and is not made up for later', async t => {
  const { port1, port2 } = new MessageChannel()
  const endpointEnd = new Link(port2)
  const { routes } = gcPart({ main: endpointEnd } as Bench)
  const route = routes.find(({ method }) => method === 'POST')
  const ask = async () => route?.handler({ params: {}, note() {} } as unknown as Call)
  const from = performance.now()
  const blocked = ({ status, code }: Problem) => status === 503 && code === 'ERR_LAMEDUCK_OPS_BLOCKED'
  await assert.rejects(ask(), blocked)
  assert.ok(performance.now() - from < 10_000)
  // The same problem, and not 429.
  await assert.rejects(ask(), blocked)
  // It comes to what was asked of it meanwhile.
  const mainEnd = new Link(port1)
  const stop = gcOutpost({ link: mainEnd } as Post)
  t.after(() => {
    stop()
    mainEnd.close()
    endpointEnd.close()
  })
  let forced = 0
  endpointEnd.on<GCBeat>('gc', ({ majors }) => (forced += majors.filter(major => major.forced).length))
  assert.ok(await ask())
  await until(() => forced > 0)
  assert.equal(forced, 1)
})

test('POST /gc may take longer than a main thread may need to begin', async t => {
  const { ask, mainEnd } = bothEnds(t, false)
  const sizes = { used: 1, total: 1, limit: 1 }
  mainEnd.offer({ 'gc.collect': async () => (await sleep(2_500), { at: 0, pauseMs: 2_500, before: sizes, after: sizes }) })
  assert.equal((await ask('POST', '/gc')).pauseMs, 2_500)
})

test('the leak watch hears one sample for each major GC, and one that throws keeps no other from it', async t => {
  const { log, endpointEnd } = bothEnds(t)
  const warnings: string[] = []
  const warn = ({ message }: Error) => void warnings.push(message)
  process.on('warning', warn)
  t.after(() => process.off('warning', warn))
  const samples: MajorSample[] = []
  log.onMajor(() => {
    throw new Error('of a watch')
  })
  const stop = gcLog(endpointEnd).onMajor(sample => samples.push(sample))
  const { after } = collect()
  await until(() => samples.some(({ forced }) => forced) && warnings.length > 0)
  stop()
  const sample = samples.find(({ forced }) => forced) as MajorSample
  assert.ok(Math.abs(sample.usedHeap / after.used - 1) < 0.3, `${sample.usedHeap} and ${after.used}`)
  assert.deepEqual([sample.limit, sample.rss > 0, sample.external > 0, sample.arrayBuffers > 0], [after.limit, true, true, true])
  const count = samples.length
  collect()
  const last = log.last
  await until(() => log.last > last)
  assert.equal(samples.length, count)
})

/** A listener with nothing but the stream. */
async function streaming(t: TestContext, heartbeatMs?: number) {
  const { port1, port2 } = new MessageChannel()
  const [mainEnd, endpointEnd] = [new Link(port1), new Link(port2)]
  const stop = gcOutpost({ link: mainEnd } as Post)
  const log = gcLog(endpointEnd)
  const streams = new GcStreams(log, heartbeatMs)
  const closing = new AbortController()
  let ended = 0
  const errors: unknown[] = []
  const server = http.createServer((req, res) => {
    res.on('error', error => errors.push(error))
    try {
      void streams.serve({ req, res, signal: closing.signal } as unknown as Call).then(() => ended++)
    } catch (error) {
      res.writeHead((error as Problem).status).end(JSON.stringify(error))
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    stop()
    streams.close()
    server.close()
    server.closeAllConnections()
    mainEnd.close()
    endpointEnd.close()
  })
  const { port } = server.address() as AddressInfo
  const open = async (headers: Record<string, string> = {}) => {
    const req = http.get({ port, host: '127.0.0.1', headers, agent: false })
    const res = await new Promise<http.IncomingMessage>((resolve, reject) => req.once('response', resolve).once('error', reject))
    const reader = { res, text: '', closed: false, ids: () => [...reader.text.matchAll(/^id: (.+)$/gm)].map(([, id]) => id as string) }
    res.setEncoding('utf8').on('data', (text: string) => (reader.text += text)).on('close', () => (reader.closed = true)).on('error', () => {})
    t.after(() => req.destroy())
    return reader
  }
  return { open, log, streams, closing, errors, ended: () => ended }
}

/** A major GC, with so much to tell. */
const major = (bytes: number): ToldMajor => ({
  kind: 'major', at: 0, pauseMs: 1, forced: false, exact: false, source: 'perf_hooks', spaces: { ['x'.repeat(bytes)]: 1 }, after: { used: 1, total: 1, limit: 1 },
})

async function collectOnce(log: { last: number }): Promise<void> {
  const { last } = log
  collect()
  await until(() => log.last > last)
}

test('the stream has one event for each major GC, and a reader that comes back gets what it missed', async t => {
  const { open, log } = await streaming(t)
  const first = await open()
  assert.equal(first.res.headers['content-type'], 'text/event-stream')
  await collectOnce(log)
  await until(() => first.ids().length === log.last)
  const [data] = [...first.text.matchAll(/^event: gc\ndata: (.+)$/gm)].map(([, json]) => JSON.parse(json as string) as Logged)
  assert.deepEqual([data?.kind, data?.id], ['major', 1])
  first.res.destroy()
  await collectOnce(log)
  await collectOnce(log)
  const back = await open({ 'Last-Event-ID': first.ids()[0] as string })
  await until(() => back.ids().length === log.last - 1)
  assert.equal(back.ids()[0], first.ids()[0]?.replace(/1$/, '2'))
  const stranger = await open({ 'Last-Event-ID': 'of-another-life' })
  await until(() => stranger.ids().length === log.last)
  const fresh = await open()
  await until(() => fresh.text !== '')
  assert.deepEqual(fresh.ids(), [])
})

test('a quiet stream has heartbeats, and ends whole when the endpoint closes', async t => {
  const { open, closing, ended } = await streaming(t, 20)
  const reader = await open()
  await until(() => reader.text.split(': still here').length > 3)
  closing.abort()
  await until(() => reader.closed && ended() === 1)
  assert.equal(reader.res.complete, true)
})

test('a GC right after the end of a stream writes nothing behind it', async t => {
  const { open, log, closing, errors, ended } = await streaming(t)
  const reader = await open()
  await until(() => reader.text !== '')
  // In one turn: the response has ended, and has not closed yet.
  closing.abort()
  const { last } = log
  log.hear({ source: { source: 'perf_hooks', why: 'x' }, pauses: {}, majors: [major(100)] })
  assert.equal(log.last, last + 1)
  await until(() => reader.closed && ended() === 1)
  assert.deepEqual([reader.res.complete, reader.ids(), errors], [true, [], []])
})

test('a ninth reader is refused, and a place is free again when one leaves', async t => {
  const { open, ended } = await streaming(t)
  const readers = []
  for (let i = 0; i < 8; i++) readers.push(await open())
  const ninth = await open()
  await until(() => ninth.closed)
  assert.equal(ninth.res.statusCode, 429)
  assert.match(ninth.text, /ERR_LAMEDUCK_OPS_STREAMS/)
  readers[0]?.res.destroy()
  await until(() => ended() === 1)
  assert.equal((await open()).res.statusCode, 200)
})

test('a reader that does not read is cut off; one beside it that does misses nothing', async t => {
  const { open, log, ended } = await streaming(t)
  const [slow, good] = [await open(), await open()]
  slow.res.pause()
  const beat = (bytes: number): GCBeat => ({
    source: { source: 'perf_hooks', why: 'x'.repeat(10) }, pauses: {}, majors: [major(bytes)],
  })
  // The sockets' own buffers take some MB first.
  for (let sent = 0; ended() === 0; sent++) {
    assert.ok(sent < 5_000, 'never cut off')
    log.hear(beat(40_000))
    await until(() => good.ids().length === log.last || good.closed)
  }
  assert.equal(good.closed, false)
  assert.equal(good.ids().length, log.last)
})

test('from a worker, GET /gc answers while the main thread is blocked', async t => {
  const { port1, port2 } = new MessageChannel()
  const link = new Link(port1)
  const stop = gcOutpost({ link } as Post)
  const program = new URL('fixtures/gc-endpoint.ts', import.meta.url).href
  const answered = new Int32Array(new SharedArrayBuffer(4))
  const worker = new Worker(`import('tsx/esm/api').then(({ tsImport }) => tsImport(${JSON.stringify(program)}, ${JSON.stringify(program)}))`,
    { eval: true, workerData: { port: port2, answered }, transferList: [port2] })
  t.after(async () => {
    stop()
    link.close()
    await worker.terminate()
  })
  const answers: { at: number, majors: number }[] = []
  worker.on('message', answer => answers.push(answer))
  worker.on('error', error => assert.fail(error))
  await until(() => answers.length > 0, undefined, 20_000)
  collect()
  await until(() => (answers.at(-1)?.majors ?? 0) > 0)
  const from = Date.now()
  // Until it has answered some times, and 400 ms at least.
  const already = Atomics.load(answered, 0)
  while (Date.now() < from + 400 || (Atomics.load(answered, 0) < already + 10 && Date.now() < from + 20_000));
  const to = Date.now()
  await until(() => (answers.at(-1)?.at ?? 0) > to)
  const meanwhile = answers.filter(({ at }) => at > from + 5 && at < to - 5)
  assert.ok(meanwhile.length >= 3, `${meanwhile.length} answers while main was blocked`)
  assert.ok(meanwhile.every(({ majors }) => majors > 0))
})
