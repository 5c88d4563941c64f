import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { openArtifacts, type About, type Artifacts } from '../src/ops/heap/artifacts.ts'
import { DEFAULTS } from '../src/ops/options.ts'

const root = await fs.mkdtemp(path.join(os.tmpdir(), 'lameduck-artifacts-'))
const opened: Artifacts[] = []
let folders = 0

after(async () => {
  for (const artifacts of opened) await artifacts.close()
  if (small !== undefined) execFileSync('umount', [small])
  await fs.rm(root, { recursive: true, force: true })
})

const fresh = () => path.join(root, `files-${++folders}`)

async function start(dir: string, limits: Partial<typeof DEFAULTS.files> | Record<string, number> = {}): Promise<Artifacts> {
  const artifacts = await openArtifacts({ ...DEFAULTS.files, freeBytes: 0, ...limits, dir })
  opened.push(artifacts)
  return artifacts
}

const ABOUT: About = { kind: 'heap-snapshot', by: 'ann', secret: false, type: 'application/json', encoding: 'identity', extension: 'heapsnapshot' }

async function put(artifacts: Artifacts, content: string | Buffer = 'content', about = ABOUT) {
  const draft = await artifacts.create(about)
  draft.stream.write(content)
  return draft.finish()
}

const mode = async (file: string) => ((await fs.lstat(file)).mode & 0o777).toString(8)

test('the folder is 0700, a file in it 0600, with a name that cannot be guessed and its SHA-256', async () => {
  const dir = fresh()
  const artifacts = await start(dir)
  const artifact = await put(artifacts)
  assert.equal(await mode(dir), '700')
  const { path: file } = await artifacts.get(artifact.name) ?? assert.fail()
  assert.equal(await mode(file), '600')
  assert.match(artifact.name, /^heap-snapshot-\d{8}T\d{6}-[\w-]{22}\.heapsnapshot$/)
  assert.equal(artifact.sha256, createHash('sha256').update('content').digest('hex'))
  assert.equal(artifact.bytes, 7)
  assert.equal(await fs.readFile(file, 'utf8'), 'content')
})

test('a deleted file is gone from the list and from the disk', async () => {
  const dir = fresh()
  const artifacts = await start(dir)
  const { name } = await put(artifacts)
  assert.equal(await artifacts.delete(name), true)
  assert.equal(await artifacts.delete(name), false)
  assert.deepEqual(await artifacts.list(), [])
  assert.deepEqual(await fs.readdir(dir), [])
})

test('files are found again by the next process, what a crashed one left half done is removed', async () => {
  const dir = fresh()
  const before = await put(await start(dir))
  const dead = execFileSync(process.execPath, ['-p', 'process.pid']).toString().trim()
  await fs.writeFile(path.join(dir, `.scratch-${dead}-x.heapsnapshot`), 'raw strings')
  await fs.writeFile(path.join(dir, `.draft-${dead}-x`), 'half')
  await fs.writeFile(path.join(dir, 'notes.txt'), 'not ours')
  const again = await start(dir)
  assert.deepEqual(await again.list(), [before])
  assert.deepEqual((await fs.readdir(dir)).sort(), [before.name, `${before.name}.json`, 'notes.txt'].sort())
})

test('raw material is removed when the endpoint ends', async () => {
  const dir = fresh()
  const artifacts = await start(dir)
  await fs.writeFile(await artifacts.scratch('heapsnapshot'), 'raw')
  const draft = await artifacts.create(ABOUT)
  draft.stream.write('half')
  await artifacts.close()
  assert.deepEqual(await fs.readdir(dir), [])
})

test('a folder that is a symbolic link, or open to others, or no folder is refused at the start', async () => {
  const [real, link, open, file] = [fresh(), fresh(), fresh(), fresh()]
  await fs.mkdir(real, { mode: 0o700 })
  await fs.symlink(real, link)
  await fs.mkdir(open)
  await fs.chmod(open, 0o755)
  await fs.writeFile(file, '')
  for (const [dir, says] of [[link, /symbolic link/], [open, /open to others \(mode 755/], [file, /no folder/], [path.join(file, 'x'), /ENOTDIR/]] as const) {
    await assert.rejects(start(dir), (error: Error & { code?: string }) => error.code === 'ERR_LAMEDUCK_OPTION' && says.test(error.message))
  }
})

test('a folder that cannot be written is refused at the start', { skip: process.getuid?.() === 0 && !(await isReadOnly('/proc')) ? 'root may write everywhere here' : false }, async () => {
  await assert.rejects(start('/proc/lameduck'), { code: 'ERR_LAMEDUCK_OPTION' })
})

async function isReadOnly(folder: string): Promise<boolean> {
  return fs.mkdir(path.join(folder, 'lameduck-probe')).then(() => false, () => true)
}

test('a folder that was exchanged for a symbolic link later answers 507, and what it leads to stays untouched', async () => {
  const [dir, elsewhere] = [fresh(), fresh()]
  const artifacts = await start(dir)
  await fs.mkdir(elsewhere, { mode: 0o700 })
  await fs.rm(dir, { recursive: true })
  await fs.symlink(elsewhere, dir)
  await assert.rejects(artifacts.create(ABOUT), { status: 507, code: 'ERR_LAMEDUCK_OPS_FOLDER' })
  await assert.rejects(artifacts.scratch('x'), { status: 507, code: 'ERR_LAMEDUCK_OPS_FOLDER' })
  assert.deepEqual(await fs.readdir(elsewhere), [])
})

test('a folder that was cleaned away is made again', async () => {
  const dir = fresh()
  const artifacts = await start(dir)
  await fs.rm(dir, { recursive: true })
  assert.equal((await put(artifacts)).bytes, 7)
  assert.equal(await mode(dir), '700')
})

test('a symbolic link that was planted in place of a file is not followed', async () => {
  const dir = fresh()
  const artifacts = await start(dir)
  const { name } = await put(artifacts)
  const target = path.join(root, 'target')
  await fs.writeFile(target, 'secret!')
  await fs.rm(path.join(dir, name))
  await fs.symlink(target, path.join(dir, name))
  assert.equal(await artifacts.open(name), undefined)
  await artifacts.delete(name)
  assert.equal(await fs.readFile(target, 'utf8'), 'secret!')
})

test('a symbolic link with the name of a file to come is not written through', async () => {
  const dir = fresh()
  const artifacts = await start(dir)
  const target = path.join(root, 'target-of-scratch')
  await fs.writeFile(target, '')
  const { takeSnapshot } = await import('../src/ops/heap/take.ts')
  const scratch = await artifacts.scratch('heapsnapshot')
  await fs.symlink(target, scratch)
  await assert.rejects(takeSnapshot(scratch, { force: true }), { status: 507, code: 'ERR_LAMEDUCK_OPS_FOLDER' })
  assert.equal(await fs.readFile(target, 'utf8'), '')
})

test('names that are paths lead to no file', async () => {
  const artifacts = await start(fresh())
  const { name } = await put(artifacts)
  for (const tricky of [`./${name}`, `../${name}`, `${name}.json`, '..', '', '/etc/passwd', `${name}\0`]) {
    assert.equal(await artifacts.open(tricky), undefined, tricky)
    assert.equal(await artifacts.delete(tricky), false, tricky)
  }
})

test('more files than allowed answer 507, and the older ones stay', async () => {
  const artifacts = await start(fresh(), { count: 2 })
  const kept = [await put(artifacts), await put(artifacts)]
  await assert.rejects(artifacts.create(ABOUT), { status: 507, code: 'ERR_LAMEDUCK_OPS_FULL' })
  assert.deepEqual((await artifacts.list()).map(({ name }) => name).sort(), kept.map(({ name }) => name).sort())
})

test('more bytes than allowed answer 507 and leave no half file', async () => {
  const dir = fresh()
  const artifacts = await start(dir, { bytes: 100 })
  await put(artifacts, Buffer.alloc(90))
  await assert.rejects(put(artifacts, Buffer.alloc(20)), { status: 507, code: 'ERR_LAMEDUCK_OPS_FULL' })
  assert.equal((await fs.readdir(dir)).length, 2)
  await put(artifacts, Buffer.alloc(10))
})

test('a file of many megabytes stops at the limit while it is written', async () => {
  const dir = fresh()
  const artifacts = await start(dir, { bytes: 20 * 2 ** 20 })
  const draft = await artifacts.create(ABOUT)
  const piece = Buffer.alloc(2 ** 20)
  const failed = new Promise<Error>(resolve => draft.stream.once('error', resolve))
  let written = 0
  for (; written < 64 && !draft.stream.destroyed; written++) await new Promise(resolve => draft.stream.write(piece, resolve))
  assert.equal((await failed as Error & { code: string }).code, 'ERR_LAMEDUCK_OPS_FULL')
  assert.ok(written < 40, `${written} MB`)
  await assert.rejects(draft.finish(), { code: 'ERR_LAMEDUCK_OPS_FULL' })
  assert.deepEqual(await fs.readdir(dir), [])
})

test('a disk with less left than must stay free answers 507 with the figures', async () => {
  const artifacts = await start(fresh(), { freeBytes: Number.MAX_SAFE_INTEGER })
  await assert.rejects(artifacts.create(ABOUT), (error: Error & { status: number; code: string; more: Record<string, number> }) =>
    error.status === 507 && error.code === 'ERR_LAMEDUCK_OPS_DISK' && (error.more.free ?? 0) > 0)
})

test('files that are too old are removed', async () => {
  const dir = fresh()
  const artifacts = await start(dir, { ageMs: 50 })
  const { name } = await put(artifacts)
  await new Promise(resolve => setTimeout(resolve, 80))
  assert.equal(await artifacts.get(name), undefined)
  assert.deepEqual(await fs.readdir(dir), [])
})

/** A file system of 1 MB, where this machine lets us have one. */
function smallDisk(): string | undefined {
  const dir = path.join(root, 'small')
  try {
    execFileSync('mkdir', ['-p', dir])
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m,mode=700', 'tmpfs', dir], { stdio: 'ignore' })
    return dir
  } catch {
    return undefined
  }
}

const small = smallDisk()

test('a full disk answers 507 and leaves no half file', { skip: small === undefined && 'no file system may be mounted here' }, async () => {
  const artifacts = await start(small as string)
  await assert.rejects(put(artifacts, Buffer.alloc(2 ** 21)), { status: 507, code: 'ERR_LAMEDUCK_OPS_DISK' })
  assert.deepEqual(await fs.readdir(small as string), [])
  assert.equal((await put(artifacts)).bytes, 7)
})

test('a snapshot that does not fit onto the disk answers 507 and leaves no half file', { skip: small === undefined && 'no file system may be mounted here' }, async () => {
  const dir = small as string
  const { takeSnapshot } = await import('../src/ops/heap/take.ts')
  const before = await fs.readdir(dir)
  await assert.rejects(takeSnapshot(path.join(dir, '.scratch-x'), { force: true }), { status: 507, code: 'ERR_LAMEDUCK_OPS_DISK' })
  assert.deepEqual(await fs.readdir(dir), before)
})
