import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { collect, onGC, snapshotAfterGC, type GC, type MajorGC } from '../src/ops/gc/index.ts'
import { churn, until } from './_gc.ts'

const folder = mkdtempSync(path.join(tmpdir(), 'lameduck-gc-'))
after(() => rmSync(folder, { recursive: true, force: true }))
let folders = 0
const fresh = () => path.join(folder, String(++folders))

test('a snapshot is written right after the next major GC: whole, private, under a name of ours', async () => {
  const dir = fresh()
  const heard: GC[] = []
  const stop = onGC(gc => heard.push(gc))
  const { done } = snapshotAfterGC({ dir, force: true })
  collect()
  await until(() => heard.some(gc => gc.forced))
  assert.deepEqual(readdirSync(dir), [], 'not after a GC of ours')
  let taken: unknown
  void done.then(all => (taken = all))
  await churn(() => taken !== undefined)
  stop()
  const [one, ...more] = await done
  assert.deepEqual(more, [])
  assert.ok(one)
  assert.deepEqual(readdirSync(dir), [path.basename(one.path)])
  assert.match(path.basename(one.path), new RegExp(`^heap-\\d{8}T\\d{9}Z-${process.pid}-\\d+\\.heapsnapshot$`))
  assert.equal(statSync(dir).mode & 0o777, 0o700)
  assert.equal(statSync(one.path).mode & 0o777, 0o600)
  const { nodes, strings } = JSON.parse(readFileSync(one.path, 'utf8')) as { nodes: number[], strings: string[] }
  assert.ok(nodes.length > 1_000 && strings.length > 1_000)
})

test('a condition is asked about natural major GCs only, and decides; the GCs of the snapshot itself are told as forced', async () => {
  const dir = fresh()
  const [asked, heard]: [MajorGC[], MajorGC[]] = [[], []]
  const stop = onGC(gc => void (gc.kind === 'major' && heard.push(gc)))
  let taken: unknown
  const standing = snapshotAfterGC({ dir, force: true, when: gc => asked.push(gc) === 2 })
  void standing.done.then(all => (taken = all))
  await churn(() => taken !== undefined)
  await until(() => heard.some(gc => gc.forced))
  stop()
  assert.equal(asked.length, 2)
  assert.ok(asked.every(gc => gc.kind === 'major' && !gc.forced && gc.after.used > 0))
  assert.equal(readdirSync(dir).length, 1)
})

test('of several, the next is not taken before the cooldown is over, and stop() ends it with what there is', async () => {
  const dir = fresh()
  let majors = 0
  const standing = snapshotAfterGC({ dir, force: true, count: 3, cooldownMs: 600_000 })
  const stop = onGC(gc => void (gc.kind === 'major' && !gc.forced && readdirSync(dir).length > 0 && majors++))
  await churn(() => majors >= 3)
  stop()
  standing.stop()
  assert.equal((await standing.done).length, 1)
  assert.equal(readdirSync(dir).length, 1)
})

test('stopped before any GC, it has taken nothing', async () => {
  const dir = fresh()
  const standing = snapshotAfterGC({ dir })
  standing.stop()
  standing.stop()
  assert.deepEqual(await standing.done, [])
  assert.deepEqual(readdirSync(dir), [])
})

test('a condition that throws, or a snapshot that fails, rejects; who does not wait gets a warning and keeps the process', async () => {
  const warnings: string[] = []
  const warn = ({ message }: Error) => void warnings.push(message)
  process.on('warning', warn)
  const dir = fresh()
  const bad = snapshotAfterGC({ dir, when: () => { throw new Error('no such condition') } })
  const gone = fresh()
  const failing = snapshotAfterGC({ dir: gone, force: true })
  rmSync(gone, { recursive: true })
  let over = 0
  const count = () => void over++
  bad.done.catch(count)
  failing.done.catch(count)
  await churn(() => over === 2)
  await assert.rejects(bad.done, /no such condition/)
  await assert.rejects(failing.done)
  await until(() => warnings.length >= 2)
  process.off('warning', warn)
  assert.ok(warnings.includes('no such condition'))
  assert.equal(existsSync(gone), false)
})

test('a folder that others may write to, a link in its place, and options out of range are refused at once', () => {
  const refused = (options: object, message: RegExp) => assert.throws(() => snapshotAfterGC(options as never),
    (error: Error & { code?: string }) => error.code === 'ERR_LAMEDUCK_OPTION' && message.test(error.message))
  const open = fresh()
  snapshotAfterGC({ dir: open }).stop()
  chmodSync(open, 0o777)
  refused({ dir: open }, /options\.dir.*not writable for others/)
  const link = fresh()
  symlinkSync(folder, link)
  refused({ dir: link }, /options\.dir.*no link/)
  refused({}, /options\.dir/)
  refused({ dir: fresh(), when: 'now' }, /options\.when/)
  refused({ dir: fresh(), count: 0 }, /options\.count/)
  refused({ dir: fresh(), count: 1.5 }, /options\.count/)
  refused({ dir: fresh(), cooldownMs: -1 }, /options\.cooldownMs/)
  refused({ dir: fresh(), every: 1 }, /options\.every/)
})
