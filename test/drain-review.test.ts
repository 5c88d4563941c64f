import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import net, { type AddressInfo } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from '../src/core/index.ts'
import { unstalled } from './_stopwatch.ts'
import { until } from './_until.ts'

// Corners that a review found: each of these went wrong once.

const quick = { signals: false, lameduckMs: 0, quietMs: 10, lingerMs: 50, deadlineMs: 3_000 } as const

async function listen(server: http.Server): Promise<number> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return (server.address() as AddressInfo).port
}

test('a reset behind a refused upgrade does not end the process', async () => {
  const server = http.createServer((_req, res) => void setTimeout(() => res.end('slow'), 200))
  server.on('upgrade', () => assert.fail('not to be called'))
  const duck = wrap(server, quick)
  const client = net.connect(await listen(server), '127.0.0.1')
  client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  await once(server, 'request')
  const drained = duck.drain()
  client.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
  await until(() => duck.stats().counters.refused === 1, 'the upgrade')
  client.resetAndDestroy()
  assert.equal((await drained).refused, 1)
})

test('a lame duck of more than half the deadline is as long as it was asked to be', async () => {
  const server = http.createServer()
  const duck = wrap(server, { ...quick, lameduckMs: 800, deadlineMs: 1_000 })
  const client = net.connect(await listen(server), '127.0.0.1').resume()
  await once(server, 'connection')
  assert.ok((await duck.drain()).durationMs >= 790)
  client.destroy()
})

test('resume() during a begin hook: the next one does not run, the running one is told', async () => {
  const duck = wrap(http.createServer(), { ...quick, lameduckMs: 500 })
  const ran: string[] = []
  duck.onDrain('first', async signal => {
    ran.push('first')
    await once(signal, 'abort')
    ran.push('told')
  }, { at: 'begin' })
  duck.onDrain('second', () => ran.push('second'), { at: 'begin' })
  const drained = duck.drain()
  await sleep(20)
  duck.resume()
  const { hooks, outcome } = await drained
  assert.equal(outcome, 'resumed')
  assert.deepEqual(hooks.map(hook => `${hook.name} ${hook.outcome}`), ['first aborted', 'second skipped'])
  assert.deepEqual(ran, ['first', 'told'])
})

test('a begin hook that hangs is in the report beside an end hook', () => unstalled(async () => {
  const duck = wrap(http.createServer(), { ...quick, deadlineMs: 1_000 })
  duck.onDrain('hang', () => new Promise(() => {}), { at: 'begin' })
  duck.onDrain('db', () => {})
  const { hooks } = await duck.drain()
  assert.deepEqual(hooks.map(hook => `${hook.name} ${hook.outcome}`), ['hang timeout', 'db ok'])
}))

test('a silent connection from before wrap() gets upgradedMs, and is named', async () => {
  const server = http.createServer()
  const client = net.connect(await listen(server), '127.0.0.1').resume()
  await once(server, 'connection')
  const duck = wrap(server, { ...quick, upgradedMs: 100 })
  const report = await duck.drain()
  assert.equal(report.unknown, 1)
  // Newer Nodes close it themselves.
  const left = Number.parseInt(process.versions.node) <= 24
  assert.deepEqual([report.outcome, report.destroyed.map(({ why }) => why)], left ? ['forced', ['unknown']] : ['clean', []])
  assert.ok(report.durationMs < 2_000)
  client.destroy()
})

test('writeHead without a reason phrase but with a third argument says close once', async () => {
  const server = http.createServer((_req, res) => {
    res.writeHead(200, undefined, { Connection: 'keep-alive', 'X-A': '1' })
    res.end('hello')
  })
  const duck = wrap(server, { ...quick, lameduckMs: 500 })
  const port = await listen(server)
  const client = net.connect(port, '127.0.0.1')
  await once(server, 'connection')
  const drained = duck.drain()
  client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  let text = ''
  client.on('data', chunk => (text += chunk))
  await once(client, 'end')
  client.end()
  assert.deepEqual(text.match(/^connection: .*$/gim), ['Connection: close'])
  assert.match(text, /X-A: 1/)
  await drained
})

test('resume() from a listener of the lame duck: answers are kept alive again', async () => {
  const server = http.createServer((_req, res) => res.end('hello'))
  const duck = wrap(server, { ...quick, lameduckMs: 500 })
  const port = await listen(server)
  duck.on('state', state => {
    if (state === 'lameduck') duck.resume()
  })
  assert.equal((await duck.drain()).outcome, 'resumed')
  const agent = new http.Agent({ keepAlive: true })
  const [res] = await once(http.get({ port, host: '127.0.0.1', agent }), 'response') as [http.IncomingMessage]
  assert.equal(res.headers.connection, 'keep-alive')
  await once(res.resume(), 'end')
  agent.destroy()
  server.close()
})

test('an asynchronous checkContinue listener with a request pipelined behind: both are answered once', async () => {
  const executed: string[] = []
  const server = http.createServer((req, res) => {
    executed.push(req.url ?? '')
    res.end(req.url)
  })
  server.on('checkContinue', (req: http.IncomingMessage, res: http.ServerResponse) => void setTimeout(() => {
    res.writeContinue()
    server.emit('request', req, res)
  }, 50))
  const duck = wrap(server, { ...quick, lameduckMs: 500 })
  const client = net.connect(await listen(server), '127.0.0.1')
  await once(server, 'connection')
  const drained = duck.drain()
  client.write('POST /1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhiGET /2 HTTP/1.1\r\nHost: a\r\n\r\n')
  let text = ''
  client.on('data', chunk => (text += chunk))
  await once(client, 'end')
  client.end()
  assert.deepEqual(executed.sort(), ['/1', '/2'])
  assert.deepEqual(text.match(/\/[12]$|\/[12](?=HTTP)/g), ['/1', '/2'])
  const { outcome, served, refused } = await drained
  assert.deepEqual({ outcome, served, refused }, { outcome: 'clean', served: 2, refused: 0 })
})
