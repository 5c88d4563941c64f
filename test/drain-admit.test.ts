import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Fault, Options, Reject } from '../src/core/index.ts'
import { app, release } from './_app.ts'
import { Client } from './_client.ts'
import { assertCloses, assertLast, turns } from './_scenario.ts'
import { rawWorld, type Handler, type Setup } from './_world.ts'

/** A draining site, and clients that were active a moment ago. */
async function draining(options: Options, count: number, setup: Setup = {}, handler: Handler = app) {
  const site = await rawWorld(false).start(handler, { ...setup, options: { quietMs: 3_000, ...options } })
  const faults: Fault[] = []
  site.duck!.on('fault', fault => faults.push(fault))
  const clients = await Promise.all(Array.from({ length: count }, () => Client.open(site.address)))
  for (const client of clients) {
    client.request('/')
    await client.answer()
  }
  const executed = site.executed.length
  const drained = site.drain()
  await turns()
  return { site, clients: clients as [Client, Client, Client], drained, faults, ran: () => site.executed.length - executed }
}

test('the default 503 is JSON, says when to try again, and closes', async () => {
  const { site, clients: [client], drained } = await draining({ admit: 'reject' }, 1)
  client.request('/')
  const answer = await assertLast(client, 503)
  assert.equal(answer.header('retry-after'), '1')
  assert.match(answer.header('content-type') ?? '', /^application\/json/)
  assert.doesNotThrow(() => JSON.parse(answer.text))
  const report = await drained
  assert.equal(report?.rejected, 1)
  assert.equal(report?.served, 0)
  await site.close()
})

test('the lame duck serves, whatever admit says', async () => {
  const site = await rawWorld(false).start(app, { options: { admit: 'reject', lameduckMs: 2_000 } })
  const client = await Client.open(site.address)
  void site.drain()
  client.request('/')
  assertCloses(await client.answer())
  assert.deepEqual(client.answers.map(({ status }) => status), [200])
  await site.close()
})

test('a custom reject answers in its own way, and close is added', async () => {
  const { site, clients: [client], drained } = await draining({
    admit: 'reject',
    reject: (_req, res) => {
      res.writeHead(429, { 'Content-Type': 'text/html', Connection: 'keep-alive' })
      res.end('<h1>later</h1>')
    },
  }, 1)
  client.request('/')
  const answer = await assertLast(client, 429)
  assert.equal(answer.text, '<h1>later</h1>')
  assert.equal((await drained)?.rejected, 1)
  await site.close()
})

for (const slowly of [false, true]) test(`a reject that hands a request on when another one has come behind it, answered ${slowly ? 'later' : 'already'}: both are answered, in order`, async () => {
  const { site, clients: [client], drained } = await draining({
    admit: 'reject',
    deadlineMs: 20_000,
    reject: async (req, res) => {
      const first = req.url?.startsWith('/first')
      if (first || slowly) await sleep(first ? 30 : 100)
      if (first) site.server.emit('request', req, res)
      else res.writeHead(503).end('full')
    },
  }, 1)
  client!.pipeline([{ path: '/first' }, { path: '/second' }])
  assert.deepEqual([(await client!.answer()).status, (await client!.answer()).status], [200, 503])
  const report = await drained
  assert.deepEqual([report?.outcome, report?.rejected, report?.refused], ['clean', 2, 0])
})

test('a custom reject that throws gives way to the default 503', async () => {
  const { site, clients: [client], faults } = await draining({
    admit: 'reject',
    reject: () => {
      throw new Error('thrown by reject')
    },
  }, 1)
  client.request('/')
  await assertLast(client, 503)
  assert.equal(faults.length, 1)
  await site.close()
})

test('a custom reject that throws in the middle of its answer ends the connection', async () => {
  const { site, clients: [client], faults, drained } = await draining({
    admit: 'reject',
    reject: (_req, res) => {
      res.writeHead(503, { 'Content-Length': 100 })
      res.write('half')
      throw new Error('thrown by reject')
    },
  }, 1)
  client.request('/')
  await client.ended(2_000)
  assert.equal(client.answers.length, 1)
  assert.equal(faults.length, 1)
  await drained
  await site.close()
})

const asynchronous: [string, Reject, { status: number | undefined; faults: number }][] = [
  ['rejects gives way to the default 503', () => Promise.reject(new Error('of reject')), { status: 503, faults: 1 }],
  ['resolves with false gives way to the default 503', () => Promise.resolve(false), { status: 503, faults: 0 }],
  ['answers later answers', async (_req, res) => {
    await turns()
    res.writeHead(429).end('later')
  }, { status: 429, faults: 0 }],
  ['rejects when its answer is whole has answered', async (_req, res) => {
    res.writeHead(429).end('at once')
    await turns(1)
    throw new Error('of the log behind it')
  }, { status: 429, faults: 1 }],
  ['rejects in the middle of its answer ends the connection', async (_req, res) => {
    res.writeHead(429, { 'Content-Length': 100 }).write('half')
    await turns(1)
    throw new Error('of reject')
  }, { status: undefined, faults: 1 }],
  ['resolves with false behind an answer leaves that alone', async (_req, res) => {
    res.writeHead(429).end('at once')
    return false
  }, { status: 429, faults: 1 }],
]

for (const [name, reject, { status, faults: count }] of asynchronous) {
  test(`an asynchronous reject that ${name}, and nobody has an unhandled rejection`, async () => {
    const { site, clients: [client], faults, drained } = await draining({ admit: 'reject', reject }, 1)
    client.request('/')
    await client.ended()
    assert.equal(client.answers.at(1)?.status, status)
    const report = await drained
    assert.deepEqual([report?.outcome, report?.rejected, faults.map(({ where }) => where)], ['clean', 1, Array(count).fill('reject')])
    await site.close()
  })
}

test('an asynchronous reject that fails when its client has gone is a fault and nothing else', async () => {
  let fail = (_error: Error) => {}
  const reject = () => new Promise((_resolve, reject) => {
    fail = reject
  })
  const { site, clients: [client], faults, drained } = await draining({ admit: 'reject', reject }, 1)
  client.request('/')
  while (site.duck!.stats().counters.rejected === 0) await turns(1)
  client.destroy()
  await drained
  fail(new Error('of reject'))
  await turns()
  assert.deepEqual(faults.map(({ where }) => where), ['reject'])
  await site.close()
})

test('a predicate sees each request once, and only its true admits', async () => {
  const seen: string[] = []
  const values: Record<string, unknown> = { '/true': true, '/false': false, '/undefined': undefined }
  const admit = (req: IncomingMessage) => {
    seen.push(req.url ?? '')
    return values[req.url ?? ''] as boolean
  }
  const { site, clients, ran } = await draining({ admit }, 3)
  for (const [i, path] of Object.keys(values).entries()) clients[i]!.request(path)
  await assertLast(clients[0], 200)
  await assertLast(clients[1], 503)
  await assertLast(clients[2], 503)
  assert.deepEqual(seen.sort(), ['/false', '/true', '/undefined'])
  assert.equal(ran(), 1)
  await site.close()
})

test('a predicate that throws is reported, and the request served', async () => {
  const { site, clients: [client], faults, ran } = await draining({
    admit: () => {
      throw new Error('thrown by admit')
    },
  }, 1)
  client.request('/')
  await assertLast(client, 200)
  assert.equal(ran(), 1)
  assert.equal(faults[0]?.where, 'admit')
  await site.close()
})

test('a predicate that returns a promise: its rejection is nobody\'s unhandled one', async () => {
  const { site, clients: [client] } = await draining({
    admit: (() => Promise.reject(new Error('asynchronous'))) as unknown as () => boolean,
  }, 1)
  client.request('/')
  const answer = await client.answer()
  assert.ok([200, 503].includes(answer.status))
  await turns()
  await site.close()
})

for (const admit of ['serve', 'reject'] as const) {
  test(`the application's own checkContinue listener, admit: ${admit}`, async () => {
    const heard: string[] = []
    const prepare: Setup['prepare'] = server => {
      server.on('checkContinue', (req, res) => {
        heard.push(req.url ?? '')
        res.writeContinue()
        server.emit('request', req, res)
      })
      server.on('checkExpectation', (req, res) => {
        heard.push(req.url ?? '')
        res.writeHead(417).end()
      })
    }
    const { site, clients, ran, drained } = await draining({ admit }, 2, { prepare })
    const [one, two] = clients
    one.request('/body', { method: 'POST', headers: { Expect: '100-continue', 'Content-Length': '4' } })
    two.request('/', { headers: { Expect: 'wonders' } })
    if (admit === 'serve') {
      assert.equal(await one.interimAnswer(), 100)
      one.write('body')
      assert.equal((await assertLast(one, 200)).text, '4')
      await assertLast(two, 417)
      assert.deepEqual(heard, ['/body', '/'])
      assert.equal(ran(), 1)
    } else {
      await assertLast(one, 503)
      await assertLast(two, 503)
      assert.deepEqual(one.interim, [])
      assert.deepEqual(heard, [])
      assert.equal(ran(), 0)
    }
    const report = await drained
    assert.equal(report?.rejected, admit === 'reject' ? 2 : 0)
    await site.close()
  })
}

for (const expect of ['100-continue', 'wonders']) {
  test(`Expect: ${expect} after our FIN reaches no listener`, async () => {
    const heard: string[] = []
    const site = await rawWorld(false).start(app, {
      options: { lingerMs: 1_000 },
      prepare: server => {
        server.on('checkContinue', () => heard.push('checkContinue'))
        server.on('checkExpectation', () => heard.push('checkExpectation'))
      },
    })
    const client = await Client.open(site.address, { polite: false })
    const drained = site.drain()
    assert.equal(await client.ended(), 'fin')
    client.request('/', { method: 'POST', headers: { Expect: expect, 'Content-Length': '0' } })
    await turns()
    client.halfClose()
    assert.equal((await drained)?.refused, 1)
    assert.deepEqual(heard, [])
    await site.close()
  })
}

test('Expect: 100-continue after our FIN, with no listener of the application: nothing breaks', async () => {
  const site = await rawWorld(false).start(app, { options: { lingerMs: 1_000 } })
  const client = await Client.open(site.address, { polite: false })
  const drained = site.drain()
  assert.equal(await client.ended(), 'fin')
  client.request('/', { method: 'POST', headers: { Expect: '100-continue', 'Content-Length': '0' } })
  await turns()
  client.halfClose()
  const report = await drained
  assert.equal(report?.refused, 1)
  assert.equal(report?.outcome, 'clean')
  assert.deepEqual(site.executed, [])
  await site.close()
})

test('a rejected request behind one in flight on the same connection does not overtake it', async () => {
  const site = await rawWorld(false).start(app, { options: { admit: 'reject' } })
  const client = await Client.open(site.address)
  const id = client.request('/gate')
  while (site.executed.length === 0) await turns(1)
  const drained = site.drain()
  await turns()
  client.request('/', { method: 'POST', body: 'x' })
  await turns()
  release(id)
  const answers = await client.rest()
  assert.equal(answers[0]?.text, 'gate')
  assertCloses(answers.at(-1)!)
  assert.deepEqual(site.executed, [id])
  assert.equal((await drained)?.outcome, 'clean')
  await site.close()
})

test('an upgrade refused behind a request in flight does not overtake its answer', async () => {
  const upgrades: string[] = []
  const site = await rawWorld(false).start(app, {
    prepare: server => server.on('upgrade', (_req, socket) => {
      upgrades.push('upgrade')
      socket.destroy()
    }),
  })
  const client = await Client.open(site.address)
  const id = client.request('/gate')
  while (site.executed.length === 0) await turns(1)
  const drained = site.drain()
  await turns()
  client.request('/', { headers: { Connection: 'Upgrade', Upgrade: 'echo' } })
  await turns()
  release(id)
  const [answer] = await client.rest()
  assert.equal(answer?.status, 200)
  assert.equal(answer?.text, 'gate', 'the one in flight was executed: it gets its answer, and gets it first')
  assert.deepEqual(upgrades, [])
  await drained
  await site.close()
})
