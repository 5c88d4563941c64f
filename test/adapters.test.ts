import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import Hapi from '@hapi/hapi'
import express from 'express'
import Koa from 'koa'
import { lameduck as onExpress } from '../src/adapters/express.ts'
import { plugin } from '../src/adapters/hapi.ts'
import { lameduck as onKoa } from '../src/adapters/koa.ts'
import type { WrappedApp } from '../src/adapters/wrap-app.ts'

const require = createRequire(import.meta.url)
const express4 = require('express4') as typeof express
const Koa2 = require('koa2') as typeof Koa

const quick = { signals: false, lameduckMs: 0, quietMs: 10 } as const

interface Listening {
  listen(port: number, host: string): http.Server
}

function onlyKoa(app: Koa): Koa {
  return app.use(ctx => {
    ctx.body = 'hello'
  })
}

const apps: [string, () => Listening & object, (app: never) => WrappedApp][] = [
  ['Express 4', () => express4().get('/', (_req, res) => void res.send('hello')), (app: never) => onExpress(app, quick)],
  ['Express 5', () => express().get('/', (_req, res) => void res.send('hello')), (app: never) => onExpress(app, quick)],
  ['Koa 2', () => onlyKoa(new Koa2()), (app: never) => onKoa(app, quick)],
  ['Koa 3', () => onlyKoa(new Koa()), (app: never) => onKoa(app, quick)],
]

for (const [name, make, wrapIt] of apps) {
  test(`${name}: app.listen(), out of habit, listens with the server that is drained`, async () => {
    const app = make()
    const { server, duck } = wrapIt(app as never)
    assert.equal(app.listen(0, '127.0.0.1'), server)
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const response = await fetch(`http://127.0.0.1:${port}/`)
    assert.equal(await response.text(), 'hello')
    const report = await duck.drain()
    assert.equal(report.outcome, 'clean')
    assert.equal(server.listening, false)
  })
}

test('something that is no application is refused, by name', () => {
  const wrong: [() => unknown, RegExp][] = [
    [() => onExpress(http.createServer() as never), /cannot wrap Server; allowed: an Express application/],
    [() => onExpress(undefined as never), /cannot wrap undefined/],
    [() => onKoa(Koa as never), /cannot wrap the function Application; allowed: a Koa application/],
    [() => onKoa(null as never), /cannot wrap object/],
  ]
  for (const [run, message] of wrong) assert.throws(run, { code: 'ERR_LAMEDUCK_SERVER', message })
})

for (const [name, make, wrapIt] of [
  ['Express', express, onExpress],
  ['Koa', () => new Koa(), onKoa],
] as [string, () => object, (app: never, options: never) => WrappedApp][]) {
  test(`${name}: what cannot be options is refused, by name, before anything has changed`, () => {
    const app = make() as { listen: unknown, request: object, context?: object }
    const { listen } = app
    const wrong: [unknown, RegExp][] = [
      [null, /^options is null; allowed: an object$/], [5, /^options is 5; /], ['text', /^options is 'text'; /], [[], /^options is \[\]; /], [() => {}, /^options is /],
      [{ sever: 1 }, /^options.sever \(1\) is no option; allowed: .*, server$/], [{ quietMs: -1 }, /^options.quietMs is -1; /],
    ]
    for (const [options, message] of wrong) {
      assert.throws(() => wrapIt(app as never, options as never), { code: 'ERR_LAMEDUCK_OPTION', message })
    }
    assert.throws(() => wrapIt(app as never, { server: null } as never), { code: 'ERR_LAMEDUCK_SERVER' })
    assert.equal(app.listen, listen)
    assert.ok(!('lameduck' in app.request) && !('lameduck' in (app.context ?? {})))
  })
}

test('hapi: what cannot be options is refused, by name', async () => {
  for (const options of [5, 'text', ['text']]) {
    const server = Hapi.server()
    await assert.rejects(server.register({ plugin, options } as never), { code: 'ERR_LAMEDUCK_OPTION', message: /^options is / })
    assert.deepEqual(Object.keys(server.plugins), [])
  }
})
