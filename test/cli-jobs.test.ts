import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, lstatSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { Endpoint, Terminal, problem, type Answers } from './fixtures/cli-endpoint.ts'

const CONTENT = Buffer.from(JSON.stringify({ snapshot: { node_count: 3 }, strings: ['a'.repeat(100_000)] }))
const STORED = gzipSync(CONTENT)
const artifact = {
  name: 'heap-1.heapsnapshot.gz', kind: 'heap-snapshot', bytes: STORED.length, sha256: createHash('sha256').update(STORED).digest('hex'),
  createdAt: '2026-01-01T00:00:00.000Z', by: 'ann', secret: false, type: 'application/json', encoding: 'gzip',
}
const job = { id: 'j1', kind: 'heap-snapshot', by: 'ann', state: 'running', startedAt: new Date().toISOString(), phase: 'waiting' }
const file = (body: Buffer = STORED) => (_: unknown, res: ServerResponse) => void res.writeHead(200, { 'Content-Length': body.length, 'Content-Type': 'application/gzip' }).end(body)

/** An endpoint whose job goes through phases, one a look, and ends. */
function snapshots(end: object, more: Answers = {}): Endpoint {
  const looks: object[] = [{ phase: 'waiting' }, { phase: 'writing', progress: 0.25 }, { phase: 'writing', progress: 0.75 }, end]
  return new Endpoint({
    'POST /heap/snapshots': (_, res) => res.writeHead(202, { 'Content-Type': 'application/json', Location: '../jobs/j1' }).end(JSON.stringify(job)),
    'GET /jobs/j1': (_, res) => res.end(JSON.stringify({ ...job, ...(looks.length > 1 ? looks.shift() : end) })),
    'DELETE /jobs/j1': (_, res) => res.writeHead(202).end('{}'),
    'GET /artifacts': { artifacts: [artifact] },
    'GET /artifacts/heap-1.heapsnapshot.gz': file(),
    ...more,
  })
}

const DONE = { state: 'done', phase: 'done', result: { artifact, taken: { pauseMs: 100 } } }

test('a snapshot is asked for, waited for phase by phase, fetched, checked and unpacked; its path is the only output', async () => {
  await using endpoint = snapshots(DONE)
  const where = await endpoint.listen()
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', ...where, 'heap', 'snapshot', '--isolate', '--after-gc', '--force'), 0, terminal.stderr.text)
  const path = join(terminal.folder, 'heap-1.heapsnapshot')
  assert.equal(terminal.stdout.text, `${path}\n`)
  assert.deepEqual(readFileSync(path), CONTENT)
  assert.equal(statSync(path).mode & 0o777, 0o600)
  assert.deepEqual(readdirSync(terminal.folder), ['heap-1.heapsnapshot'])
  assert.equal(endpoint.calls[0], 'POST /heap/snapshots?when=after-gc&isolate=true&force=true')
  const lines = terminal.stderr.text.split('\n')
  assert.deepEqual(lines.slice(0, 4), ['heap-snapshot j1: waiting', 'heap-snapshot j1: writing', 'heap-snapshot j1: done', 'downloading heap-1.heapsnapshot.gz'])
  assert.match(terminal.stderr.text, /SHA-256 right\nopen it: Chrome, DevTools, Memory/)
})

test('on a terminal there is a bar that goes away, and nothing of it in the output', async () => {
  await using endpoint = snapshots(DONE)
  const where = await endpoint.listen()
  const terminal = new Terminal({ tty: true })
  assert.equal(await terminal.run('ops', ...where, 'heap', 'snapshot'), 0, terminal.stderr.text)
  assert.ok(terminal.stderr.text.includes(`[${'#'.repeat(18)}${'-'.repeat(6)}]  75 %  heap-snapshot j1: writing`))
  assert.equal(terminal.stdout.text, `${join(terminal.folder, 'heap-1.heapsnapshot')}\n`)
})

test('-o keeps it packed for a name in .gz, takes a folder, and - writes to stdout', async () => {
  await using endpoint = snapshots(DONE)
  const where = await endpoint.listen()
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', ...where, 'artifacts', 'get', artifact.name, '-o', 'mine.gz'), 0, terminal.stderr.text)
  assert.deepEqual(readFileSync(join(terminal.folder, 'mine.gz')), STORED)
  assert.match(terminal.stderr.text, /unpack it first: gunzip/)
  assert.equal(await terminal.run('ops', ...where, 'artifacts', 'get', artifact.name, '-o', '.'), 0)
  assert.deepEqual(readFileSync(join(terminal.folder, 'heap-1.heapsnapshot')), CONTENT)
  const piped = new Terminal()
  assert.equal(await piped.run('ops', ...where, 'artifacts', 'get', artifact.name, '-o', '-'), 0)
  assert.equal(piped.stdout.text, CONTENT.toString())
  assert.equal(await piped.run('ops', ...where, 'artifacts', 'get', 'other'), 1)
  assert.match(piped.stderr.text, /ERR_LAMEDUCK_CLI_ARTIFACT/)
})

test('-o: what is no regular file is refused before anything begins; a link is written through', async () => {
  await using endpoint = snapshots(DONE)
  const where = await endpoint.listen()
  const terminal = new Terminal()
  // As a device: what would be renamed over it would take its place.
  const socket = where[1] as string
  symlinkSync(socket, join(terminal.folder, 'link'))
  for (const output of [socket, 'link']) assert.equal(await terminal.run('ops', ...where, 'heap', 'snapshot', '-o', output), 2)
  assert.match(terminal.stderr.text, /-o: .* is no regular file; .*\[ERR_LAMEDUCK_CLI_USAGE\]/)
  assert.deepEqual(endpoint.calls, [])
  assert.ok(lstatSync(socket).isSocket())
  writeFileSync(join(terminal.folder, 'old'), 'old')
  symlinkSync('old', join(terminal.folder, 'new'))
  assert.equal(await terminal.run('ops', ...where, 'artifacts', 'get', artifact.name, '-o', 'new'), 0, terminal.stderr.text)
  assert.ok(lstatSync(join(terminal.folder, 'new')).isSymbolicLink())
  assert.deepEqual(readFileSync(join(terminal.folder, 'old')), CONTENT)
})

test('a file that is not what was announced, or is cut off, is not left behind', async () => {
  for (const [answer, exit, code] of [
    [file(gzipSync('something else')), 1, /arrived with SHA-256 .*ERR_LAMEDUCK_CLI_DIGEST/],
    [file(Buffer.from('no gzip at all')), 1, /ERR_LAMEDUCK_CLI_DIGEST/],
    [(_: unknown, res: ServerResponse) => {
      res.writeHead(200, { 'Content-Length': STORED.length })
      res.write(STORED.subarray(0, 50), () => res.destroy())
    }, 3, /the connection was closed|aborted|ERR_LAMEDUCK_CLI_UNREACHABLE/],
  ] as const) {
    await using endpoint = snapshots(DONE, { 'GET /artifacts/heap-1.heapsnapshot.gz': answer })
    const where = await endpoint.listen()
    const terminal = new Terminal()
    assert.equal(await terminal.run('ops', ...where, 'heap', 'snapshot'), exit, terminal.stderr.text)
    assert.match(terminal.stderr.text, code)
    assert.equal(terminal.stdout.text, '')
    assert.deepEqual(readdirSync(terminal.folder), [])
  }
})

test('the name of a file over there cannot choose a place over here', async () => {
  for (const name of ['../../evil', '.bashrc', '/etc/x']) {
    const evil = { ...artifact, name, encoding: 'identity' }
    await using endpoint = snapshots({ state: 'done', phase: 'done', result: evil })
    const where = await endpoint.listen()
    const terminal = new Terminal()
    await terminal.run('ops', ...where, 'heap', 'snapshot')
    assert.ok(!existsSync(join(terminal.folder, '../../evil')))
    assert.deepEqual(readdirSync(terminal.folder), [])
  }
})

test('a job that fails, is refused, or is cancelled by somebody else ends with its reason', async () => {
  const detail = 'need 2 GB, 1 GB available'
  for (const [end, more, text] of [
    [{ state: 'failed', problem: { status: 507, code: 'ERR_LAMEDUCK_OPS_HEADROOM', detail } }, {}, /failed: need 2 GB.*`lameduck ops heap profile` needs less.*\[ERR_LAMEDUCK_OPS_HEADROOM\]/],
    [{ state: 'cancelled' }, {}, /job j1 was cancelled/],
    [{ state: 'done', result: {} }, {}, /made no file/],
    [DONE, { 'POST /heap/snapshots': (_: unknown, res: ServerResponse) => problem(res, 409, 'ERR_LAMEDUCK_OPS_LAST', 'the last ready instance') }, /the last ready instance; --force does it anyway/],
  ] as const) {
    await using endpoint = snapshots(end, more as Answers)
    const where = await endpoint.listen()
    const terminal = new Terminal()
    assert.equal(await terminal.run('ops', ...where, 'heap', 'snapshot'), 1)
    assert.match(terminal.stderr.text, text)
  }
})

test('Ctrl-C cancels the job over there and says so: exit code 130', async () => {
  await using endpoint = snapshots({ state: 'running', phase: 'writing' })
  const where = await endpoint.listen()
  const terminal = new Terminal()
  const exited = terminal.run('ops', ...where, 'heap', 'snapshot')
  await terminal.stderr.says('writing')
  terminal.emit('SIGINT')
  assert.equal(await exited, 130)
  assert.equal(endpoint.calls.at(-1), 'DELETE /jobs/j1')
  assert.match(terminal.stderr.text, /interrupted: job j1 is cancelled/)
  assert.equal(terminal.listenerCount('SIGINT'), 0)
})

test('Ctrl-C on a job that cannot be cancelled says that it may go on', async () => {
  await using endpoint = snapshots({ state: 'running', phase: 'writing' }, { 'DELETE /jobs/j1': undefined })
  const where = await endpoint.listen()
  const terminal = new Terminal()
  const exited = terminal.run('ops', ...where, 'heap', 'snapshot')
  await terminal.stderr.says('writing')
  terminal.emit('SIGINT')
  assert.equal(await exited, 130)
  assert.match(terminal.stderr.text, /job j1 may go on/)
})

test('profiles go the same way, in V8\'s format or pprof\'s', async () => {
  const profile = { ...artifact, name: 'cpu-1.pb.gz', kind: 'cpu-profile' }
  const answers: Answers = { 'GET /artifacts/cpu-1.pb.gz': file() }
  for (const path of ['POST /cpu/profile', 'POST /heap/profile']) answers[path] = (_, res) => res.writeHead(202).end(JSON.stringify(job))
  await using endpoint = snapshots({ state: 'done', phase: 'done', result: profile }, answers)
  const where = await endpoint.listen()
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', ...where, 'cpu', '--seconds', '3', '--pprof', '-o', 'cpu.pb.gz'), 0, terminal.stderr.text)
  assert.equal(await terminal.run('ops', ...where, 'heap', 'profile', '-o', 'x.pb.gz'), 0, terminal.stderr.text)
  assert.deepEqual(endpoint.calls.filter(call => call.startsWith('POST')), ['POST /cpu/profile?seconds=3&format=pprof', 'POST /heap/profile'])
  assert.match(terminal.stderr.text, /go tool pprof/)
  assert.deepEqual(readFileSync(join(terminal.folder, 'cpu.pb.gz')), STORED)
})

test('estimate, jobs and artifacts are read at a glance', async () => {
  await using endpoint = snapshots(DONE, {
    'GET /heap/estimate': { usedHeap: 2 ** 28, factor: 10, need: 10 * 2 ** 28, available: 2 ** 30, fits: false, pauseMs: 20_000, canIsolate: true },
    'GET /jobs': { jobs: [{ ...job, startedAt: '2026-01-01T00:00:00.000Z', endedAt: '2026-01-01T00:00:10.000Z', state: 'done', phase: 'done' }] },
  })
  const where = await endpoint.listen()
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', ...where, 'heap', 'estimate'), 0)
  assert.match(terminal.stdout.text, /a snapshot does not fit: 256\.0 MiB of used heap x 10 = 2\.5 GiB needed, 1\.0 GiB available; the process would stand still for about 20\.0 s/)
  assert.equal(await terminal.run('ops', ...where, 'jobs'), 0)
  assert.match(terminal.stdout.text, /^j1 +heap-snapshot +done +done +- +ann +2026-01-01T00:00:00\.000Z +10\.0 s$/m)
  assert.equal(await terminal.run('ops', ...where, 'artifacts'), 0)
  assert.match(terminal.stdout.text, /^heap-1\.heapsnapshot\.gz +heap-snapshot +\d+ B +no +ann/m)
})
