import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'tsup'

/** lameduck/gc as it is installed, in a folder from which no gc-stats is in sight; applications beside it. */
const folder = mkdtempSync(path.join(tmpdir(), 'lameduck-gc-source-'))
const library = path.join(folder, 'library')
after(() => rmSync(folder, { recursive: true, force: true }))
before(async () => {
  const entry = { gc: fileURLToPath(new URL('../src/ops/gc/index.ts', import.meta.url)) }
  await build({ entry, outDir: library, config: false, format: ['esm', 'cjs'], target: 'node20', shims: true, silent: true,
    outExtension: ({ format }) => ({ js: format === 'esm' ? '.mjs' : '.cjs' }) })
})

/** Tells one GC of each kind when it is listened to; sizes that nothing else would say. */
const STAND_IN = `
  const emitter = new (require('node:events'))()
  emitter.on('newListener', (event, listener) => event === 'stats' && setImmediate(() => {
    const end = Number(process.hrtime.bigint())
    const heap = used => ({ usedHeapSize: used, totalHeapSize: 2000, heapSizeLimit: 3000 })
    for (const gctype of [1, 4, 8, 16]) listener({ startTime: end - 1500000, endTime: end, pauseMS: 2, gctype, before: heap(1234), after: heap(999) })
  }))
  module.exports = () => emitter`

const PROGRAM = `
  const heard = []
  onGC(gc => heard.push(gc), JSON.parse(process.env.OPTIONS ?? '{}'))
  // The stand-in tells in a setImmediate: this one is behind it, also when the 50 ms were over before the loop began.
  setTimeout(() => setImmediate(() => console.log(JSON.stringify({ ...gcSource(), heard, now: Date.now() }))), 50)`

interface Told {
  source: string
  why: string
  now: number
  heard: { kind: string, pauseMs: number, exact: boolean, at: number, before?: { used: number }, after?: { used: number, rss?: number } }[]
}

let apps = 0

/** Makes an application, with this text as its gc-stats or with none, and runs it with plain Node. */
async function run({ format = 'mjs', stats, cwd, worker = false }: { format?: 'mjs' | 'cjs', stats?: string, cwd?: string, worker?: boolean }) {
  const app = path.join(folder, `app-${++apps}`)
  mkdirSync(path.join(app, 'node_modules', 'gc-stats'), { recursive: true })
  if (stats !== undefined) writeFileSync(path.join(app, 'node_modules', 'gc-stats', 'index.js'), stats)
  const head = format === 'mjs'
    ? `import { gcSource, onGC } from ${JSON.stringify(path.join(library, 'gc.mjs'))}`
    : `const { gcSource, onGC } = require(${JSON.stringify(path.join(library, 'gc.cjs'))})`
  const main = path.join(app, `main.${format}`)
  writeFileSync(main, head + PROGRAM)
  const args = worker ? ['-e', `new (require('node:worker_threads').Worker)(${JSON.stringify(main)})`] : [main]
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: cwd ?? folder, env: { ...process.env, NODE_OPTIONS: '' } })
  return { app, told: JSON.parse(stdout) as Told }
}

for (const format of ['mjs', 'cjs'] as const) {
  test(`an application (${format}) that has gc-stats gets it, though lameduck is installed elsewhere: exact sizes of every kind`, async () => {
    const { app, told } = await run({ format, stats: STAND_IN })
    assert.equal(told.source, 'gc-stats')
    assert.ok(told.why.includes(app), told.why)
    assert.deepEqual(told.heard.map(({ kind }) => kind), ['minor', 'major', 'incremental', 'weakcb'])
    for (const gc of told.heard) {
      assert.deepEqual([gc.pauseMs, gc.exact, gc.before?.used, gc.after?.used], [1.5, true, 1234, 999])
      assert.ok(Math.abs(gc.at - told.now) < 5_000)
    }
    assert.deepEqual(told.heard.map(({ after }) => after?.rss !== undefined), [false, true, false, false])
  })

  test(`an application (${format}) without gc-stats gets perf_hooks, and is told why`, async () => {
    const { told } = await run({ format })
    assert.deepEqual([told.source, told.why], ['perf_hooks', 'gc-stats is not installed'])
  })
}

test('gc-stats in the working directory is left alone: others may be able to write there', async () => {
  const { app } = await run({ stats: STAND_IN })
  const { told } = await run({ cwd: app })
  assert.equal(told.source, 'perf_hooks')
  assert.ok(!told.why.includes(app), told.why)
})

for (const [what, stats] of Object.entries({
  'does not load': 'throw new Error("was compiled against\\n a different Node.js")',
  'is something else': 'module.exports = { afterGC() {} }',
})) {
  test(`a gc-stats that ${what} does no harm: perf_hooks takes its place, and the reason is told in one line`, async () => {
    const { told } = await run({ stats })
    assert.equal(told.source, 'perf_hooks')
    assert.match(told.why, what === 'does not load' ? /^gc-stats does not load: was compiled against a different Node\.js$/ : /^gc-stats does not load: .+$/)
  })
}

test('in a worker gc-stats is left alone: it would end the process', async () => {
  const { told } = await run({ stats: STAND_IN, worker: true })
  assert.deepEqual([told.source, told.why], ['perf_hooks', 'gc-stats works on the main thread only'])
})
