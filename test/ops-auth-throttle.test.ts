import assert from 'node:assert/strict'
import http from 'node:http'
import net from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { freshToken, openDoor, post, scoped, until, type DoorSite } from './_ops-door.ts'
import type { Scope } from '../src/ops/http/route.ts'
import { AT_ONCE, WINDOW_MS } from '../src/ops/http/turnstile.ts'

setFlagsFromString('--expose-gc')
/** A whole garbage collection. */
const collect = runInNewContext('gc') as () => void

test('failures are throttled: 429 with Retry-After, then again a try; who was let in before on a connection is not locked out', async () => {
  const token = freshToken()
  const site = await openDoor({ token, options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], token }] }, limits: { failures: { burst: 3, perSecond: 5 } } } })
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  assert.equal((await site.ask('/info', { agent })).status, 200)
  const statuses: number[] = []
  let refused = await site.ask('/info', { token: freshToken() })
  // Four, unless the machine is so slow that tries come back meanwhile.
  for (let i = 0; i < 100 && refused.status !== 429; i++) {
    statuses.push(refused.status)
    refused = await site.ask('/info', { token: freshToken() })
  }
  assert.equal(refused.status, 429)
  assert.deepEqual([statuses.length >= 3, [...new Set(statuses)]], [true, [401]])
  assert.deepEqual([refused.json.code, refused.headers['retry-after']], ['ERR_LAMEDUCK_OPS_THROTTLED', '1'])
  assert.ok(Number(refused.json.retryAfterMs) > 0 && Number(refused.json.retryAfterMs) <= 200)
  assert.equal((await site.ask('/info', { agent })).status, 200)
  agent.destroy()
  await sleep(300)
  assert.equal((await site.ask('/info')).status, 200)
  await site.close()
})

test('a flood of callers without a token locks nobody out who has one', async () => {
  const token = freshToken()
  const site = await openDoor({ token, options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], token }] }, limits: { failures: { burst: 3, perSecond: 0.01 } } } })
  for (let i = 0; i < 5; i++) await site.ask('/info', { token: null })
  assert.equal((await site.ask('/info', { token: null })).status, 429)
  assert.equal((await site.ask('/info', { token: 'short' })).status, 429)
  assert.equal((await site.ask('/info')).status, 200)
  await site.close()
})

/** What strangers get answered in so long, each on as many connections one after the other as it likes. */
async function strangers(site: DoorSite, count: number, ms: number, agentOf: () => http.Agent | false) {
  const end = performance.now() + ms
  const statuses: number[] = []
  const codes: unknown[] = []
  const startedAt = performance.now()
  await Promise.all(Array.from({ length: count }, async () => {
    const agent = agentOf()
    while (performance.now() < end) {
      await site.ask('/info', { token: freshToken(), ...(agent && { agent }) }).then(({ status }) => statuses.push(status), error => codes.push((error as NodeJS.ErrnoException).code))
    }
    if (agent) agent.destroy()
  }))
  return { statuses, codes, ms: performance.now() - startedAt }
}

/** So many refusals leave in so long at most, to so many connections. */
const most = (connections: number, ms: number) => AT_ONCE + Math.max(AT_ONCE, connections) * (1 + Math.ceil(ms / WINDOW_MS))

for (const [how, agentOf] of Object.entries<() => http.Agent | false>({
  'on a connection that it keeps': () => new http.Agent({ keepAlive: true, maxSockets: 1 }),
  'with a new connection for each request': () => false,
})) {
  test(`sixteen strangers who go on asking, each ${how}, are slowed down together, and whoever has a token is not`, async () => {
    const token = freshToken()
    const site = await openDoor({ token, options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], token }] } } })
    const asked = strangers(site, 16, 2_500, agentOf)
    // From the same address, on connections of their own, in the midst of it.
    await sleep(500)
    const times: number[] = []
    for (let i = 0; i < 20; i++) {
      const began = performance.now()
      const answer = await site.ask('/info')
      assert.equal(answer.status, 200, answer.text)
      times.push(performance.now() - began)
    }
    const { statuses, codes, ms } = await asked
    assert.deepEqual(new Set(statuses), new Set([401, 429]))
    assert.ok(statuses.length <= most(16, ms), `${statuses.length} in ${ms} ms`)
    // Sent away to make room.
    assert.deepEqual([...new Set(codes)].filter(code => code !== 'ECONNRESET'), [])
    const median = times.sort((a, b) => a - b)[10] as number
    assert.ok(median < WINDOW_MS / 2, `${median} ms`)
    await site.close()
  })
}

test('refusals of every kind are slowed down, and what is no HTTP, too', async () => {
  const site = await openDoor()
  const { port } = new URL(site.url)
  const began = performance.now()
  const garbage = async () => {
    const socket = net.connect(Number(port), '127.0.0.1').setEncoding('latin1')
    let text = ''
    socket.on('data', piece => {
      text += String(piece)
    }).write('hello\r\n\r\n')
    await new Promise(resolve => socket.once('close', resolve))
    return text
  }
  for (let i = 0; i < 10; i++) {
    assert.equal((await site.ask('/info', { headers: { Host: 'evil.example' } })).status, 421)
    assert.equal((await site.ask('/info', { headers: { Origin: 'https://evil.example' } })).status, 403)
    assert.equal((await site.ask('/%2e%2e/info')).status, 400)
    assert.match(await garbage(), /^HTTP\/1\.1 400 /)
  }
  // Of 40 so many at once, and after each window so many again at most, one of which waited for it.
  const windows = Math.floor((40 - AT_ONCE) / AT_ONCE)
  assert.ok(performance.now() - began >= (windows - 1) * WINDOW_MS, `${performance.now() - began} ms`)
  await site.close()
})

test('while failures are throttled a right token still counts, a wrong one does not reach the application, and an expired one no log', async () => {
  const [right, expired] = [freshToken(), freshToken()]
  let asked = 0
  const site = await openDoor({
    token: right,
    authorize: async () => (asked++, null),
    options: {
      auth: {
        tokens: [{ name: 'ann', scopes: ['read'], token: right }, { name: 'bob', scopes: ['read'], token: expired, expires: '2020-01-01T00:00:00Z' }],
        authorize: () => null,
      },
      limits: { failures: { burst: 3, perSecond: 0.01 } },
    },
  })
  for (const token of [expired, freshToken(), freshToken(), freshToken(), expired, freshToken()]) await site.ask('/info', { token })
  assert.equal((await site.ask('/info', { token: expired })).status, 429)
  assert.equal(asked, 3)
  assert.equal(site.lines.filter(line => line.includes('expired')).length, 1)
  assert.equal((await site.ask('/info')).status, 200)
  await site.close()
})

test('each token has so many calls, and one that has none left takes nothing from another', async () => {
  const [one, two] = [freshToken(), freshToken()]
  const tokens = [{ name: 'ann', scopes: ['read' as Scope], token: one }, { name: 'bob', scopes: ['read' as Scope], token: two }]
  const site = await openDoor({ options: { auth: { tokens }, limits: { calls: { burst: 4, perSecond: 0.01 } } } })
  const statuses: number[] = []
  for (let i = 0; i < 6; i++) statuses.push((await site.ask('/info', { token: one })).status)
  assert.deepEqual(statuses, [200, 200, 200, 200, 429, 429])
  const refused = await site.ask('/info', { token: one })
  assert.equal(refused.json.code, 'ERR_LAMEDUCK_OPS_THROTTLED')
  const wait = Number(refused.headers['retry-after'])
  assert.ok(wait > 80 && wait <= 100, `${wait} s`)
  assert.equal((await site.ask('/info', { token: two })).status, 200)
  await site.close()
})

test('10,000 unauthorised requests in a burst: nothing is executed, the audit has a few lines, and memory stays', async () => {
  const executed: string[] = []
  const token = freshToken()
  const site = await openDoor({ token, routes: scoped(executed), options: { auth: { tokens: [{ name: 'ann', scopes: ['read'], token }] } } })
  const { port } = new URL(site.url)
  const wrong = freshToken()
  const bytes = `POST /read HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${wrong}\r\nContent-Length: 0\r\n\r\n`
  const counts: Record<string, number> = {}
  // No more than may be silent for a moment: they have not said anything before all are there.
  let open = 8
  const sockets = await Promise.all(Array.from({ length: open }, async () => {
    const socket = net.connect(Number(port), '127.0.0.1').setEncoding('latin1')
    await new Promise(resolve => socket.once('connect', resolve))
    // One that does not take its answers is sent away.
    return socket.on('error', () => {}).on('close', () => open--).on('data', (text: string) => {
      for (const [, status = ''] of text.matchAll(/HTTP\/1\.1 (\d+)/g)) counts[status] = (counts[status] ?? 0) + 1
    })
  }))
  collect()
  const before = process.memoryUsage().heapUsed
  const startedAt = performance.now()
  // As many as may wait for their answers on a connection.
  for (const socket of sockets) socket.write(bytes.repeat(32))
  await sleep(3_000)
  const ms = performance.now() - startedAt
  const answers = Object.values(counts).reduce((a, b) => a + b, 0)
  assert.deepEqual(Object.keys(counts).sort(), ['401', '429'])
  assert.ok((counts['401'] ?? 0) <= 10 + ms / 1_000 + 1, `${counts['401']} looked at in ${ms} ms`)
  assert.ok(answers <= most(8, ms), `${answers} in ${ms} ms`)
  assert.deepEqual(executed, [])
  assert.equal((await post(site, '/read', token)).status, 200)
  assert.deepEqual(executed, ['read'])
  // The rest of the ten thousand, without waiting for an answer.
  for (const socket of sockets) socket.write(bytes.repeat(1_218))
  await until('all have been cut off', () => open === 0)
  await sleep(1_200)
  // Three kinds of refusals: the first of each at once, and one line for each second that there were more.
  const lines = site.entries.filter(({ event }) => event === 'refused')
  const seconds = Math.ceil((performance.now() - startedAt) / 1_000)
  assert.ok(lines.length <= 3 * (2 + seconds), `${lines.length} lines in ${seconds} s`)
  assert.ok(lines.some(({ status, code }) => status === 400 && code === 'ERR_LAMEDUCK_OPS_HTTP'))
  assert.deepEqual(executed, ['read'])
  collect()
  assert.ok(process.memoryUsage().heapUsed - before < 5e6)
  await site.close()
})

for (const [what, first] of [['a probe', 'GET /livez'], ['a refused request', 'GET /info'], ['another one', 'CONNECT y:1']] as const) {
  test(`a CONNECT right behind ${what}, in one piece, cuts that connection and nothing else`, async () => {
    const site = await openDoor({})
    const socket = net.connect(Number(new URL(site.url).port), '127.0.0.1').on('error', () => {}).resume()
    const gone = new Promise(resolve => socket.once('close', resolve))
    socket.write(`${first} HTTP/1.1\r\nHost: localhost\r\n\r\nCONNECT x:1 HTTP/1.1\r\nHost: localhost\r\n\r\n`)
    await gone
    assert.equal((await site.ask('/info')).status, 200)
    await site.close()
  })
}
