import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import { Endpoint, Terminal, problem, type Answer } from './fixtures/cli-endpoint.ts'

// Where the default folder is looked for, and everything else that these tests make.
const real = tmpdir()
const temp = mkdtempSync(join(real, 'lameduck-cli-test-'))
process.env.TMPDIR = temp
after(() => rmSync(temp, { recursive: true, force: true }))

const own = join(temp, `lameduck-${process.getuid?.() ?? 'user'}`)
const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url))
const info = (name: string) => ({ application: { name, version: '1.2.3' }, node: 'v20.0.0', pid: 1, startedAt: '2026-01-01T00:00:00.000Z' })

const STATE = {
  asOfMs: 0, blockedMs: 0, state: 'draining', connections: { idle: 3, active: 2, total: 5 }, counters: { accepted: 9, served: 7, rejected: 1, refused: 0 },
  uptimeMs: 3_725_000, memory: { rss: 104_857_600, heapUsed: 1_048_576 }, drains: 1, servedLate: 2,
  loop: { p50: 0.5, p90: 1, p99: 12.5, max: 40, mean: 0.7, utilization: 0.25 },
}

test('without an option the only process that lives is asked, though a dead one has left its socket', async () => {
  await using endpoint = new Endpoint({ 'GET /info': info('shop'), 'GET /state': STATE })
  await endpoint.listen({ path: join(own, '101', 'ops.sock') })
  mkdirSync(join(own, '102'), { mode: 0o700 })
  const dead = createServer()
  await new Promise<void>(resolve => dead.listen(join(own, '102', 'dead.sock'), resolve))
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', 'state'), 0, terminal.stderr.text)
  assert.match(terminal.stdout.text, /^state\s+draining$/m)
  assert.match(terminal.stdout.text, /^uptime\s+1h 02m$/m)
  assert.match(terminal.stdout.text, /^memory\s+rss 100\.0 MiB, heapUsed 1\.0 MiB$/m)
  dead.close()
})

test('several processes are listed with pid and application, and --pid says which', async () => {
  await using first = new Endpoint({ 'GET /info': info('shop') })
  await using second = new Endpoint({ 'GET /info': (_, res) => problem(res, 401, 'ERR_LAMEDUCK_OPS_TOKEN', 'a valid token is needed') })
  await first.listen({ path: join(own, '201', 'ops.sock') })
  await second.listen({ path: join(own, '202', 'ops.sock') })
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', 'info'), 2)
  assert.match(terminal.stderr.text, /^201 {2}shop 1\.2\.3 +2026-01-01T00:00:00\.000Z$/m)
  assert.match(terminal.stderr.text, /^202 {2}\(needs a token\)/m)
  assert.match(terminal.stderr.text, /2 processes .*--pid 201 \[ERR_LAMEDUCK_CLI_SEVERAL\]/)
  assert.equal(terminal.stdout.text, '')
  assert.equal(await terminal.run('ops', 'info', '--pid', '201'), 0)
  assert.match(terminal.stdout.text, /shop/)
})

test('nobody there, a socket without a process, and a folder that others can enter: exit code 3', async () => {
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', 'state'), 3)
  assert.match(terminal.stderr.text, /ERR_LAMEDUCK_CLI_NONE/)
  assert.equal(await terminal.run('ops', 'state', '--socket', join(temp, 'none.sock')), 3)
  assert.match(terminal.stderr.text, /ERR_LAMEDUCK_CLI_UNREACHABLE/)
  mkdirSync(own, { recursive: true })
  chmodSync(own, 0o755)
  assert.equal(await terminal.run('ops', 'state'), 3)
  assert.match(terminal.stderr.text, /ERR_LAMEDUCK_CLI_FOLDER/)
  chmodSync(own, 0o700)
})

test('options that exclude each other, are wrong or unknown are told in one line with exit code 2', async () => {
  for (const [argv, text] of [
    [['ops', 'state', '--socket', 'a', '--url', 'http://localhost:1'], /--socket and --url exclude each other/],
    [['ops', 'state', '--url', 'ftp://localhost'], /--url is 'ftp:\/\/localhost'/],
    [['ops', 'state', '--url', 'http://me:secret@localhost'], /holds a user or a password/],
    [['ops', 'state', '--pid', 'x'], /--pid is 'x'; allowed: a whole number/],
    [['ops', 'state', '--cert', 'x', '--url', 'https://localhost'], /--cert and --key belong together/],
    [['ops', 'stat'], /unknown command 'stat' \(Did you mean state\?\); see lameduck ops --help/],
    [['ops', 'state', '--jsn'], /unknown option '--jsn'/],
    [['ops', 'state', '--token', 'abc'], /unknown option '--token'/],
    [['ops', 'cpu', '--seconds', '-1'], /--seconds is '-1'; allowed: a whole number from 1/],
    [['ops', 'loggers', 'set', 'app', 'debug', '--ttl', '10'], /--ttl is '10'; allowed: a time such as/],
    [['ops', 'call', 'PATCH', '/x'], /the method is 'PATCH'/],
    [['ops', 'call', 'POST', '/x', '[1]'], /the body is no JSON object/],
    [['ops', 'heap', 'snapshot', '-o', 'no/such/folder/x'], /-o: there is no folder/],
    [['ops', 'heap', 'snapshot', '-o', '/etc/passwd/x'], /-o: nothing can be written to \/etc\/passwd\/x \(ENOTDIR\)/],
    [['ops', 'heap', 'snapshot', '-o', 'x'.repeat(300)], /-o: nothing can be written to x+ \(ENAMETOOLONG\)/],
    [['ops', 'rules', 'arm', 'x'], /needs one of --leak and --over/],
    [['completion', 'tcsh'], /allowed: bash, zsh, fish/],
  ] as const) {
    const terminal = new Terminal()
    assert.equal(await terminal.run(...argv), 2, argv.join(' '))
    assert.match(terminal.stderr.text, text)
    assert.match(terminal.stderr.text, /^lameduck: [^\n]* \[ERR_LAMEDUCK_CLI_\w+\]\n$/)
    assert.equal(terminal.stdout.text, '')
  }
})

test('a token comes from a file or the environment, and goes into the header only', async () => {
  await using endpoint = new Endpoint({ 'GET /info': info('shop') })
  const where = await endpoint.listen()
  const terminal = new Terminal({ env: { LAMEDUCK_OPS_TOKEN: 'from-environment' } })
  const file = join(terminal.folder, 'token')
  writeFileSync(file, 'from-file\n', { mode: 0o644 })
  assert.equal(await terminal.run('ops', ...where, 'info'), 0)
  assert.equal(await terminal.run('ops', ...where, 'info', '--token-file', file), 0)
  assert.deepEqual(endpoint.asked.map(({ headers, url }) => [headers.authorization, url]), [['Bearer from-environment', '/info'], ['Bearer from-file', '/info']])
  assert.match(terminal.stderr.text, /can be read by others; chmod 600/)
  writeFileSync(file, 'two tokens')
  assert.equal(await terminal.run('ops', ...where, 'info', '--token-file', file), 2)
  assert.doesNotMatch(terminal.stderr.text, /two tokens|from-/)
})

test('a token does not go over plain http to another machine', async () => {
  const terminal = new Terminal({ env: { LAMEDUCK_OPS_TOKEN: 'x' } })
  assert.equal(await terminal.run('ops', 'info', '--url', 'http://192.0.2.1:9000'), 2)
  assert.match(terminal.stderr.text, /ERR_LAMEDUCK_CLI_INSECURE/)
})

test('over https the certificate is checked, and --ca says whom to trust', async () => {
  const tls = { cert: readFileSync(fixture('cert.pem')), key: readFileSync(fixture('key.pem')) }
  await using endpoint = new Endpoint({ 'GET /info': info('shop') }, tls)
  const where = await endpoint.listen({ port: 0 })
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', ...where, 'info'), 3)
  assert.match(terminal.stderr.text, /--ca FILE/)
  assert.equal(await terminal.run('ops', ...where, 'info', '--ca', fixture('cert.pem')), 0, terminal.stderr.text)
})

test('LAMEDUCK_OPS_URL may have the path that the endpoint is mounted under', async () => {
  await using endpoint = new Endpoint({ 'GET /internal/ops/info': info('shop') })
  await endpoint.listen({ port: 0 })
  const terminal = new Terminal({ env: { LAMEDUCK_OPS_URL: `${endpoint.url}/internal/ops/` } })
  assert.equal(await terminal.run('ops', 'info'), 0, terminal.stderr.text)
})

test('what the endpoint refuses is one line with its code, what to do, and an exit code by kind', async () => {
  const refuse = (status: number, code: string, detail: string, more: object = {}): Answer => (_, res) => problem(res, status, code, detail, more)
  for (const [answer, exit, text] of [
    [refuse(401, 'ERR_LAMEDUCK_OPS_TOKEN', 'a valid token is needed'), 4, /LAMEDUCK_OPS_TOKEN or --token-file FILE \[ERR_LAMEDUCK_OPS_TOKEN\]/],
    [refuse(403, 'ERR_LAMEDUCK_OPS_SCOPE', 'needs more', { scope: 'diag' }), 4, /needs a token with scope diag/],
    [refuse(421, 'ERR_LAMEDUCK_OPS_HOST', 'not this host'), 4, /`hosts`/],
    [refuse(409, 'ERR_LAMEDUCK_OPS_BUSY', 'heap-snapshot of ann is running'), 1, /of ann is running; see `lameduck ops jobs`/],
    [refuse(429, 'ERR_LAMEDUCK_OPS_COOLDOWN', 'too soon', { retryAfterMs: 41_200 }), 1, /try again in 42 s/],
    [refuse(503, 'ERR_LAMEDUCK_OPS_BLOCKED', 'the main thread did not answer'), 1, /lameduck ops stack/],
    [refuse(404, 'ERR_LAMEDUCK_OPS_NOT_FOUND', 'nothing \u001b[31mhere\nat all'), 1, /nothing \\x1b\[31mhere\\nat all; not there/],
    [((_, res) => res.writeHead(502).end('<html>')) satisfies Answer, 1, /status 502 .*\[ERR_LAMEDUCK_CLI_ANSWER\]/],
    [((_, res) => res.end('no json')) satisfies Answer, 1, /the answer is no JSON/],
    [((_, res) => res.destroy()) satisfies Answer, 3, /cannot be reached/],
  ] as const) {
    await using endpoint = new Endpoint({ 'GET /info': answer as Answer })
    const where = await endpoint.listen()
    const terminal = new Terminal()
    assert.equal(await terminal.run('ops', ...where, 'info'), exit)
    assert.match(terminal.stderr.text, text)
    assert.match(terminal.stderr.text, /^[^\n]+\n$/)
  }
})

test('connections shows each request in flight and who holds the drain; a stranger\'s path cannot steer the terminal', async () => {
  const inFlight = [{ method: 'GET', path: '/slow\u001b[2J', ageMs: 61_000, remote: '10.0.0.1:99', bytesRead: 100, bytesWritten: 2_048 }]
  await using endpoint = new Endpoint({
    'GET /connections': { asOfMs: 12, blockedMs: 0, state: 'draining', connections: { active: 1, upgraded: 2, total: 3 }, inFlight, holding: [...inFlight, { state: 'upgraded', count: 2 }] },
  })
  const where = await endpoint.listen()
  const terminal = new Terminal({ tty: true })
  assert.equal(await terminal.run('ops', ...where, 'connections'), 0)
  assert.match(terminal.stdout.text, /1m 01s +GET +\/slow\\x1b\[2J +10\.0\.0\.1:99 +100 B +2\.0 KiB/)
  assert.match(terminal.stdout.text, /the drain waits for.* 1 requests \(oldest: GET \/slow\\x1b\[2J of 10\.0\.0\.1:99, for 1m 01s\), 2 connections upgraded/)
  assert.ok(!terminal.stdout.text.includes('\u001b[2J'))
})

test('colours are for a terminal only, and not with NO_COLOR', async () => {
  await using endpoint = new Endpoint({ 'GET /state': STATE })
  const where = await endpoint.listen()
  const outputs = []
  for (const [tty, env] of [[true, {}], [true, { NO_COLOR: '1' }], [true, { TERM: 'dumb' }], [false, {}]] as const) {
    const terminal = new Terminal({ tty, env })
    assert.equal(await terminal.run('ops', ...where, 'state'), 0)
    outputs.push(terminal.stdout.text)
  }
  const [coloured = '', ...plain] = outputs
  assert.ok(coloured.includes('\u001b['))
  for (const text of plain) assert.equal(text, stripVTControlCharacters(coloured))
})

test('a blocked main thread is said before what is known of it', async () => {
  await using endpoint = new Endpoint({ 'GET /state': { ...STATE, blockedMs: 4_200, asOfMs: 5_000 } })
  const where = await endpoint.listen()
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', ...where, 'state'), 0)
  assert.match(terminal.stderr.text, /blocked for 4\.2 s \(see where: lameduck ops stack\); this is 5\.0 s old/)
})

test('--json gives what the endpoint answered, and nothing else, before or behind the command', async () => {
  await using endpoint = new Endpoint({ 'GET /state': STATE, 'GET /metrics': (_, res) => res.end('lameduck_x 1\n') })
  const where = await endpoint.listen()
  for (const argv of [['ops', '--json', ...where, 'state'], ['ops', ...where, 'state', '--json']]) {
    const terminal = new Terminal({ tty: true })
    assert.equal(await terminal.run(...argv), 0)
    assert.deepEqual(JSON.parse(terminal.stdout.text), STATE)
  }
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', ...where, 'metrics'), 0)
  assert.equal(terminal.stdout.text, 'lameduck_x 1\n')
})

test('gc --follow prints a line for each collection, and ends with the stream or with Ctrl-C', async () => {
  const major = { id: 1, kind: 'major', at: 0, pauseMs: 12.5, forced: true, before: { used: 2 ** 20 }, after: { used: 2 ** 19 }, source: 'perf_hooks', exact: true }
  let end = true
  await using endpoint = new Endpoint({
    'GET /gc/stream': (_, res) => {
      res.writeHead(200, { 'Content-Type': 'text/event-stream' })
      // In pieces, as a network gives them.
      const text = `: hello\n\nid: a-1\r\nevent: gc\r\ndata: ${JSON.stringify(major)}\r\n\r\n`
      for (const char of text) res.write(char)
      if (end) res.end()
    },
  })
  const where = await endpoint.listen()
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', ...where, 'gc', '--follow'), 0)
  assert.equal(terminal.stdout.text, '1970-01-01T00:00:00.000Z  major     12.5 ms     1.0 MiB ->  512.0 KiB  forced\n')
  end = false
  const running = new Terminal()
  const exited = running.run('ops', ...where, 'gc', '-f', '--json')
  await running.stdout.says('"major"')
  running.emit('SIGINT')
  assert.equal(await exited, 0)
  assert.equal(JSON.parse(running.stdout.text).pauseMs, 12.5)
  assert.equal(running.listenerCount('SIGINT'), 0)
})

test('gc and gc now tell pauses, what was left, and what was freed', async () => {
  await using endpoint = new Endpoint({
    'GET /gc': {
      source: { source: 'gc-stats' }, since: '2026-01-01T00:00:00.000Z', boundsMs: [1, 2], pauses: { minor: { count: 40, sumMs: 60, p99Ms: 3 } },
      majors: [{ at: 0, pauseMs: 5, forced: false, before: { used: 3 * 2 ** 20 }, after: { used: 2 ** 20, rss: 2 ** 26 } }],
    },
    'POST /gc': { at: 0, pauseMs: 30, before: { used: 2 ** 21 }, after: { used: 2 ** 20 }, freedBytes: 2 ** 20 },
  })
  const where = await endpoint.listen()
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', ...where, 'gc'), 0)
  assert.match(terminal.stdout.text, /source gc-stats/)
  assert.match(terminal.stdout.text, /^minor +40 +60 ms +3 ms$/m)
  assert.match(terminal.stdout.text, /5 ms +3\.0 MiB +1\.0 MiB +64\.0 MiB/)
  assert.equal(await terminal.run('ops', ...where, 'gc', 'now'), 0)
  assert.match(terminal.stdout.text, /2\.0 MiB -> 1\.0 MiB: 1\.0 MiB freed, the process stood still for 30 ms/)
})

test('leaks says the verdict in words, with figures and a picture', async () => {
  const evidence = { points: [[0, 2 ** 20], [1, 2 ** 21], [2, 3 * 2 ** 20]], tau: 1, z: 9, pace: 1, paceError: 0.1, evenness: 0.8, growth: 2, growthNeeded: 0.5, highest: 2 ** 20 }
  await using endpoint = new Endpoint({
    'GET /leaks': {
      verdict: 'suspected', growing: ['usedHeap'], gcs: 130, forced: 2, grown: { stacks: [{ grew: 2 ** 20, stack: ['remember (/app/cache.js:3:5)'] }] },
      series: { usedHeap: { verdict: 'suspected', reason: 'it grows', level: 3 * 2 ** 20, perGc: 1_024, perHour: 2 ** 20, confidence: 0.97, window: { gcs: 120, from: 0, to: 3_600_000 }, evidence } },
    },
  })
  const where = await endpoint.listen()
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', ...where, 'leaks'), 0)
  assert.match(terminal.stdout.text, /^verdict: suspected\. a leak, or a cache that still fills/m)
  assert.match(terminal.stdout.text, /1\.0 KiB per major GC, 1\.0 MiB per hour, confidence 97 %/)
  assert.match(terminal.stdout.text, /120 major GCs in 1h 00m/)
  assert.match(terminal.stdout.text, /▁▅█ {2}1\.0 MiB -> 3\.0 MiB/)
  assert.match(terminal.stdout.text, /remember \(\/app\/cache\.js:3:5\)/)
})
