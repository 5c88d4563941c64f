import assert from 'node:assert/strict'
import type http from 'node:http'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import Hapi from '@hapi/hapi'
import express5 from 'express'
import Koa3 from 'koa'
import { lameduck as onExpress } from '../src/adapters/express.ts'
import { plugin } from '../src/adapters/hapi.ts'
import { lameduck as onKoa } from '../src/adapters/koa.ts'
import type { Unavailable } from '../src/adapters/rejection.ts'
import type { Duck } from '../src/core/index.ts'
import type { Answer } from './_parser.ts'
import { Client } from './_client.ts'
import { until } from './_until.ts'
import { addressOf, listen, QUICK } from './_world.ts'

const require = createRequire(import.meta.url)
const express4 = require('express4') as typeof express5
const Koa2 = require('koa2') as typeof Koa3

// A connection that was used once stays for as long as the test needs it.
const OPTIONS = { ...QUICK, admit: 'reject', quietMs: 3_000, retryAfterMs: 2_500 } as const

/** An application with `/`, `/held`, something before lameduck and something after it. */
interface Service {
  server: http.Server
  duck: Duck
  /** Answers `/held`. */
  release: () => void
}

/** Notes what a request came by, with its path. */
type Came = (what: string, path?: string) => void

/** What makes such an application, with an error handler of its own or with nothing but the framework. */
type Make = (came: Came, handles: boolean) => Promise<Service>

/** @returns What `/held` waits for, and what ends the waiting. */
function gate(): { held: Promise<string>, release: () => void } {
  let release = () => {}
  const held = new Promise<string>(resolve => {
    release = () => resolve('held')
  })
  return { held, release }
}

const withExpress = (express: typeof express5): Make => async (came, handles) => {
  const { held, release } = gate()
  const app = express()
  app.set('env', 'test') // Express itself logs no error then
  app.use((req, res, next) => {
    came('before', req.path)
    res.set('X-Before', 'yes')
    next()
  })
  const { server, duck } = onExpress(app, OPTIONS)
  app.use((req, _res, next) => {
    came('after', req.path)
    next()
  })
  app.get('/', (_req, res) => void res.send('hello'))
  app.get('/held', (_req, res) => void held.then(text => res.send(text)))
  app.use((error: Unavailable, _req: express5.Request, res: express5.Response, next: express5.NextFunction) => {
    came(error.code)
    if (handles) res.status(error.status).set(error.headers).json({ told: error.code })
    else next(error)
  })
  await listen(server)
  return { server, duck, release }
}

const withKoa = (Koa: typeof Koa3): Make => async (came, handles) => {
  const { held, release } = gate()
  const app = new Koa()
  app.on('error', (error: Unavailable) => came(error.code))
  app.use(async (ctx, next) => {
    came('before', ctx.path)
    ctx.set('X-Before', 'yes')
    try {
      await next()
    } catch (thrown) {
      if (!handles) throw thrown
      const error = thrown as Unavailable
      ctx.status = error.status
      ctx.set(error.headers)
      ctx.body = { told: error.code }
      ctx.app.emit('error', error, ctx)
    }
  })
  const { server, duck } = onKoa(app, OPTIONS)
  app.use(async ctx => {
    came('after', ctx.path)
    if (ctx.path === '/') ctx.body = 'hello'
    if (ctx.path === '/held') ctx.body = await held
  })
  await listen(server)
  return { server, duck, release }
}

const withHapi: Make = async (came, handles) => {
  const { held, release } = gate()
  const hapi = Hapi.server({ port: 0, host: '127.0.0.1' })
  hapi.ext('onRequest', (request, h) => {
    came('before', request.path)
    return h.continue
  })
  await hapi.register({ plugin, options: OPTIONS })
  hapi.ext('onRequest', (request, h) => {
    came('after', request.path)
    return h.continue
  })
  hapi.ext('onPreResponse', ({ response }, h) => {
    if (!('isBoom' in response)) return h.continue
    const { code, output } = response as unknown as Unavailable & { output: { headers: object, payload: object } }
    came(code)
    Object.assign(output.headers, { 'X-Before': 'yes' })
    if (handles) output.payload = { told: code }
    return h.continue
  })
  hapi.route({ method: 'GET', path: '/', handler: () => 'hello' })
  hapi.route({ method: 'GET', path: '/held', handler: () => held })
  await hapi.start()
  return { server: hapi.listener, duck: (hapi.plugins as unknown as { lameduck: { duck: Duck } }).lameduck.duck, release }
}

/** Asks in a drain, on connections that are in use: a route, none, and a body. */
const asks = [['/', {}], ['/unknown', {}], ['/', { method: 'POST', body: 'x' }]] as const

/** @returns What the rejected requests got, and what they came by. */
async function reject(make: Make, handles: boolean): Promise<{ answers: Answer[], came: string[] }> {
  let came: string[] = []
  const { server, duck, release } = await make((what, path) => void came.push(path === undefined ? what : `${what} ${path}`), handles)
  const open = () => Client.open(addressOf(server))
  try {
    const clients = await Promise.all(asks.map(open))
    for (const client of clients) {
      client.request('/')
      assert.equal((await client.answer()).text, 'hello')
    }
    const busy = await open()
    busy.request('/held')
    await until(() => came.includes('after /held'), 'a request in flight')
    came = []
    const drained = duck.drain()
    await until(() => duck.state === 'draining', 'the draining')
    const answers: Answer[] = []
    for (const [i, [path, ask]] of asks.entries()) {
      clients[i]!.request(path, ask)
      answers.push(await clients[i]!.answer())
      assert.equal(await clients[i]!.ended(), 'fin')
    }
    release()
    assert.equal((await busy.answer()).text, 'held')
    const { outcome, rejected } = await drained
    assert.deepEqual({ outcome, rejected }, { outcome: 'clean', rejected: asks.length })
    return { answers, came }
  } finally {
    release()
    await duck.abort('the test is over')
  }
}

/** Each of them came to what stands before lameduck and to the error handling, and to nothing that stands after it. */
const CAME = asks.flatMap(([path]) => [`before ${path}`, 'ERR_LAMEDUCK_DRAINING'])

const frameworks: [name: string, make: Make, own: RegExp, keeps: boolean][] = [
  // The stack of the error, where the environment is not production.
  ['Express 4', withExpress(express4), /<pre>Error: The server is shutting down; please try again\.<\/pre>/, true],
  ['Express 5', withExpress(express5), /<pre>Error: The server is shutting down; please try again\.<\/pre>/, true],
  // Koa takes all headers away before it sends an error.
  ['Koa 2', withKoa(Koa2), /^The server is shutting down; please try again\.$/, false],
  ['Koa 3', withKoa(Koa3), /^The server is shutting down; please try again\.$/, false],
  ['hapi', withHapi, /^{"statusCode":503,"error":"Service Unavailable","message":"The server is shutting down; please try again\."}$/, true],
]

/** Those of an answer that a client, and a balancer, goes by. */
const headers = (answer: Answer) => ['retry-after', 'connection', 'x-before'].map(name => answer.header(name))

for (const [name, make, own, keeps] of frameworks) {
  test(`${name}, admit: reject: an error handler of the application gives the 503, with the headers that were set before`, async () => {
    const { answers, came } = await reject(make, true)
    for (const answer of answers) {
      assert.deepEqual([answer.status, answer.text], [503, '{"told":"ERR_LAMEDUCK_DRAINING"}'])
      assert.deepEqual(headers(answer), ['3', 'close', 'yes'])
    }
    assert.deepEqual(came, CAME)
  })

  test(`${name}, admit: reject: without one the 503 is what the framework makes of an error, with Retry-After`, async () => {
    const { answers, came } = await reject(make, false)
    for (const answer of answers) {
      assert.equal(answer.status, 503)
      assert.match(answer.text, own)
      assert.deepEqual(headers(answer), ['3', 'close', keeps ? 'yes' : undefined])
    }
    assert.deepEqual(came, CAME)
  })
}
