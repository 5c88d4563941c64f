import assert from 'node:assert/strict'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { WebSocketServer, type WebSocket } from 'ws'
import { Endpoint, Terminal } from './fixtures/cli-endpoint.ts'

interface Message { id: number; type: string; code: string; sideEffects?: boolean; timeoutMs?: number }

/** Speaks the protocol of `/repl`: adds numbers up, and nothing else. */
function adder(endpoint: Endpoint): { heard: Message[]; sockets: WebSocket[]; headers: (string | undefined)[] } {
  const seen = { heard: [] as Message[], sockets: [] as WebSocket[], headers: [] as (string | undefined)[] }
  const server = new WebSocketServer({ noServer: true })
  endpoint.server.on('upgrade', (req, socket, head) => {
    seen.headers.push(req.headers.authorization)
    if (req.headers.authorization === 'Bearer weak') {
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nConnection: close\r\n\r\n{"code":"ERR_LAMEDUCK_OPS_SCOPE","detail":"needs more","scope":"eval"}')
      return
    }
    server.handleUpgrade(req, socket, head, client => {
      seen.sockets.push(client)
      client.send(JSON.stringify({ type: 'hello', node: 'v20.0.0', idleMs: 600_000, maxBytes: 16_384 }))
      client.on('message', (data: Buffer) => {
        const message = JSON.parse(data.toString('utf8')) as Message
        seen.heard.push(message)
        answer(client, message)
      })
    })
  })
  return seen
}

function answer(client: WebSocket, { id, type, code }: Message): void {
  const send = (value: object) => client.send(JSON.stringify({ id, ...value }))
  if (type === 'complete') return send({ type: 'completion', prefix: 'pro', names: ['process', 'process2'] })
  if (code === 'refuse') return send({ type: 'error', status: 503, code: 'ERR_LAMEDUCK_OPS_BLOCKED', detail: 'blocked' })
  if (code.startsWith('print')) send({ type: 'console', level: 'warning', text: 'printed' })
  if (code === 'change()') return send({ type: 'result', ok: false, exception: { text: 'EvalError: Possible side-effect', line: 1, column: 1, sideEffect: true } })
  const open = code.endsWith('+')
  if (open) return send({ type: 'result', ok: false, recoverable: true, exception: { text: 'SyntaxError', line: 1, column: 1, sideEffect: false } })
  return send({ type: 'result', ok: true, text: String(code.split('+').reduce((sum, part) => sum + Number(part), 0)) })
}

test('lines from a pipe are evaluated in order, and only their values are printed', async () => {
  await using endpoint = new Endpoint({})
  const { heard, headers } = adder(endpoint)
  const where = await endpoint.listen()
  const terminal = new Terminal({ env: { LAMEDUCK_OPS_TOKEN: 'strong' } })
  terminal.stdin.end('1 + 2\n1 +\n4\nchange()\nrefuse\nprint\n.exit\n9\n')
  assert.equal(await terminal.run('ops', ...where, 'repl', '--timeout', '2'), 0, terminal.stderr.text)
  assert.equal(terminal.stdout.text, [
    '3', '5', 'Uncaught EvalError: Possible side-effect', '(it would change something, or V8 cannot rule that out; --side-effects lets it)',
    'blocked [ERR_LAMEDUCK_OPS_BLOCKED]', 'warning: printed', 'NaN', '',
  ].join('\n'))
  assert.deepEqual(heard.map(({ code }) => code), ['1 + 2', '1 +', '1 +\n4', 'change()', 'refuse', 'print'])
  assert.equal(heard[0]?.timeoutMs, 2_000)
  assert.deepEqual(headers, ['Bearer strong'])
})

test('over TCP as well', async () => {
  await using endpoint = new Endpoint({})
  adder(endpoint)
  const where = await endpoint.listen({ port: 0 })
  const terminal = new Terminal()
  terminal.stdin.end('2 + 2\n')
  assert.equal(await terminal.run('ops', ...where, 'repl'), 0, terminal.stderr.text)
  assert.equal(terminal.stdout.text, '4\n')
})

test('who may not is told so with exit code 4; an endpoint without a REPL with 1; none with 3', async () => {
  await using endpoint = new Endpoint({})
  adder(endpoint)
  const where = await endpoint.listen()
  const weak = new Terminal({ env: { LAMEDUCK_OPS_TOKEN: 'weak' } })
  assert.equal(await weak.run('ops', ...where, 'repl'), 4)
  assert.match(weak.stderr.text, /needs more; needs a token with scope eval.*\[ERR_LAMEDUCK_OPS_SCOPE\]/)
  await using without = new Endpoint({})
  const terminal = new Terminal()
  assert.equal(await terminal.run('ops', ...await without.listen(), 'repl'), 1)
  assert.match(terminal.stderr.text, /not switched on in this process/)
  assert.equal(await terminal.run('ops', '--socket', join(terminal.folder, 'none'), 'repl'), 3)
})

test('an end by idle time is said, with exit code 0; a lost connection is 3', async () => {
  await using endpoint = new Endpoint({})
  const { sockets } = adder(endpoint)
  const where = await endpoint.listen()
  for (const [end, exit, text] of [
    [(socket: WebSocket) => socket.close(1_000, 'idle for 600000 ms'), 0, /the endpoint ended the session: idle for 600000 ms/],
    [(socket: WebSocket) => socket.close(1_001, 'the endpoint closes'), 3, /cut off: the endpoint closes/],
    [(socket: WebSocket) => socket.terminate(), 3, /cut off: code 1006/],
  ] as const) {
    const terminal = new Terminal()
    const exited = terminal.run('ops', ...where, 'repl')
    terminal.stdin.write('1\n')
    await terminal.stdout.says('1\n')
    end(sockets.at(-1) as WebSocket)
    assert.equal(await exited, exit)
    assert.match(terminal.stderr.text, text)
  }
})

test('on a terminal Tab completes, Ctrl-C clears and then leaves, and the history is kept for this user alone', async () => {
  await using endpoint = new Endpoint({})
  const { heard } = adder(endpoint)
  const where = await endpoint.listen()
  const terminal = new Terminal({ tty: true })
  const exited = terminal.run('ops', ...where, 'repl', '--side-effects')
  await terminal.stdout.says('lameduck> ')
  assert.match(terminal.stdout.text, /lines may change something; ends when idle for 10m 00s/)
  terminal.stdin.write('1 +\r')
  await terminal.stdout.says('... ')
  terminal.stdin.write('41\r')
  await terminal.stdout.says('42')
  terminal.stdin.write('pro\t')
  await terminal.stdout.says('cess')
  terminal.stdin.write('\u0003')
  terminal.stdin.write('.help\r')
  await terminal.stdout.says('Ctrl-D')
  terminal.stdin.write('\u0003')
  await terminal.stdout.says('(Ctrl-C again')
  // Typed and taken back: what was typed was meant, so the next one is a first one.
  terminal.stdin.write('x\u007f')
  terminal.stdin.write('\u0003')
  await terminal.stdout.says(/\(Ctrl-C again[^]*\(Ctrl-C again/)
  terminal.stdin.write('\u0003')
  assert.equal(await exited, 0, terminal.stderr.text)
  assert.deepEqual(heard.map(({ type, code, sideEffects }) => [type, code, sideEffects]), [['eval', '1 +', true], ['eval', '1 +\n41', true], ['complete', 'pro', undefined]])
  const history = join(terminal.folder, '.local/state/lameduck/repl_history')
  assert.equal(statSync(history).mode & 0o777, 0o600)
  assert.equal(statSync(join(history, '..')).mode & 0o777, 0o700)
  assert.deepEqual(readFileSync(history, 'utf8').split('\n').slice(0, 3), ['.help', '41', '1 +'])
})
