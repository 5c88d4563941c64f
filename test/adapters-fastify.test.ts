import assert from 'node:assert/strict'
import dns from 'node:dns'
import { once } from 'node:events'
import net, { type AddressInfo } from 'node:net'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { lameduck } from '../src/adapters/fastify.ts'
import { Client } from './_client.ts'
import { Stopwatch } from './_stopwatch.ts'
import { QUICK } from './_world.ts'

/** A test that failed leaves its application listening. */
const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map(app => app.lameduck.abort('the tests are over'))))

/** An application that listens, with one request in flight once `busy()` has settled. */
async function listening(options: FastifyServerOptions, make: (app: FastifyInstance) => void | Promise<void>, own: object = {}) {
  const app = fastify(options)
  await app.register(lameduck, { ...QUICK, ...own })
  apps.push(app)
  app.get('/', async () => 'hello')
  app.get('/slow', async () => sleep(200, 'slow'))
  await make(app)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const open = () => Client.open({ host: '127.0.0.1', port })
  const busy = async () => {
    const client = await open()
    client.request('/slow')
    while (app.lameduck.stats().inFlight.length === 0) await sleep(5)
    return client
  }
  return { app, port, open, busy }
}

for (const [how, begin] of [
  ['app.close()', (app: FastifyInstance) => app.close()],
  ['app.close(callback)', (app: FastifyInstance) => new Promise<void>(resolve => app.close(resolve))],
  ['a drain', (app: FastifyInstance) => app.lameduck.drain()],
] as const) {
  test(`fastify, ${how}: preClose while requests are in flight, onClose when all are answered, each once, in their order`, async () => {
    const calls: string[] = []
    let answered = false
    let release = () => {}
    const released = new Promise<void>(resolve => {
      release = resolve
    })
    const { app, open } = await listening({}, async app => {
      app.get('/held', async () => released.then(() => 'held'))
      app.addHook('onClose', async () => void calls.push(`onClose 1, answered: ${answered}`))
      app.addHook('preClose', async () => void calls.push(`preClose 1, answered: ${answered}`))
      await app.register(async child => {
        child.addHook('preClose', done => void sleep(10).then(() => {
          calls.push(`preClose 2, answered: ${answered}`)
          done()
        }))
        child.addHook('onClose', (_instance, done) => {
          calls.push('onClose 2')
          done()
        })
      })
      app.addHook('preClose', async () => {
        calls.push('preClose 3')
        release()
      })
    })
    const client = await open()
    client.request('/held')
    while (app.lameduck.stats().inFlight.length === 0) await sleep(5)
    const ended = begin(app)
    const answer = await client.answer()
    answered = true
    assert.equal(answer.header('connection'), 'close')
    await ended
    assert.deepEqual(calls, [
      'preClose 1, answered: false', 'preClose 2, answered: false', 'preClose 3', 'onClose 2', 'onClose 1, answered: true',
    ])
    const report = await app.lameduck.drain()
    assert.equal(report.outcome, 'clean')
    assert.deepEqual(report.hooks.map(({ name, outcome }) => [name, outcome]), [['fastify app.close()', 'ok']])
    // Nothing of it again.
    await app.close()
    assert.equal(calls.length, 5)
  })
}

test('fastify: a connection that a preClose hook ends does not hold the drain', async () => {
  const streams = new Set<NodeJS.WritableStream>()
  const { app, open } = await listening({}, app => {
    app.get('/forever', (_request, reply) => {
      reply.hijack()
      reply.raw.write('first')
      streams.add(reply.raw)
    })
    app.addHook('preClose', async () => {
      for (const stream of streams) stream.end('-last')
    })
  })
  const client = await open()
  client.request('/forever')
  await client.received(5)
  await app.close()
  assert.equal((await client.answer()).text, 'first-last')
  assert.equal((await app.lameduck.drain()).outcome, 'clean')
})

test('fastify: what still arrives while draining is served, where fastify alone would answer 503', async () => {
  const { app, open, busy } = await listening({ return503OnClosing: true }, () => {}, { quietMs: 3_000 })
  const other = await open()
  other.request('/')
  await other.answer()
  const client = await busy()
  const closed = app.close()
  while (app.lameduck.state !== 'draining') await sleep(1)
  other.request('/')
  const answer = await other.answer()
  assert.deepEqual([answer.status, answer.text, answer.header('connection')], [200, 'hello', 'close'])
  assert.equal((await client.answer()).status, 200)
  await closed
})

test('fastify, admit: reject: the 503 passes the error handler and onSend, unknown routes included', async () => {
  const { app, open, busy } = await listening({}, app => {
    app.addHook('onSend', async (_request, reply) => void reply.header('X-Sent', 'yes'))
    app.setErrorHandler<Error & { code: string, statusCode: number }>((error, _request, reply) => reply.send({ told: error.code }))
  }, { admit: 'reject', quietMs: 3_000, retryAfterMs: 2_500 })
  const others = [await open(), await open()]
  for (const other of others) {
    other.request('/')
    assert.equal((await other.answer()).status, 200)
  }
  const client = await busy()
  const closed = app.close()
  while (app.lameduck.state !== 'draining') await sleep(1)
  for (const [i, path] of ['/', '/unknown'].entries()) {
    const other = others[i] as Client
    other.request(path)
    const answer = await other.answer()
    assert.equal(answer.status, 503)
    assert.equal(answer.text, '{"told":"ERR_LAMEDUCK_DRAINING"}')
    const headers = ['retry-after', 'connection', 'x-sent'].map(name => answer.header(name))
    assert.deepEqual(headers, ['3', 'close', 'yes'])
  }
  assert.equal((await client.answer()).status, 200)
  await closed
  assert.equal((await app.lameduck.drain()).rejected, 2)
})

test('fastify: a preClose hook that fails makes app.close() reject, as without lameduck, and onClose run', async () => {
  const calls: string[] = []
  const { app } = await listening({}, app => {
    app.addHook('preClose', async () => {
      throw new Error('not ready to go')
    })
    app.addHook('onClose', async () => void calls.push('onClose'))
  })
  await assert.rejects(async () => app.close(), /not ready to go/)
  assert.deepEqual(calls, ['onClose'])
  assert.deepEqual((await app.lameduck.drain()).hooks.map(({ outcome }) => outcome), ['failed'])
})

test('fastify: forceCloseConnections cuts nothing that is in flight', async () => {
  const { app, busy } = await listening({ forceCloseConnections: true }, () => {})
  const client = await busy()
  await Promise.all([app.close(), client.answer().then(({ text }) => assert.equal(text, 'slow'))])
})

test('fastify: each address of localhost drains', { skip: await lacks('127.0.0.2') }, async t => {
  const lookup = dns.lookup as (...args: unknown[]) => void
  t.mock.method(dns, 'lookup', (host: string, options: { all?: boolean }, done: (error: null, found: object[]) => void) => {
    if (host === 'localhost' && options.all) done(null, ['127.0.0.1', '127.0.0.2'].map(address => ({ address, family: 4 })))
    else lookup(host, options, done)
  })
  const app = fastify()
  await app.register(lameduck, QUICK)
  apps.push(app)
  app.get('/slow', async () => sleep(200, 'slow'))
  await app.listen({ port: 0, host: 'localhost' })
  const addresses = app.addresses() as AddressInfo[]
  assert.deepEqual(addresses.map(({ address }) => address).toSorted(), ['127.0.0.1', '127.0.0.2'])
  const clients = await Promise.all(addresses.map(({ address: host, port }) => Client.open({ host, port })))
  for (const client of clients) client.request('/slow')
  while (app.lameduck.stats().inFlight.length < 2) await sleep(5)
  const closed = app.close()
  for (const client of clients) {
    const answer = await client.answer()
    assert.deepEqual([answer.text, answer.header('connection')], ['slow', 'close'])
    assert.equal(await client.ended(), 'fin')
  }
  await closed
  assert.equal((await app.lameduck.drain()).outcome, 'clean')
})

function lacks(host: string): Promise<string | false> {
  const server = net.createServer().listen(0, host)
  return once(server, 'listening').then(() => (server.close(), false), () => `this machine has no ${host}`)
}

test('fastify: inject() and ready() work as before, up to the end of the lame duck', async () => {
  const app = fastify()
  await app.register(lameduck, QUICK)
  app.get('/', async request => String(request.lameduck === app.lameduck))
  await app.ready()
  assert.equal((await app.inject('/')).body, 'true')
  app.lameduck.lameduck()
  assert.equal((await app.inject('/')).statusCode, 200)
  const watch = new Stopwatch()
  await app.close()
  watch.assertUnder(1_000)
  await assert.rejects(app.inject('/'), { code: 'FST_ERR_REOPENED_CLOSE_SERVER' })
})

test('fastify: registered in a scope of its own, it is the application\'s all the same', async () => {
  const app = fastify()
  await app.register(async child => {
    await child.register(lameduck, QUICK)
  })
  await app.ready()
  assert.equal(app.lameduck.state, 'running')
  await app.close()
  assert.equal((await app.lameduck.drain()).reason, 'app.close()')
})

test('fastify: close() is for good, also when the drain is resumed', async () => {
  const { app, open } = await listening({}, () => {}, { lameduckMs: 2_000 })
  const client = await open()
  client.request('/')
  await client.answer()
  const closed = app.close()
  assert.equal(app.lameduck.state, 'lameduck')
  app.lameduck.resume()
  await closed
  assert.equal(app.server.listening, false)
  assert.equal(await client.ended(), 'fin')
})

test('fastify: the log of a drain is the application\'s', async () => {
  const lines: string[] = []
  const app = fastify({ logger: { stream: { write: line => void lines.push(line) } } })
  await app.register(lameduck, QUICK)
  await app.close()
  assert.match(lines.join(''), /"msg":"lameduck: app\.close\(\): draining/)
})

test('fastify: an option that does not exist refuses the registration', async () => {
  const app = fastify()
  app.register(lameduck, { timeout: 1 } as object)
  await assert.rejects(async () => app.ready(), { code: 'ERR_LAMEDUCK_OPTION', message: /options\.timeout \(1\) is no option/ })
})

test('fastify: options that are none refuse the registration', async () => {
  for (const options of [5, 'text', () => 5] as never[]) {
    const app = fastify()
    app.register(lameduck, options)
    await assert.rejects(async () => app.ready(), { code: 'ERR_LAMEDUCK_OPTION', message: /^options is / })
  }
})

test('fastify: a server that lameduck cannot wrap refuses the registration', async () => {
  const app = fastify({ serverFactory: () => net.createServer() as never })
  app.register(lameduck, QUICK)
  await assert.rejects(async () => app.ready(), { code: 'ERR_LAMEDUCK_SERVER', message: /cannot wrap Server/ })
})
