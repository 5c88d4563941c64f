import assert from 'node:assert/strict'
import type http from 'node:http'
import { test } from 'node:test'
import { app, release } from './_app.ts'
import { Client } from './_client.ts'
import { turns } from './_scenario.ts'
import { until } from './_until.ts'
import { rawWorld, type Setup, type Site } from './_world.ts'

// What Node's own limits cut in a drain, and what they do not.

/** Quick enough for a test, and not over before its drain has begun. */
const limited = { headersTimeout: 1_000, requestTimeout: 1_000, connectionsCheckingInterval: 50 }
const silent: Setup['prepare'] = server => void server.setTimeout(1_000)
const UPLOAD = { method: 'POST', body: 'x'.repeat(10_000), cut: 'body' } as const

async function within(setup: Setup, run: (site: Site, client: Client) => Promise<void>): Promise<void> {
  const site = await rawWorld(false).start(app, setup)
  try {
    await run(site, await Client.open(site.address))
  } finally {
    await site.close()
  }
}

async function executing(site: Site): Promise<void> {
  while (site.executed.length === 0) await turns(1)
}

/** The drain's outcome, and what it names. */
async function told(drained: ReturnType<Site['drain']>): Promise<unknown[]> {
  const { outcome, forcedBy, destroyed } = (await drained)!
  return [outcome, forcedBy, destroyed.map(({ why, state, method, path }) => `${why}: ${state} ${method} ${path}`)]
}

test('a request whose body is not there within requestTimeout is named, and the drain was forced', () => within({ server: limited }, async (site, client) => {
  client.half('/body', UPLOAD)
  await executing(site)
  assert.deepEqual(await told(site.drain()), ['forced', 'data', ['timeout: active POST /body']])
}))

test('the same with a clientError listener of the application, which ends the connection in its own way', () => within({
  server: limited,
  prepare: server => server.on('clientError', (_error, socket) => socket.end('HTTP/1.1 408 Too Slow\r\nConnection: close\r\n\r\n')),
}, async (site, client) => {
  client.half('/body', UPLOAD)
  await executing(site)
  assert.deepEqual(await told(site.drain()), ['forced', 'data', ['timeout: active POST /body']])
}))

test('a request in flight that is cut because of half a head behind it is named', () => within({ server: limited }, async (site, client) => {
  client.request('/hang')
  client.write('GET /half HTTP/1.1\r\nX-Half: ')
  await executing(site)
  assert.deepEqual(await told(site.drain()), ['forced', 'data', ['timeout: active GET /hang']])
}))

test('a request that is cut by the timeout of the server is named, and the drain was forced', () => within({ prepare: silent }, async (site, client) => {
  client.request('/hang')
  await executing(site)
  assert.deepEqual(await told(site.drain()), ['forced', 'data', ['timeout: active GET /hang']])
}))

test('a listener of timeout that lets the request go on: it is answered, and nothing is named', () => {
  let heard = 0
  return within({ prepare: server => void server.setTimeout(200, () => heard++) }, async (site, client) => {
    const id = client.request('/gate')
    await executing(site)
    const drained = site.drain()
    await until(() => heard > 0, 'the timeout')
    release(id)
    assert.equal((await client.answer()).text, 'gate')
    assert.deepEqual(await told(drained), ['clean', undefined, []])
  })
})

for (const [begin, setup] of [['opened', { prepare: silent }], ['answered', { server: { keepAliveTimeout: 200 } }]] as const) {
  test(`a connection that was ${begin} a moment ago and that Node ends in the lame duck, because nothing comes, cuts nothing`, () => within({
    ...setup,
    options: { lameduckMs: 4_000 },
  }, async (site, client) => {
    if (begin === 'answered') {
      client.request('/')
      await client.answer()
    }
    const drained = site.drain()
    await client.ended(3_000)
    assert.deepEqual(await told(drained), ['clean', undefined, []])
  }))
}

for (const way of ['destroy', 'reset', 'halfClose'] as const) {
  test(`a client that goes away in the middle of its body was not cut by us: nothing is named (${way})`, () => within({}, async (site, client) => {
    client.half('/body', UPLOAD)
    await executing(site)
    const drained = site.drain()
    await turns()
    client[way]()
    assert.deepEqual(await told(drained), ['clean', undefined, []])
  }))
}

test('what a limit cut before the drain is not in its report', () => within({ server: limited }, async (site, client) => {
  client.half('/body', UPLOAD)
  await client.ended()
  assert.deepEqual(await told(site.drain()), ['clean', undefined, []])
}))

test('an error of a client, or a timeout, that the application itself announces breaks nothing', () => within({}, async (site, client) => {
  client.request('/gate', { id: 'announced' })
  await executing(site)
  const drained = site.drain()
  const server: http.Server = site.server.on('clientError', () => {})
  for (const event of ['clientError', 'timeout']) for (const args of [[], [undefined, undefined], [new Error('odd'), {}]]) server.emit(event, ...args)
  await turns()
  release('announced')
  assert.deepEqual(await told(drained), ['clean', undefined, []])
}))
