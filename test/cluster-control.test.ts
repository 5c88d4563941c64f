import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { serve, type Commanded } from '../src/cluster/control-session.ts'
import type { ClusterError, Status, Step } from '../src/cluster/index.ts'
import { APP, command, defaultControlPath, findSupervisors, freePort, status, until, World, world } from './_cluster.ts'

/** Sends a line as it is. @returns The first line of the answer. */
function raw(path: string, line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(path, () => socket.write(`${line}\n`))
    socket.once('data', chunk => {
      socket.destroy()
      resolve(chunk.toString().trim())
    })
    socket.once('error', reject)
  })
}

test('status, scale, a reload with its steps, one that is rolled back, and stop: over a socket of mode 0600', () => world(async it => {
  const path = it.supervisor.control!
  assert.equal(statSync(path).mode & 0o777, 0o600)
  const before = await status(path)
  assert.deepEqual([before.ready, before.wanted, before.generation, before.state], [1, 1, 1, 'running'])
  const scaled = await command(path, { do: 'scale', workers: 2 }) as Status
  assert.equal(scaled.ready, 2)
  await assert.rejects(command(path, { do: 'scale', workers: 9999 }), { code: 'ERR_LAMEDUCK_CLUSTER_OPTION' })
  // Its own probe may be a connection just then.
  await until(async () => (await status(path)).workers.every(({ rss, connections }) => rss !== null && connections === 0), 'a sign of life at rest')
  const [worker] = (await status(path)).workers
  assert.ok(worker!.rss! > 10_000_000 && worker!.inFlight !== null && worker!.uptimeMs > 0)

  const steps: Step[] = []
  const result = await command(path, { do: 'reload' }, { step: step => steps.push(step) })
  assert.ok(result && 'outcome' in result && result.outcome === 'reloaded')
  assert.deepEqual(steps.map(({ slot, what }) => `${slot} ${what}`).filter(text => /starting|retiring|exited/.test(text)).slice(0, 6),
    ['0 starting', '0 retiring', '0 exited', '1 starting', '1 retiring', '1 exited'])
  // One that waits is told so.
  const waiting: unknown[] = []
  await Promise.all([
    command(path, { do: 'reload' }),
    until(() => it.supervisor.status().state === 'reloading', 'the reload').then(() => command(path, { do: 'reload' }, { waiting: why => waiting.push(why) })),
  ])
  assert.deepEqual(waiting, ['another reload goes on', undefined])

  it.app.fault = 'throws'
  await assert.rejects(command(path, { do: 'reload' }), (error: ClusterError) => {
    assert.equal(error.code, 'ERR_LAMEDUCK_CLUSTER_DIED')
    assert.match(error.message, /^rolled-back: .*no such module/)
    assert.ok(error.result && 'generation' in error.result)
    assert.deepEqual([error.result.outcome, error.result.generation, error.result.readyLeast], ['rolled-back', 5, 2])
    return true
  })

  for (const line of ['nonsense', '{"do":"dance"}', 'null', '[]', '{}']) {
    assert.equal((JSON.parse(await raw(path, line)) as { code?: string }).code, 'ERR_LAMEDUCK_CLUSTER_COMMAND', line)
  }
  const stopped = await command(path, { do: 'stop' })
  assert.ok(stopped && 'outcome' in stopped && stopped.outcome === 'clean')
  await it.supervisor.closed
  assert.equal(existsSync(path), false)
  await assert.rejects(status(path), { code: 'ERR_LAMEDUCK_CLUSTER_NOT_RUNNING' })
}, { workers: 1 }))

test('who waits is told by text, as an older client takes it: empty when it goes on', async () => {
  const waiting: ((why: string | undefined) => void)[] = []
  const commanded = {
    reload: (told: (why: string | undefined) => void) => new Promise(() => void waiting.push(told)),
    onStep: () => () => {},
  } as unknown as Commanded
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-control-'))
  const server = net.createServer(socket => serve(socket, commanded)).listen(join(folder, 'control'))
  const socket = net.connect(join(folder, 'control'), () => socket.write('{"do":"reload"}\n'))
  try {
    let text = ''
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
    })
    await until(() => waiting.length === 1, 'the command')
    waiting[0]!('another reload goes on')
    waiting[0]!(undefined)
    await until(() => text.split('\n').length === 3, 'two lines')
    assert.equal(text, '{"waiting":"another reload goes on"}\n{"waiting":""}\n')
  } finally {
    socket.destroy()
    server.close()
    rmSync(folder, { recursive: true })
  }
})

test('a client takes what a newer supervisor tells beside the answer for nothing, and an older one\'s null for the end of the waiting', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-control-'))
  const path = join(folder, 'control')
  const lines = ['{"news":"of tomorrow"}', '{"waiting":"x"}', '{"waiting":null}', '{"waiting":"y"}', '{"waiting":""}', '{"ok":true}']
  const server = net.createServer(socket => socket.end(`${lines.join('\n')}\n`)).listen(path)
  const told: unknown[] = []
  try {
    assert.equal(await command(path, { do: 'reload' }, { waiting: why => told.push(why) }), undefined)
    assert.deepEqual(told, ['x', undefined, 'y', undefined])
  } finally {
    server.close()
    rmSync(folder, { recursive: true })
  }
})

/** What a killed process leaves: the file of a socket that nobody listens on. */
function leftBehind(folder: string): string {
  const path = join(folder, 'stale')
  const program = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
  spawnSync(process.execPath, ['-e', program])
  assert.ok(statSync(path).isSocket())
  return path
}

/** A supervisor whose start is to fail at its control socket. */
async function refused(prepare: (folder: string) => string, message: RegExp): Promise<void> {
  const it = new World(await freePort(), {})
  try {
    const supervisor = it.start({ control: prepare(it.folder) })
    await assert.rejects(supervisor.ready, { code: 'ERR_LAMEDUCK_CLUSTER_CONTROL', message })
    assert.equal((await supervisor.stopped).code, 1)
    assert.deepEqual(it.steps.filter(({ what }) => what === 'starting'), [])
  } finally {
    await it.close()
  }
}

test('a control socket in a folder that others may write to is refused', () => refused(folder => {
  const open = join(folder, 'open')
  mkdirSync(open)
  chmodSync(open, 0o777)
  return join(open, 'control')
}, /can be written to by others: chmod 700 it/))

test('something that is no socket is left alone where the control socket should be', () => refused(folder => {
  const path = join(folder, 'file')
  writeFileSync(path, 'precious')
  return path
}, /is not a socket: it is left alone/))

test('a symlink where the control socket should be is not followed', () => refused(folder => {
  const path = join(folder, 'link')
  symlinkSync(join(folder, 'elsewhere'), path)
  return path
}, /is not a socket/))

test('a path that is too long for a socket is refused', () => refused(folder => join(folder, 'x'.repeat(120)), /too long for a control socket/))

const root = process.getuid?.() === 0

test('a folder that belongs to another user is refused', { skip: root ? false : 'only root can make one' }, () => refused(folder => {
  const theirs = join(folder, 'theirs')
  mkdirSync(theirs, { mode: 0o755 })
  chownSync(theirs, 65_534, 65_534)
  return join(theirs, 'control')
}, /belongs to user 65534/))

test('a control socket that belongs to another user is left alone', { skip: root ? false : 'only root can make one' }, () => refused(folder => {
  const path = leftBehind(folder)
  chownSync(path, 65_534, 65_534)
  return path
}, /the control socket .* belongs to user 65534: it is left alone/))

test('a control socket that another supervisor listens on is refused; one of a dead one is replaced', () => world(async it => {
  const second = new World(await freePort(), {})
  try {
    await assert.rejects(second.start({ control: it.supervisor.control! }).ready, { code: 'ERR_LAMEDUCK_CLUSTER_CONTROL', message: /another supervisor listens/ })
    assert.equal((await status(it.supervisor.control!)).ready, 1)
  } finally {
    await second.close()
  }
  const third = new World(await freePort(), {})
  const path = leftBehind(third.folder)
  try {
    await third.start({ control: path, workers: 1 }).ready
    assert.equal((await status(path)).ready, 1)
  } finally {
    await third.close()
  }
}, { workers: 1 }))

test('by default each supervisor has a socket of its own in a private folder, and is found by its script', async () => {
  const it = new World(await freePort(), {})
  const runtime = process.env.XDG_RUNTIME_DIR
  process.env.XDG_RUNTIME_DIR = it.folder
  try {
    const path = defaultControlPath(APP)
    assert.equal(dirname(path), join(it.folder, 'lameduck'))
    await it.start({ control: undefined as unknown as string, workers: 1 }).ready
    assert.equal(it.supervisor.control, path)
    assert.equal(statSync(dirname(path)).mode & 0o777, 0o700)
    const found = await findSupervisors(APP)
    assert.deepEqual(found.map(({ status: { pid } }) => pid), [process.pid])
    assert.deepEqual(await findSupervisors(`${APP}.other`), [])
  } finally {
    await it.close()
    if (runtime === undefined) delete process.env.XDG_RUNTIME_DIR
    else process.env.XDG_RUNTIME_DIR = runtime
  }
})
