import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Endpoint, Terminal, type Answer } from './fixtures/cli-endpoint.ts'

test('what changes the process is asked for as the endpoint has it', async () => {
  const logger = { name: 'app', level: 'debug', before: 'info', until: '2026-01-01T00:10:00.000Z', levels: ['info', 'debug'] }
  const rule = { name: 'full', when: { series: 'usedHeap', overPercent: 70 }, action: 'snapshot', times: 3, withinMs: 600_000, state: 'armed', acted: 0, count: 1 }
  const gone: Answer = (_, res) => res.writeHead(204).end()
  await using endpoint = new Endpoint({
    'POST /lameduck': { state: 'lameduck' }, 'POST /resume': { state: 'running' }, 'POST /drain': { outcome: 'clean', durationMs: 1_500, served: 3, hooks: [] },
    'GET /loggers': [logger], 'PUT /loggers/app': logger, 'DELETE /loggers/app': { name: 'app', level: 'info' },
    'GET /rules': { rules: [rule], left: 9 }, 'PUT /rules/full': rule, 'DELETE /rules/full': gone, 'DELETE /artifacts/a.heapsnapshot.gz': gone, 'DELETE /jobs/7': (_, res) => res.writeHead(202).end('{}'),
    'POST /cache/clear': { cleared: 3, freedBytes: 2_048 },
  })
  const where = await endpoint.listen()
  const terminal = new Terminal()
  const run = async (...argv: string[]) => assert.equal(await terminal.run('ops', ...where, ...argv), 0, `${argv.join(' ')}: ${terminal.stderr.text}`)
  await run('lameduck')
  await run('resume')
  await run('drain', '--exit', '--deadline', '5s')
  await run('loggers')
  await run('loggers', 'set', 'app', 'debug', '--ttl', '10m')
  await run('loggers', 'reset', 'app')
  await run('rules')
  await run('rules', 'arm', 'full', '--over', '70%', '--times', '3', '--within', '10m', '--isolate')
  await run('rules', 'arm', 'full', '--leak', 'watch')
  await run('rules', 'disarm', 'full')
  await run('artifacts', 'rm', 'a.heapsnapshot.gz')
  await run('jobs', 'cancel', '7')
  await run('call', 'post', '/cache/clear?all=true', '{"name":"users"}')
  terminal.stdin.end('{"from":"stdin"}')
  await run('call', 'POST', '/cache/clear', '-')
  assert.deepEqual(endpoint.calls, [
    'POST /lameduck', 'POST /resume', 'POST /drain?exit=true&deadlineMs=5000',
    'GET /loggers', 'PUT /loggers/app {"level":"debug","ttlMs":600000}', 'DELETE /loggers/app',
    'GET /rules', 'PUT /rules/full {"when":{"series":"usedHeap","overPercent":70},"action":"snapshot","times":3,"withinMs":600000,"params":{"isolate":true}}',
    // No snapshot is taken of what is not sure yet.
    'PUT /rules/full {"when":{"leak":"watch"},"action":"profile"}', 'DELETE /rules/full',
    'DELETE /artifacts/a.heapsnapshot.gz', 'DELETE /jobs/7', 'POST /cache/clear?all=true {"name":"users"}', 'POST /cache/clear {"from":"stdin"}',
  ])
  for (const text of ['state: lameduck', 'outcome   clean\nduration  1.5 s', 'app     debug  info', 'usedHeap over 70 % of the limit, 3 times in 10m 00s', 'freed    2.0 KiB']) assert.ok(terminal.stdout.text.includes(text), `${text} in\n${terminal.stdout.text}`)
})

test('a path that looks like another host stays with the endpoint', async () => {
  await using endpoint = new Endpoint({ 'GET //192.0.2.1/x': { here: true } })
  await endpoint.listen({ port: 0 })
  const terminal = new Terminal({ env: { LAMEDUCK_OPS_URL: endpoint.url, LAMEDUCK_OPS_TOKEN: 'secret' } })
  assert.equal(await terminal.run('ops', 'call', 'GET', '//192.0.2.1/x'), 0, terminal.stderr.text)
  assert.deepEqual(endpoint.calls, ['GET //192.0.2.1/x'])
})

test('call prints the JSON of a probe that fails, and ends with 1', async () => {
  const probe: Answer = (_, res) => res.writeHead(503, { 'Content-Type': 'application/json' }).end('{"status":"unavailable"}')
  await using endpoint = new Endpoint({ 'GET /readyz': probe })
  const where = await endpoint.listen()
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', ...where, 'call', 'GET', '/readyz'), 1)
  assert.equal(terminal.stdout.text, 'status  unavailable\n')
  assert.equal(terminal.stderr.text, 'lameduck: GET /readyz: status 503 [ERR_LAMEDUCK_CLI_ANSWER]\n')
})

test('call shows what an application calls JSON and is none', async () => {
  const answer = (text: string): Answer => (_, res) => res.writeHead(200, { 'Content-Type': 'application/json' }).end(text)
  await using endpoint = new Endpoint({ 'GET /text': answer('not\u0007json\n'), 'GET /empty': answer('') })
  const where = await endpoint.listen()
  for (const [path, tty, shown] of [['/text', false, 'not\u0007json\n'], ['/text', true, 'not\\x07json\n'], ['/empty', false, '']] as const) {
    const terminal = new Terminal({ tty })
    assert.equal(await terminal.run('ops', ...where, 'call', 'GET', path), 0, terminal.stderr.text)
    assert.equal(terminal.stdout.text, shown)
  }
})

test('what strangers wrote cannot steer a terminal, and is as it is in a pipe', async () => {
  const text = 'app{path="\u001b]0;pwned\u0007"} 1\n'
  const plain: Answer = (_, res) => res.writeHead(200, { 'Content-Type': 'text/plain' }).end(text)
  await using endpoint = new Endpoint({ 'GET /metrics': plain, 'GET /text': plain })
  const where = await endpoint.listen()
  for (const argv of [['metrics'], ['call', 'GET', '/text']]) {
    const [terminal, pipe] = [new Terminal({ tty: true }), new Terminal()]
    for (const one of [terminal, pipe]) assert.equal(await one.run('ops', ...where, ...argv), 0)
    assert.equal(terminal.stdout.text, 'app{path="\\x1b]0;pwned\\x07"} 1\n')
    assert.equal(pipe.stdout.text, text)
  }
})

test('an answer that does not end is shown as it comes, on a terminal, too', async () => {
  let end = () => {}
  await using endpoint = new Endpoint({
    'GET /gc/stream': (_, res) => {
      res.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('event: gc\n\n')
      end = () => res.end()
    },
  })
  const where = await endpoint.listen()
  for (const tty of [true, false]) {
    const terminal = new Terminal({ tty })
    const exited = terminal.run('ops', ...where, 'call', 'GET', '/gc/stream')
    await terminal.stdout.says(/event: gc/)
    end()
    assert.equal(await exited, 0)
  }
})

test('stack and eval show what the main thread says; an expression that throws ends with 1', async () => {
  await using endpoint = new Endpoint({
    'POST /stack': { state: 'running', busy: true, frames: [{ function: 'spin', file: '/app/a.js', line: 3, column: 7 }], takenAt: '', tookMs: 1 },
    'POST /eval': ({ body }, res) => res.end(JSON.stringify(JSON.parse(body).expression === '1 + 1'
      ? { ok: true, type: 'number', text: '2' }
      : { ok: false, exception: { text: 'EvalError: Possible side-effect', line: 1, column: 1, sideEffect: true } })),
  })
  const where = await endpoint.listen()
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', ...where, 'stack'), 0)
  assert.equal(await terminal.run('ops', ...where, 'eval', '1 + 1'), 0)
  assert.equal(terminal.stdout.text, 'the main thread runs:\n    at spin (/app/a.js:3:7)\n2\n')
  assert.equal(await terminal.run('ops', ...where, 'eval', '--side-effects', '--timeout', '2', 'x.clear()'), 1)
  assert.match(terminal.stderr.text, /it threw: EvalError.*--side-effects lets it \[ERR_LAMEDUCK_CLI_THREW\]/)
  assert.equal(endpoint.calls.at(-1), 'POST /eval {"expression":"x.clear()","sideEffects":true,"timeoutMs":2000}')
})
