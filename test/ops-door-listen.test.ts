import assert from 'node:assert/strict'
import { chmodSync, chownSync, existsSync, lchownSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import dns from 'node:dns'
import net from 'node:net'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { openListener } from '../src/ops/http/listener.ts'
import { settle } from '../src/ops/settle.ts'
import { folder, openDoor, request, root, route } from './_ops-door.ts'

const at = (path: string) => openDoor({ options: { listen: { path }, auth: {} } })
const FOLDER = { code: 'ERR_LAMEDUCK_OPS_FOLDER' }
const IN_USE = { code: 'ERR_LAMEDUCK_OPS_IN_USE' }

const mode = (path: string) => (statSync(path).mode & 0o7777).toString(8)

/** A process that was killed leaves its socket: so does one whose name was moved away before it closed. */
async function deadSocket(path: string): Promise<void> {
  const server = net.createServer().listen(`${path}.x`)
  await new Promise(resolve => server.once('listening', resolve))
  renameSync(`${path}.x`, path)
  await new Promise(resolve => server.close(resolve))
}

test('the unix socket is 0600 in a 0700 folder, works, and is gone at the end', async () => {
  const path = join(folder(), 'a', 'b', 'ops.sock')
  const site = await at(path)
  assert.equal(site.path, path)
  assert.deepEqual([mode(path), mode(dirname(path)), mode(dirname(dirname(path)))], ['600', '700', '700'])
  assert.deepEqual(readdirSync(dirname(path)), ['ops.sock'])
  assert.equal((await site.ask('/info', { token: null })).status, 200)
  await site.close()
  assert.deepEqual(readdirSync(dirname(path)), [])
})

test('whatever the umask is, at no moment is there a socket that others could open', async () => {
  const dir = folder()
  const umask = process.umask(0)
  try {
    const server = net.Server.prototype
    const { listen } = server
    const seen: string[] = []
    // As soon as the kernel has it: in a folder that nobody else can enter.
    server.listen = function (this: net.Server, ...args: unknown[]) {
      this.once('listening', () => seen.push(...readdirSync(join(dir, 'door')).map(name => `${name} in ${mode(join(dir, 'door'))}`)))
      return Reflect.apply(listen, this, args) as net.Server
    } as typeof listen
    try {
      const site = await at(join(dir, 'door', 'ops.sock'))
      assert.match(seen.join(), /^\.[0-9a-f]{8} in 700$/)
      assert.equal(mode(join(dir, 'door', 'ops.sock')), '600')
      await site.close()
    } finally {
      server.listen = listen
    }
  } finally {
    process.umask(umask)
  }
})

test('a socket that a dead process left is replaced', async () => {
  const path = join(folder(), 'ops.sock')
  await deadSocket(path)
  const site = await at(path)
  assert.deepEqual(readdirSync(dirname(path)), ['ops.sock'])
  assert.equal((await site.ask('/info', { token: null })).status, 200)
  await site.close()
  assert.equal(existsSync(path), false)
})

test('a lock that a dead process left is only waited for', async () => {
  const path = join(folder(), 'ops.sock')
  await deadSocket(path)
  const lock = join(dirname(path), '.lock')
  writeFileSync(lock, '')
  utimesSync(lock, 1, 1)
  await (await at(path)).close()
  assert.deepEqual(readdirSync(dirname(path)), [])
})

test('a socket of a living process is left alone: the second one does not start', async () => {
  const path = join(folder(), 'ops.sock')
  const first = await at(path)
  await assert.rejects(at(path), IN_USE)
  assert.equal((await first.ask('/info', { token: null })).status, 200)
  assert.deepEqual(readdirSync(dirname(path)), ['ops.sock'])
  await first.close()
})

test('of many that start at once, over a dead socket or none, one listens and the others say why', async () => {
  for (const dead of [false, true]) {
    const path = join(folder(), 'ops.sock')
    if (dead) await deadSocket(path)
    const all = await Promise.allSettled([1, 2, 3, 4, 5].map(() => at(path)))
    const sites = all.flatMap(one => one.status === 'fulfilled' ? [one.value] : [])
    assert.equal(sites.length, 1)
    for (const one of all) if (one.status === 'rejected') assert.equal((one.reason as { code: string }).code, IN_USE.code)
    assert.equal((await request('http://localhost', path, '/info')).status, 200)
    assert.deepEqual(readdirSync(dirname(path)), ['ops.sock'])
    await sites[0]?.close()
  }
})

test("at its end it does not take away a successor's socket", async () => {
  const path = join(folder(), 'ops.sock')
  const first = await at(path)
  rmSync(path)
  const second = await at(path)
  await first.close()
  assert.equal((await second.ask('/info', { token: null })).status, 200)
  await second.close()
  assert.equal(existsSync(path), false)
})

test('a file that is no socket is left alone', async () => {
  const path = join(folder(), 'ops.sock')
  writeFileSync(path, 'precious')
  await assert.rejects(at(path), IN_USE)
  assert.equal(statSync(path).size, 8)
  rmSync(path)
  symlinkSync('/nowhere', path)
  await assert.rejects(at(path), IN_USE)
  assert.ok(lstatSync(path).isSymbolicLink())
})

test('a folder that is open to others is refused, and not changed', async () => {
  for (const open of [0o755, 0o750, 0o701, 0o777, 0o1777]) {
    const dir = join(folder(), 'door')
    mkdirSync(dir)
    chmodSync(dir, open)
    await assert.rejects(at(join(dir, 's')), FOLDER)
    assert.equal(mode(dir), open.toString(8))
    assert.deepEqual(readdirSync(dir), [])
  }
})

test('a folder that is a symbolic link, or no folder, is refused', async () => {
  const dir = folder()
  mkdirSync(join(dir, 'real'), { mode: 0o700 })
  symlinkSync(join(dir, 'real'), join(dir, 'link'))
  writeFileSync(join(dir, 'file'), '')
  for (const name of ['link', 'file']) await assert.rejects(at(join(dir, name, 's')), FOLDER)
  assert.deepEqual(readdirSync(join(dir, 'real')), [])
})

test('a folder of somebody else is refused', { skip: root ? false : 'only root can give a folder away' }, async () => {
  const dir = join(folder(), 'door')
  mkdirSync(dir, { mode: 0o700 })
  chownSync(dir, 65_534, 65_534)
  await assert.rejects(at(join(dir, 's')), FOLDER)
})

test('a folder that lies where others could put another in its place is refused', async () => {
  const dir = folder()
  const shared = join(dir, 'shared')
  mkdirSync(join(shared, 'door'), { recursive: true, mode: 0o700 })
  chmodSync(shared, 0o777)
  await assert.rejects(at(join(shared, 'door', 's')), FOLDER)
  // As /tmp is: only an entry's owner can rename it.
  chmodSync(shared, 0o1777)
  await (await at(join(shared, 'door', 's'))).close()
})

test('a way there over a link that somebody else could turn is refused', { skip: root ? false : 'only root can give a link away' }, async () => {
  const dir = folder()
  mkdirSync(join(dir, 'real', 'door'), { recursive: true, mode: 0o700 })
  symlinkSync(join(dir, 'real'), join(dir, 'link'))
  await (await at(join(dir, 'link', 'door', 's'))).close()
  lchownSync(join(dir, 'link'), 65_534, 65_534)
  await assert.rejects(at(join(dir, 'link', 'door', 's')), FOLDER)
})

test('a folder that cannot be made is refused', async () => {
  const dir = folder()
  writeFileSync(join(dir, 'file'), '')
  await assert.rejects(at(join(dir, 'file', 'x', 's')), FOLDER)
})

for (const host of ['127.0.0.1', 'localhost', '127.0.0.2', '::1']) {
  const missing = host === '127.0.0.2' && process.platform !== 'linux' ? 'only Linux has all of 127.0.0.0/8' : false
  test(`on ${host} it listens on a free port, under that name`, { skip: missing }, async t => {
    const site = await openDoor({ options: { listen: { host }, auth: {} }, routes: [route('/livez', null)] }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRNOTAVAIL') throw error
      return undefined
    })
    if (!site) return t.skip('no IPv6 here')
    assert.match(site.url, /^http:\/\/(127\.0\.0\.[12]|localhost|\[::1\]):\d+$/)
    assert.equal((await site.ask('/livez', { token: null })).status, 200)
    await site.close()
    return undefined
  })
}

test('a localhost that resolves to something else is refused', async t => {
  t.mock.method(dns, 'lookup', (_: string, ...rest: unknown[]) => {
    const done = rest.at(-1) as (error: null, address: unknown, family?: number) => void
    if ((rest[0] as { all?: boolean }).all === true) done(null, [{ address: '0.0.0.0', family: 4 }])
    else done(null, '0.0.0.0', 4)
  })
  await assert.rejects(openDoor({ options: { listen: { host: 'localhost' } } }), { code: 'ERR_LAMEDUCK_OPS_INSECURE' })
})

test('in a worker thread it works as on the main one', async () => {
  const path = join(folder(), 'w', 'ops.sock')
  const href = new URL('fixtures/ops-door-worker.ts', import.meta.url).href
  const worker = new Worker(`import('tsx/esm/api').then(({ tsImport }) => tsImport(${JSON.stringify(href)}, ${JSON.stringify(href)}))`, { eval: true, workerData: { path } })
  try {
    const [url] = await new Promise<[string]>((resolve, reject) => worker.once('message', resolve).once('error', reject))
    assert.equal((await request(url, path, '/info')).status, 200)
    assert.equal(mode(path), '600')
    const exited = new Promise(resolve => worker.once('exit', resolve))
    worker.postMessage('close')
    assert.equal(await exited, 0)
    assert.equal(existsSync(path), false)
  } finally {
    await worker.terminate()
  }
})

test('without a listener of its own there is none to open', async () => {
  const visitors = { request() {}, upgrade() {}, insider() {}, known: () => false, isAnybodys: () => false, refused() {} }
  await assert.rejects(openListener(settle({ listen: false }), visitors), { code: 'ERR_LAMEDUCK_OPTION' })
})
