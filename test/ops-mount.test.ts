import assert from 'node:assert/strict'
import http from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import Hapi from '@hapi/hapi'
import express from 'express'
import fastify from 'fastify'
import Koa from 'koa'
import * as expressAdapter from '../src/adapters/express.ts'
import * as fastifyAdapter from '../src/adapters/fastify.ts'
import * as hapiAdapter from '../src/adapters/hapi.ts'
import * as koaAdapter from '../src/adapters/koa.ts'
import type { Mountable } from '../src/adapters/express.ts'
import { ops, type Ops } from '../src/ops/index.ts'
import { ask, freshToken, type Target } from './_ops.ts'

const require = createRequire(import.meta.url)
const express4 = require('express4') as typeof express
const Koa2 = require('koa2') as typeof Koa

interface Mounted {
  at: Target
  close(): Promise<unknown> | void
}

const port = (server: http.Server): Target => ({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })

function listening(server: http.Server): Promise<Mounted> {
  return new Promise(resolve => void server.listen(0, '127.0.0.1', () => resolve({
    at: port(server),
    close: () => server.close().closeAllConnections(),
  })))
}

/** Each application answers `application` to everything else, and has read what bodies there are. */
const worlds: Record<string, (endpoint: Mountable) => Promise<Mounted>> = {
  express(endpoint) {
    const app = express()
    expressAdapter.mount(app, '/ops', endpoint)
    app.use(express.json())
    app.use((_req, res) => void res.send('application'))
    return listening(http.createServer(app))
  },
  'express 4'(endpoint) {
    const app = express4()
    expressAdapter.mount(app as never, '/ops', endpoint)
    app.use(express4.json())
    app.use((_req, res) => void res.send('application'))
    return listening(http.createServer(app as never))
  },
  koa(endpoint) {
    const app = new Koa()
    koaAdapter.mount(app as never, '/ops', endpoint)
    app.use(ctx => {
      ctx.body = 'application'
    })
    return listening(http.createServer(app.callback()))
  },
  'koa 2'(endpoint) {
    const app = new Koa2()
    koaAdapter.mount(app as never, '/ops', endpoint)
    app.use(ctx => {
      ctx.body = 'application'
    })
    return listening(http.createServer(app.callback()))
  },
  async hapi(endpoint) {
    const server = Hapi.server({ port: 0, host: '127.0.0.1' })
    hapiAdapter.mount(server as never, '/ops', endpoint)
    server.route({ method: '*', path: '/{any*}', handler: () => 'application' })
    await server.start()
    return { at: port(server.listener), close: () => server.stop() }
  },
  async fastify(endpoint) {
    const app = fastify()
    fastifyAdapter.mount(app as never, '/ops', endpoint)
    app.all('/*', async () => 'application')
    await app.listen({ port: 0, host: '127.0.0.1' })
    return { at: port(app.server), close: () => app.close() }
  },
}

async function mounted(name: string, run: (at: Target, token: string, endpoint: Ops) => Promise<void>): Promise<void> {
  const token = freshToken()
  const endpoint = ops({
    thread: false,
    listen: false,
    hosts: ['127.0.0.1'],
    auth: { tokens: [{ name: 'operator', scopes: ['read', 'control'], token }] },
    loggers: { app: { level: 'info' } },
  })
  await endpoint.ready
  const world = await (worlds[name] as NonNullable<(typeof worlds)[string]>)(endpoint)
  try {
    await run(world.at, token, endpoint)
  } finally {
    await world.close()
    await endpoint.close()
  }
}

for (const name of Object.keys(worlds)) {
  test(`mounted under a path of ${name}: answers with a token, tells a stranger nothing, and leaves the rest to the application`, () => mounted(name, async (at, token) => {
    const info = await ask(at, '/ops/info', { token })
    assert.deepEqual([info.status, info.json.pid], [200, process.pid])
    const put = await ask(at, '/ops/loggers/app', { token, method: 'PUT', body: { level: 'debug' } })
    assert.deepEqual([put.status, put.json.level], [200, 'debug'], put.text)
    assert.equal((await ask(at, '/ops/livez')).status, 200)
    const strange = await Promise.all(['/ops/info', '/ops/nothing', '/ops//'].map(path => ask(at, path)))
    assert.deepEqual(strange.map(({ status }) => status), [401, 401, 400])
    const page = await ask(at, '/ops/')
    assert.match(page.text, /<script src="page.js"/)
    assert.match(String(page.headers['content-security-policy']), /default-src 'none'/)
    const bare = await ask(at, '/ops')
    assert.deepEqual([bare.status, bare.headers.location], [308, '/ops/'])
    const foreign = await ask(at, '/ops/info', { token, headers: { Host: 'evil.example' } })
    assert.equal(foreign.status, 421)
    for (const path of ['/', '/opsx', '/OPS/info', '/x/ops/info']) assert.equal((await ask(at, path)).text, 'application', path)
    for (const path of ['/ops/../info', '/ops/%2e%2e/info', '/ops/%252e/info']) {
      const tricked = await ask(at, path, { token })
      assert.ok(tricked.status >= 400 || tricked.text === 'application', `${path}: ${tricked.status}`)
    }
  }))
}

test('a prefix that is none is refused by name, and an endpoint in a thread of its own cannot be mounted', async () => {
  for (const prefix of ['', '/', 'ops', '/ops/', '/a b', undefined]) {
    assert.throws(() => expressAdapter.mount(express() as never, prefix as string, {} as Mountable), { code: 'ERR_LAMEDUCK_OPTION' })
  }
  const endpoint = ops({ listen: { port: 0 }, auth: { tokens: [{ name: 'operator', scopes: ['read'], token: freshToken() }] } })
  await endpoint.ready
  assert.throws(() => endpoint.handle({} as never, {} as never), { code: 'ERR_LAMEDUCK_STATE' })
  await endpoint.close()
})
