import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import fs from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import { availableMemory, cgroupLeaves } from '../src/ops/heap/memory.ts'
import { headroom } from '../src/ops/heap/take.ts'
import { Child } from './_child.ts'

const root = await fs.mkdtemp(path.join(os.tmpdir(), 'lameduck-take-'))
after(() => fs.rm(root, { recursive: true, force: true }))

let worlds = 0

/** The files that a kernel would show. */
async function kernel(files: Record<string, string>): Promise<string> {
  const world = path.join(root, `kernel-${++worlds}`)
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(world, name)
    await fs.mkdir(path.dirname(file), { recursive: true })
    await fs.writeFile(file, content)
  }
  return world
}

const MB = 2 ** 20

test('in a container the limit less its usage is what is available, and pages of files count as free', async () => {
  const world = await kernel({
    'proc/self/cgroup': '0::/\n',
    'sys/fs/cgroup/memory.max': `${256 * MB}\n`,
    'sys/fs/cgroup/memory.current': `${200 * MB}\n`,
    'sys/fs/cgroup/memory.stat': `anon 1\ninactive_file ${10 * MB}\nactive_file 5\n`,
  })
  assert.equal(cgroupLeaves(world), 66 * MB)
})

test('the tightest of a cgroup and those above it counts', async () => {
  const world = await kernel({
    'proc/self/cgroup': '0::/pod/app\n',
    'sys/fs/cgroup/pod/app/memory.max': 'max\n',
    'sys/fs/cgroup/pod/app/memory.current': `${10 * MB}\n`,
    'sys/fs/cgroup/pod/memory.max': `${100 * MB}\n`,
    'sys/fs/cgroup/pod/memory.current': `${90 * MB}\n`,
  })
  assert.equal(cgroupLeaves(world), 10 * MB)
})

test('cgroup v1 is read, too, and its number for "no limit" is none', async () => {
  const at = 'sys/fs/cgroup/memory/docker/1'
  const world = await kernel({
    'proc/self/cgroup': '5:cpu:/docker/1\n4:memory:/docker/1\n',
    [`${at}/memory.limit_in_bytes`]: `${300 * MB}\n`,
    [`${at}/memory.usage_in_bytes`]: `${100 * MB}\n`,
    [`${at}/memory.stat`]: `cache 3\ntotal_inactive_file ${MB}\n`,
  })
  assert.equal(cgroupLeaves(world), 201 * MB)
  await fs.writeFile(path.join(world, at, 'memory.limit_in_bytes'), '9223372036854771712\n')
  assert.equal(cgroupLeaves(world), undefined)
})

test('without cgroups nothing is limited by them', async () => {
  assert.equal(cgroupLeaves(await kernel({ 'etc/none': '' })), undefined)
  assert.ok(availableMemory() > 0)
})

test('the headroom of a process that takes its first snapshot is ten used heaps on Node 20, nine from 22 on', () => {
  const { usedHeap, factor, need, available, fits } = headroom()
  assert.equal(factor, process.versions.node.startsWith('20.') ? 10 : 9)
  assert.equal(need, Math.ceil(factor * usedHeap))
  assert.equal(fits, need <= available)
})

interface Outcome {
  status?: number
  code?: string
  more?: Record<string, unknown>
  taken: { bytes: number; pauseMs: number }
  before: { factor: number }
  after: { factor: number }
  mode: string
}

async function take(args: string[], node: string[] = []): Promise<Outcome> {
  const child = new Child('ops-heap-take.ts', args, { node })
  const outcome = JSON.parse(await child.says(/^(\{.*\})$/m, 60_000)) as Outcome
  await child.exited
  return outcome
}

test('a snapshot is a file of our own, 0600, and the next one is judged by what this one needed', async () => {
  const { taken, mode, before, after } = await take([path.join(root, 'a.heapsnapshot'), '0'])
  assert.equal(mode, '600')
  assert.ok(taken.bytes > MB && taken.pauseMs > 0)
  assert.notEqual(after.factor, before.factor)
})

test('a file that is there already is not written over', async () => {
  const file = path.join(root, 'there')
  await fs.writeFile(file, 'mine')
  const { status, code } = await take([file])
  assert.deepEqual([status, code], [507, 'ERR_LAMEDUCK_OPS_FOLDER'])
  assert.equal(await fs.readFile(file, 'utf8'), 'mine')
})

test('a heap at its limit is refused with the figures and what to do instead, unless forced', async () => {
  const file = path.join(root, 'limit')
  const { status, code, more } = await take([file, '0.91'], ['--max-old-space-size=100', '--max-semi-space-size=1'])
  assert.deepEqual([status, code, more?.instead], [507, 'ERR_LAMEDUCK_OPS_HEAP_LIMIT', 'POST /heap/profile'])
  assert.ok((more?.usedHeap as number) > 0.9 * (more?.heapLimit as number))
  await assert.rejects(fs.stat(file))
})

/** A program as a bundler writes it: one file, and many functions of which each is alive. */
const bundle = (functions: number) => `globalThis.all = [${Array.from({ length: functions }, (_, at) =>
  `function f${at}(a) {\n  const inner${at} = () => a + ${at}\n  return { inner${at}, name: 'f${at}' }\n}`).join(',\n')}];
for (const one of all) one(1)
`

const is20 = process.versions.node.startsWith('20.')

// Its cost grows with the square of the file: seconds against a quarter of an hour for a large application, twice as much here.
test('a program that is bundled into one large file is taken in a fraction of the time that V8 needs by itself', { skip: !is20 && 'only Node 20 has that weakness' }, async () => {
  const [file, program] = [path.join(root, 'bundle.js'), path.join(root, 'take.mts')]
  await fs.writeFile(file, bundle(7_000))
  await fs.writeFile(program, `
    import { readFileSync } from 'node:fs'
    import v8 from 'node:v8'
    import vm from 'node:vm'
    import { takeSnapshot } from ${JSON.stringify(new URL('../src/ops/heap/take.ts', import.meta.url).href)}
    const [, , bundle, out] = process.argv
    vm.runInThisContext(readFileSync(bundle, 'utf8'), { filename: bundle })
    // CPU time: what else the machine does, and its disk, are in no one's favour.
    const cpuMs = since => process.cpuUsage(since).user / 1_000
    const began = process.cpuUsage()
    v8.writeHeapSnapshot(out + '.plain')
    const plainMs = cpuMs(began)
    const again = process.cpuUsage()
    await takeSnapshot(out, { force: true })
    console.log(JSON.stringify({ plainMs, oursMs: cpuMs(again) }))`)
  const args = ['--import', 'tsx', program, file, path.join(root, 'bundle.heapsnapshot')]
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 120_000 })
  const { plainMs, oursMs } = JSON.parse(stdout) as { plainMs: number; oursMs: number }
  assert.ok(oursMs < 0.8 * plainMs, `${oursMs} ms, and ${plainMs} ms without`)
})
