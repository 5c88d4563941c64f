import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { PerformanceObserver } from 'node:perf_hooks'
import { test } from 'node:test'
import v8 from 'node:v8'
import vm from 'node:vm'
import { forcing } from '../src/ops/gc/forced.ts'
import { afterMajorGC, collect, gcSource, onGC, type GC, type GCSource, type MajorGC } from '../src/ops/gc/index.ts'
import { loadGcStats } from '../src/ops/gc/gc-stats.ts'
import { Child } from './_child.ts'
import { churn, litter, until } from './_gc.ts'

const here = process.versions.node.startsWith('20.')
const addon = here ? false : 'gc-stats is compiled for Node 20 here'

const isMajor = (gc: GC): gc is MajorGC => gc.kind === 'major'

async function tellsAll(source: GCSource) {
  const heard: GC[] = []
  const stop = onGC(gc => heard.push(gc), { source })
  try {
    const from = Date.now() - 1
    await litter(() => heard.some(gc => gc.kind === 'minor'))
    await churn(() => heard.some(gc => isMajor(gc) && !gc.forced))
    for (const gc of heard) {
      assert.equal(gc.source, source)
      assert.ok(gc.pauseMs > 0 && gc.pauseMs < 10_000, `pause ${gc.pauseMs}`)
      assert.ok(gc.at >= from && gc.at <= Date.now() + 1, `at ${gc.at}`)
      assert.equal(gc.forced, false)
    }
    const { after } = heard.find(isMajor) as MajorGC
    assert.ok(after.used > 1e6 && after.used <= after.total && after.total < after.limit, JSON.stringify(after))
    assert.ok((after.rss ?? 0) > 1e7 && (after.external ?? 0) > 0 && (after.arrayBuffers ?? -1) >= 0)
    return heard
  } finally {
    stop()
  }
}

test('with perf_hooks, a listener hears of minor and major GCs: pause, time, and what a major one left', async () => {
  const heard = await tellsAll('perf_hooks')
  assert.ok(heard.filter(gc => gc.kind === 'minor').every(gc => gc.after === undefined && !gc.exact))
})

test('with gc-stats, a listener hears of minor and major GCs with exact sizes before and after', { skip: addon }, async () => {
  const heard = await tellsAll('gc-stats')
  assert.ok(heard.every(gc => gc.exact && gc.before && gc.after))
  const minor = heard.find(gc => gc.kind === 'minor')
  assert.ok((minor?.before?.used ?? 0) > (minor?.after?.used ?? Infinity), 'a minor GC freed something')
})

test('gc-stats and perf_hooks tell of the same major GCs: same time, same pause, nearly the same size', { skip: addon }, async () => {
  const [stats, hooks]: [MajorGC[], MajorGC[]] = [[], []]
  const stops = [
    onGC(gc => void (isMajor(gc) && stats.push(gc)), { source: 'gc-stats' }),
    onGC(gc => void (isMajor(gc) && hooks.push(gc)), { source: 'perf_hooks' }),
  ]
  collect()
  await churn(() => stats.length > 1)
  await until(() => hooks.length >= stats.length)
  for (const stop of stops) stop()
  for (const [index, one] of stats.entries()) {
    const other = hooks[index] as MajorGC
    assert.ok(Math.abs(one.at - other.at) < 50, `ended ${one.at} and ${other.at}`)
    assert.ok(Math.abs(one.pauseMs - other.pauseMs) < 50, `paused ${one.pauseMs} and ${other.pauseMs}`)
    assert.equal(one.forced, other.forced)
    assert.ok(Math.abs(one.after.used / other.after.used - 1) < 0.35, `left ${one.after.used} and ${other.after.used}`)
  }
})

test('without the profiler, what a major GC left is read late and yet nearly right; with it, exactly', async () => {
  const [late, exact]: [MajorGC[], MajorGC[]] = [[], []]
  const ours = (gc: GC) => isMajor(gc) && gc.forced
  const stops = [
    onGC(gc => void (ours(gc) && late.push(gc as MajorGC)), { source: 'perf_hooks' }),
    onGC(gc => void (ours(gc) && exact.push(gc as MajorGC)), { source: 'perf_hooks', exact: true }),
  ]
  for (let round = 1; round <= 3; round++) {
    const kept = Array.from({ length: 100_000 }, (_, i) => ({ i }))
    collect()
    await until(() => late.length >= round && exact.length >= round, () => JSON.stringify({ round, late, exact }))
    assert.equal(kept.length, 100_000)
  }
  for (const stop of stops) stop()
  for (const { after, before, exact: exactly, at } of exact) {
    const other = late.find(gc => gc.at === at)
    assert.ok(exactly && other && !other.exact)
    assert.ok(before && before.used >= after.used, 'it does not make the heap larger')
    const ratio = other.after.used / after.used
    assert.ok(ratio > 0.9 && ratio < 1.25, `late ${other.after.used}, exact ${after.used}`)
  }
})

test('a collection of ours is told as forced, frees what is garbage, and leaves no gc() behind', async () => {
  const sources: GCSource[] = addon ? ['perf_hooks'] : ['perf_hooks', 'gc-stats']
  const heard: MajorGC[] = []
  const stops = sources.map(source => onGC(gc => void (isMajor(gc) && heard.push(gc)), { source }))
  let garbage: unknown = Array.from({ length: 300_000 }, (_, i) => ({ i, more: [i] }))
  assert.ok(garbage)
  garbage = undefined
  const { before, after, pauseMs, at } = collect()
  // V8 may have had reason of its own for another one, before. Ours ended within what collect() measured, however late that saw it.
  const ours = () => heard.filter(gc => gc.at > at - pauseMs - 1 && gc.at < at + 1)
  await until(() => ours().length >= sources.length)
  for (const stop of stops) stop()
  assert.ok(before.used - after.used > 10e6, `${before.used} to ${after.used}`)
  assert.ok(pauseMs > 0)
  assert.deepEqual(ours().map(gc => gc.source).sort(), [...sources].sort())
  assert.ok(ours().every(gc => gc.forced))
  assert.equal(typeof globalThis.gc, 'undefined')
  assert.equal(vm.runInNewContext('typeof gc'), 'undefined')
})

test('the GCs that V8 runs for a snapshot of ours are told as forced', async () => {
  const sources: GCSource[] = addon ? ['perf_hooks'] : ['perf_hooks', 'gc-stats']
  const heard: MajorGC[] = []
  const stops = sources.map(source => onGC(gc => void (isMajor(gc) && heard.push(gc)), { source }))
  const from = Date.now()
  const to = await forcing(async () => {
    v8.getHeapSnapshot().destroy()
    return Date.now()
  })
  const within = () => heard.filter(gc => gc.at > from && gc.at < to)
  await until(() => sources.every(source => within().filter(gc => gc.source === source).length >= 2))
  for (const stop of stops) stop()
  assert.ok(within().every(gc => gc.forced), JSON.stringify(heard))
})

test('afterMajorGC waits for a GC of V8\'s own, not for one of ours', async () => {
  let resolved: MajorGC | undefined
  const promise = afterMajorGC().then(gc => (resolved = gc))
  const heard: GC[] = []
  const stop = onGC(gc => heard.push(gc))
  collect()
  await until(() => heard.some(gc => isMajor(gc) && gc.forced))
  assert.equal(resolved, undefined)
  await churn(() => resolved !== undefined)
  stop()
  assert.equal((await promise).forced, false)
})

test('a wait for a major GC ends with its signal, and leaves nothing listening', async () => {
  const counted = countObservers()
  const reason = new Error('enough')
  const controller = new AbortController()
  const promise = afterMajorGC({ signal: controller.signal, source: 'perf_hooks' })
  assert.equal(counted.running(), 1)
  controller.abort(reason)
  await assert.rejects(promise, reason)
  assert.equal(counted.running(), 0)
  await assert.rejects(afterMajorGC({ signal: controller.signal }), reason)
  counted.restore()
})

/** How many PerformanceObservers and GCProfilers run. */
function countObservers() {
  const { observe, disconnect } = PerformanceObserver.prototype
  const { GCProfiler } = v8
  let [observers, profilers] = [0, 0]
  PerformanceObserver.prototype.observe = function (...args: Parameters<typeof observe>) {
    observers++
    return observe.apply(this, args)
  }
  PerformanceObserver.prototype.disconnect = function () {
    observers--
    return disconnect.call(this)
  }
  v8.GCProfiler = class extends GCProfiler {
    override start() {
      profilers++
      return super.start()
    }
    override stop() {
      profilers--
      return super.stop()
    }
  }
  const restore = () => {
    Object.assign(PerformanceObserver.prototype, { observe, disconnect })
    v8.GCProfiler = GCProfiler
  }
  return { running: () => observers, profiling: () => profilers, restore }
}

test('nothing runs before the first listener nor after the last, and listeners share one observer', () => {
  const counted = countObservers()
  assert.equal(counted.running(), 0)
  const first = onGC(() => {}, { source: 'perf_hooks' })
  const second = onGC(() => {}, { source: 'perf_hooks' })
  assert.deepEqual([counted.running(), counted.profiling()], [1, 0])
  const exact = onGC(() => {}, { source: 'perf_hooks', exact: true })
  assert.deepEqual([counted.running(), counted.profiling()], [2, 1])
  first()
  first()
  assert.equal(counted.running(), 2)
  second()
  exact()
  assert.deepEqual([counted.running(), counted.profiling()], [0, 0])
  counted.restore()
})

test('a GC from before a listener was added is not told to it, though its event comes later', async () => {
  const [early, late]: [GC[], GC[]] = [[], []]
  const options = { source: 'perf_hooks' } as const
  const stops = [onGC(gc => early.push(gc), options)]
  collect()
  stops.push(onGC(gc => late.push(gc), options))
  await until(() => early.some(isMajor))
  assert.deepEqual(late.filter(isMajor), [])
  for (const stop of stops) stop()
})

test('a listener that throws or rejects becomes one warning, and the others hear all the same', async () => {
  const warnings: Error[] = []
  const warn = (warning: Error) => void warnings.push(warning)
  process.on('warning', warn)
  let heard = 0
  const stops = [
    onGC(() => {
      throw new Error('thrown by a listener')
    }),
    onGC(() => Promise.reject(new Error('rejected by a listener'))),
    onGC(gc => void (isMajor(gc) && heard++)),
  ]
  for (let round = 1; round <= 3; round++) {
    collect()
    await until(() => heard >= round)
  }
  for (const stop of stops) stop()
  await until(() => warnings.length >= 2)
  process.off('warning', warn)
  assert.deepEqual(warnings.map(({ message }) => message).sort(), ['rejected by a listener', 'thrown by a listener'])
})

test('options out of range are refused at once, and so is gc-stats where it does not load, with the reason', () => {
  const refused = (run: () => unknown, message: RegExp) =>
    assert.throws(run, (error: Error & { code?: string }) => error.code === 'ERR_LAMEDUCK_OPTION' && message.test(error.message))
  refused(() => onGC(undefined as never), /listener/)
  refused(() => onGC(() => {}, { source: 'v8' as never }), /options\.source.*auto, gc-stats, perf_hooks/)
  refused(() => onGC(() => {}, { exact: 1 as never }), /options\.exact/)
  refused(() => onGC(() => {}, { sources: 'auto' } as never), /options\.sources/)
  if (here) assert.match(loadGcStats().why, /^gc-stats from .*gc-stats/)
  else refused(() => onGC(() => {}, { source: 'gc-stats' }), /does not load: .*NODE_MODULE_VERSION/)
})

test('the source in use can be asked for: an addon that does not load is named with its fault, and perf_hooks takes its place', () => {
  onGC(() => {})()
  const { source, why } = gcSource()
  if (here) assert.deepEqual([source, why.startsWith('gc-stats from ')], ['gc-stats', true])
  else assert.deepEqual([source, /NODE_MODULE_VERSION/.test(why)], ['perf_hooks', true])
  onGC(() => {}, { source: 'perf_hooks' })()
  assert.deepEqual(gcSource(), { source: 'perf_hooks', why: 'perf_hooks was asked for' })
})

for (const source of ['auto', 'perf_hooks', 'exact'] as const) {
  test(`a process with a listener (${source}) ends by itself; the addon is loaded with the first listener and not before`, async () => {
    const child = new Child('gc-idle.ts', [source])
    const { code, signal } = await child.exited
    assert.deepEqual([code, signal], [0, null], child.stderr)
    const { before, during, heard } = JSON.parse(child.stdout) as { before: boolean, during: boolean, heard: number }
    assert.equal(before, false)
    assert.equal(during, source === 'auto')
    assert.ok(heard > 0)
  })
}

test('with gc-stats, a process that ends by itself runs all its exit listeners, says all it had to say, and keeps its exit code', { skip: addon }, () => {
  const program = `
    import { onGC } from ${JSON.stringify(new URL('../src/ops/gc/index.ts', import.meta.url).href)}
    process.on('exit', () => console.log('first'))
    const stop = onGC(() => {}, { source: 'gc-stats' })
    process.once('beforeExit', () => setImmediate(() => console.log('x'.repeat(1e6))))
    process.on('exit', () => console.log('last'))
    process.exitCode = 7
    stop()
  `
  const { status, signal, stdout } = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], { encoding: 'utf8', maxBuffer: 1e7 })
  assert.deepEqual([status, signal], [7, null])
  assert.deepEqual(stdout.trim().split('\n').map(line => line.slice(0, 5)), ['xxxxx', 'first', 'last'])
  assert.ok(stdout.length > 1e6)
})

test('with gc-stats, what is not caught is said all the same', { skip: addon }, () => {
  const program = `
    import { onGC } from ${JSON.stringify(new URL('../src/ops/gc/index.ts', import.meta.url).href)}
    onGC(() => {}, { source: 'gc-stats' })()
    process.on('beforeExit', async () => { throw new Error('nobody caught this') })
  `
  const { status, stderr } = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], { encoding: 'utf8' })
  assert.equal(status, 1)
  assert.match(stderr, /Error: nobody caught this/)
})
