import assert from 'node:assert/strict'
import { execFile, execFileSync, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs/promises'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import { openArtifacts } from '../src/ops/heap/artifacts.ts'
import type { JobReport } from '../src/ops/heap/jobs.ts'
import { heapOutpost } from '../src/ops/heap/outpost.ts'
import { heapPart } from '../src/ops/heap/routes.ts'
import { startSnapshot, type SnapshotResult } from '../src/ops/heap/snapshot.ts'
import type { Scope } from '../src/ops/http/route.ts'
import { redact } from '../src/ops/heap/redact.ts'
import { DEFAULTS } from '../src/ops/options.ts'
import { takeTiny, TINY, until, within } from './_heap-world.ts'
import { freshToken, openDoor } from './_ops-door.ts'

const root = await fs.mkdtemp(path.join(os.tmpdir(), 'lameduck-review-'))
after(() => fs.rm(root, { recursive: true, force: true }))

const codeOf = (job: JobReport | undefined) => [job?.state, job?.problem?.code]

/** As V8 writes it, with sections that take several reads each. */
async function large(): Promise<string> {
  const [meta = ''] = TINY.split(',"node_count"')
  const count = 60_000
  const nodes = Array.from({ length: count }, (_, at) => `2,${at + 3},${at},16,1,0\n`).join(',')
  const edges = Array.from({ length: count }, (_, at) => `2,${at + 3},${6 * at}\n`).join(',')
  const strings = Array.from({ length: count }, (_, at) => `"string number ${at}"`).join(',\n')
  const file = path.join(root, 'large.heapsnapshot')
  await fs.writeFile(file, `${meta},"node_count":${count},"edge_count":${count}},\n"nodes":[${nodes}],\n"edges":[${edges}],\n"strings":["<dummy>","","x",${strings}]}`)
  return file
}

test('a redaction that is cancelled reads no more, whichever of its passes it is in', async () => {
  const file = await fs.open(await large())
  let [reads, stopAt] = [0, Infinity]
  let stop = new AbortController()
  const counted = new Proxy(file, {
    get(target, key) {
      if (key !== 'read') return (Reflect.get(target, key) as () => unknown).bind(target)
      return (...args: [Buffer, number, number, number]) => {
        if (++reads === stopAt) stop.abort(new Error('cancelled'))
        return target.read(...args)
      }
    },
  })
  try {
    await redact(counted, async () => {}, { signal: stop.signal })
    const all = reads
    assert.ok(all > 60, `${all} reads`)
    for (stopAt = 1; stopAt < all - 1; stopAt += 5) {
      reads = 0
      stop = new AbortController()
      await assert.rejects(redact(counted, async () => {}, { signal: stop.signal }), { message: 'cancelled' }, `at ${stopAt} of ${all}`)
      // The buffer that is being filled may take a second one.
      assert.ok(reads <= stopAt + 1, `${reads} reads, ${stopAt} before it was cancelled`)
    }
  } finally {
    await file.close()
  }
})

test('a process that exits while a snapshot is redacted leaves no raw file, and a listener only for as long as there is one', async () => {
  const [program, raw, draft] = ['exits.mts', 'raw.heapsnapshot', 'draft'].map(name => path.join(root, name)) as [string, string, string]
  const src = (name: string) => JSON.stringify(new URL(`../src/ops/${name}`, import.meta.url).href)
  await fs.writeFile(program, `
    import { existsSync, writeFileSync } from 'node:fs'
    import { MessageChannel } from 'node:worker_threads'
    import { heapOutpost } from ${src('heap/outpost.ts')}
    import { Link } from ${src('link.ts')}
    const [, , raw, draft] = process.argv
    const { port1, port2 } = new MessageChannel()
    const [main, endpoint] = [new Link(port1), new Link(port2)]
    heapOutpost({ take: async path => (writeFileSync(path, 'raw'), { path }) })({ duck: undefined, link: main, settings: {} })
    const before = process.listenerCount('exit')
    const take = (id, path) => endpoint.call('heap.snapshot', { id, path, when: 'now', isolate: false, recycle: false, force: true })
    await take('1', raw + '.first')
    endpoint.tell('heap.finished', { id: '1', ok: true })
    await take('2', raw)
    const during = process.listenerCount('exit') - before
    writeFileSync(draft, 'raw, too')
    endpoint.tell('heap.draft', { id: '2', path: draft })
    // News go before an answer, be it that there is no such method.
    await endpoint.call('none').catch(() => {})
    console.log(JSON.stringify({ during, first: existsSync(raw + '.first'), second: existsSync(raw) }))
    process.exit(0)`)
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', program, raw, draft], { timeout: 30_000 })
  // The first is its endpoint's own to remove.
  assert.deepEqual(JSON.parse(stdout), { during: 1, first: true, second: true })
  assert.deepEqual((await fs.readdir(root)).filter(name => name.startsWith('raw') || name.startsWith('draft')), ['raw.heapsnapshot.first'])
})

test('an endpoint that is ended while it redacts leaves no raw file, and none comes after it', async () => {
  const files: string[] = []
  let go = () => {}
  const listeners = process.listenerCount('exit')
  await within(async world => {
    const { Link } = await import('../src/ops/link.ts')
    const { MessageChannel } = await import('node:worker_threads')
    const { port1, port2 } = new MessageChannel()
    const [main, endpoint] = [new Link(port1), new Link(port2)]
    const end = heapOutpost({
      take: async (file, options) => {
        files.push(file)
        if (files.length > 1) await new Promise<void>(resolve => (go = resolve))
        return takeTiny(file, options)
      },
    })({ duck: world.duck, link: main, settings: {} as never })
    const order = (id: string) => ({ id, path: path.join(world.dir, `.scratch-${id}`), when: 'now', isolate: false, recycle: false, force: true })
    await endpoint.call('heap.snapshot', order('1'))
    assert.equal((await fs.readdir(world.dir)).length, 1)
    const second = endpoint.call('heap.snapshot', order('2')).catch(() => {})
    await until(() => files.length === 2)
    end()
    assert.deepEqual(await fs.readdir(world.dir), [])
    go()
    await second
    assert.deepEqual(await fs.readdir(world.dir), [])
    assert.equal(process.listenerCount('exit'), listeners)
    main.close()
    endpoint.close()
  })
})

test('a job that is cancelled while main looks whether it may begin takes no snapshot', async () => {
  let [asked, taken] = [0, 0]
  let say = () => {}
  await within(async world => {
    const { json } = await world.ask('POST', '/heap/snapshots?isolate=true')
    await until(() => asked === 2)
    assert.equal((await world.ask('DELETE', `/jobs/${json.id as string}`)).status, 202)
    // News go before the answer.
    await world.ask('GET', '/heap/estimate')
    say()
    assert.deepEqual(codeOf(await world.jobs.ended(json.id as string)), ['cancelled', 'ERR_LAMEDUCK_OPS_CANCELLED'])
    assert.equal(taken, 0)
    assert.equal(world.duck.state, 'running')
  }, {
    lastReady: () => ++asked === 1 ? false : new Promise<boolean>(resolve => {
      say = () => resolve(false)
    }),
    take: (file, options) => {
      taken++
      return takeTiny(file, options)
    },
  })
})

test('what ended before the pause costs neither cooldown nor budget; a snapshot that was taken does', async () => {
  await within(async world => {
    const { ask, jobs } = world
    const request = fetch(world.appUrl).catch(() => {})
    await until(() => world.duck.stats().inFlight.length === 1)
    for (const query of ['when=after-gc', 'isolate=true']) {
      assert.equal((await world.snapshot(query)).state, 'failed', query)
    }
    const { json } = await ask('POST', '/heap/snapshots?isolate=true')
    await until(() => jobs.list().at(-1)?.phase === 'leaving the rotation')
    jobs.cancel(json.id as string)
    assert.deepEqual(codeOf(await jobs.ended(json.id as string)), ['cancelled', 'ERR_LAMEDUCK_OPS_CANCELLED'])
    assert.equal((await world.snapshot('')).state, 'done')
    assert.equal((await ask('POST', '/heap/snapshots')).json.code, 'ERR_LAMEDUCK_OPS_COOLDOWN')
    await world.duck.abort()
    await request
  }, { heap: { afterGcMs: 50, inFlightMs: 2_000 }, afterMajorGC: () => new Promise(() => {}) }, (_req, res) => {
    res.flushHeaders()
  }, { cooldownMs: 60_000, perDay: 1 })
})

const ABOUT = { kind: 'heap-snapshot', by: 'ann', secret: false, type: 'application/json', encoding: 'identity', extension: 'heapsnapshot' } as const

const openIn = (dir: string) => openArtifacts({ ...DEFAULTS.files, freeBytes: 0, dir })

/** The number of a process that has gone. */
const deadPid = () => execFileSync(process.execPath, ['-p', 'process.pid']).toString().trim()

test('a second endpoint of the same process leaves the first one\'s unfinished files alone, when it starts and when it ends', async () => {
  const dir = path.join(root, 'shared')
  const first = await openIn(dir)
  const draft = await first.create(ABOUT)
  draft.stream.write('half')
  const scratch = await first.scratch('heapsnapshot')
  await fs.writeFile(scratch, 'raw')
  const second = await openIn(dir)
  const other = await second.scratch('heapsnapshot')
  await fs.writeFile(other, 'raw')
  await second.close()
  await assert.rejects(fs.stat(other))
  assert.equal(await fs.readFile(scratch, 'utf8'), 'raw')
  assert.equal((await draft.finish()).bytes, 4)
  await first.close()
  assert.deepEqual((await fs.readdir(dir)).filter(name => name.startsWith('.')), [])
})

test('what a process of the same number left before this one began is removed: in a container all are number 1', async () => {
  const dir = path.join(root, 'container')
  await fs.mkdir(dir, { mode: 0o700 })
  const [old, young] = [`.scratch-${process.pid}-aaaaaaaaaaaa-x.heapsnapshot`, `.scratch-${process.pid}-bbbbbbbbbbbb-x.heapsnapshot`]
  for (const name of [old, young]) await fs.writeFile(path.join(dir, name), 'raw')
  const before = new Date(Date.now() - process.uptime() * 1_000 - 5_000)
  await fs.utimes(path.join(dir, old), before, before)
  await (await openIn(dir)).close()
  assert.deepEqual(await fs.readdir(dir), [young])
})

test('the folder of a process that was killed goes with its socket and its lock; one whose socket lives stays', { skip: process.platform === 'win32' && 'no unix sockets' }, async () => {
  const all = path.join(root, `lameduck-${process.getuid?.() ?? 'user'}`)
  const [dead, odd, lived] = [path.join(all, deadPid()), path.join(all, deadPid()), path.join(all, deadPid())]
  for (const dir of [dead, odd, lived]) await fs.mkdir(dir, { recursive: true, mode: 0o700 })
  await fs.chmod(all, 0o700)
  const killed = `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`
  assert.equal(spawnSync(process.execPath, ['-e', killed, path.join(dead, 'ops.sock')]).signal, 'SIGKILL')
  assert.deepEqual(await fs.readdir(dead), ['ops.sock'])
  await fs.writeFile(path.join(dead, '.lock'), '')
  await fs.writeFile(path.join(odd, 'notes.txt'), '')
  const server = net.createServer().listen(path.join(lived, 'ops.sock'))
  await once(server, 'listening')
  await fs.writeFile(path.join(lived, `.scratch-${path.basename(lived)}-x`), 'of a container with numbers of its own')
  await (await openIn(path.join(all, String(process.pid)))).close()
  assert.deepEqual((await fs.readdir(all)).sort(), [odd, lived].map(dir => path.basename(dir)).sort())
  assert.deepEqual(await fs.readdir(odd), ['notes.txt'])
  assert.equal((await fs.readdir(lived)).length, 2)
  await new Promise(resolve => server.close(resolve))
})

test('a folder for files whose parents are missing is made with them, closed to others', async () => {
  const top = path.join(root, 'var')
  const dir = path.join(top, 'lib', 'files')
  await (await openIn(dir)).close()
  for (const folder of [top, path.join(top, 'lib'), dir]) assert.equal((await fs.stat(folder)).mode & 0o777, 0o700, folder)
})

test('taking the instance out of rotation for a snapshot needs the scope control; a rule acts with that of who armed it', async () => {
  await within(async world => {
    for (const query of ['isolate=true', 'recycle=true']) {
      const { status, json } = await world.ask('POST', `/heap/snapshots?${query}`, ['read', 'diag', 'secrets'])
      assert.deepEqual([status, json.code, json.scope], [403, 'ERR_LAMEDUCK_OPS_SCOPE', 'control'], query)
    }
    assert.deepEqual(world.jobs.list(), [])
    assert.equal((await world.snapshot('', ['diag'])).state, 'done')
    assert.equal((await world.snapshot('isolate=true', ['diag', 'control'])).state, 'done')
    const { id } = await startSnapshot(world.bench, { isolate: true }, { name: 'rule:leak', from: 'process', scopes: new Set(['diag'] as const) })
    assert.equal((await world.jobs.ended(id)).state, 'done')
  })
})

test('when the audit cannot be written, whoever has the scope secrets is told that, and whoever has not is told so', async () => {
  const file = path.join(root, 'audit.log')
  await fs.mkdir(file)
  await within(async world => {
    const { artifact } = (await world.snapshot('redact=false', ['diag', 'secrets'])).result as SnapshotResult
    const { routes } = heapPart(world.bench)
    const [all, some] = [freshToken(), freshToken()]
    const tokens = [{ name: 'ann', scopes: ['diag', 'secrets'] as Scope[], token: all }, { name: 'bob', scopes: ['diag'] as Scope[], token: some }]
    const site = await openDoor({ routes, file, options: { auth: { tokens } } })
    for (const [method, to] of [['POST', '/heap/snapshots?redact=false'], ['GET', `/artifacts/${artifact.name}`], ['DELETE', `/artifacts/${artifact.name}`]] as const) {
      const [withIt, without] = [await site.ask(to, { method, token: all }), await site.ask(to, { method, token: some })]
      assert.deepEqual([withIt.status, withIt.json.code], [503, 'ERR_LAMEDUCK_OPS_AUDIT'], to)
      assert.deepEqual([without.status, without.json.code, without.json.scope], [403, 'ERR_LAMEDUCK_OPS_SCOPE', 'secrets'], to)
    }
    await site.close()
  })
})
