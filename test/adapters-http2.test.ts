import assert from 'node:assert/strict'
import type http from 'node:http'
import http2 from 'node:http2'
import { after, test } from 'node:test'
import fastify from 'fastify'
import Koa from 'koa'
import { lameduck as onFastify } from '../src/adapters/fastify.ts'
import { lameduck as onKoa } from '../src/adapters/koa.ts'
import type { Duck, Options } from '../src/core/index.ts'
import { connectTo, until } from './_http2.ts'
import { listen, QUICK } from './_world.ts'

/** An application that answers `/` at once and `/held` when it is released, over HTTP/2. */
interface Service {
  server: http2.Http2Server
  duck: Duck
  executed: string[]
  release: () => void
  /** fastify's own way to stop. */
  close?: () => Promise<unknown>
}

type Make = (options: Options) => Promise<Service>

/** A test that failed leaves its application listening. */
const ducks: Duck[] = []
after(() => Promise.all(ducks.map(duck => duck.abort('the tests are over'))))

function routes() {
  let release = () => {}
  const held = new Promise<string>(resolve => {
    release = () => resolve('held')
  })
  const executed: string[] = []
  const answer = (path: string) => {
    executed.push(path)
    return path === '/held' ? held : 'hello'
  }
  return { executed, release, answer }
}

const withFastify: Make = async options => {
  const { executed, release, answer } = routes()
  const app = fastify({ http2: true })
  await app.register(onFastify, options)
  app.get('/', async ({ url }) => answer(url))
  app.get('/held', async ({ url }) => answer(url))
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { server: app.server, duck: app.lameduck, executed, release, close: async () => app.close() }
}

const withKoa: Make = async options => {
  const { executed, release, answer } = routes()
  const app = new Koa()
  app.on('error', () => {}) // Koa itself logs none then
  app.use(async ctx => {
    ctx.body = await answer(ctx.path)
  })
  const server = http2.createServer(app.callback())
  // The type test: it is given the server as it is, and gives it back as such.
  const { duck, server: same }: { duck: Duck, server: http2.Http2Server } = onKoa(app, { ...options, server })
  assert.equal(same, server)
  await listen(server as unknown as http.Server)
  return { server, duck, executed, release }
}

const drain = ({ duck }: Service) => duck.drain()

// Nothing of it is waited for, unless something is wrong.
const UNHURRIED = { ...QUICK, deadlineMs: 30_000, lingerMs: 20_000 }

const stops: [string, Make, (service: Service) => Promise<unknown>][] = [
  ['fastify, a drain', withFastify, drain],
  ['fastify, app.close()', withFastify, ({ close }) => close!()],
  ['Koa, a drain', withKoa, drain],
]

for (const [name, make, stop] of stops) {
  test(`${name} over HTTP/2: an idle session gets GOAWAY and ends, a stream in flight is answered, and its session ends behind it`, { timeout: 60_000 }, async () => {
    const service = await make(UNHURRIED)
    const { server, duck, executed, release } = service
    ducks.push(duck)
    const [idle, busy] = [await connectTo(server), await connectTo(server)]
    assert.equal((await idle.ask('/')).text, 'hello')
    const asked = busy.ask('/held')
    await until('in flight', () => executed.includes('/held'))
    const stopped = stop(service)
    await idle.ended
    await until('GOAWAY', () => busy.goaways.length > 0)
    assert.ok(idle.goaways.length > 0, 'GOAWAY')
    release()
    const { answered, status, text, headers } = await asked
    // HTTP/2 has no such header: a client may take the stream for malformed (RFC 9113 §8.2.2).
    assert.deepEqual([answered, status, text, headers.connection], [true, 200, 'held', undefined])
    await busy.ended
    await stopped
    const report = await duck.drain()
    assert.deepEqual([report.outcome, report.served, report.destroyed], ['clean', 1, []])
    assert.equal(server.listening, false)
  })
}

for (const [name, make] of [['fastify', withFastify], ['Koa', withKoa]] as const) {
  test(`${name} over HTTP/2, admit: reject: a stream that comes in the drain before its GOAWAY gets the 503 of the framework, and is not executed`, { timeout: 60_000 }, async () => {
    const { server, duck, executed, release } = await make({ ...UNHURRIED, admit: 'reject', quietMs: 20_000, retryAfterMs: 2_500 })
    ducks.push(duck)
    const peer = await connectTo(server)
    const asked = peer.ask('/held')
    await until('in flight', () => executed.includes('/held'))
    const drained = duck.drain()
    await until('draining', () => duck.state === 'draining')
    const late = await peer.ask('/')
    assert.deepEqual([late.answered, late.status, late.headers['retry-after'], late.headers.connection], [true, 503, '3', undefined])
    assert.match(late.text, /The server is shutting down; please try again\./)
    release()
    assert.equal((await asked).text, 'held')
    await peer.ended
    assert.ok(peer.goaways.length > 0, 'GOAWAY')
    const { outcome, rejected, served } = await drained
    assert.deepEqual({ outcome, rejected, served, executed }, { outcome: 'clean', rejected: 1, served: 1, executed: ['/held'] })
  })
}
