import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import type { Readable } from 'node:stream'
import { after } from 'node:test'
import tls from 'node:tls'
import { wrap, type DrainReport, type Duck, type Options } from '../src/core/index.ts'
import type { Address } from './_client.ts'
import { endLeftovers, leftover } from './_leftovers.ts'
import { assertNoWarnings } from './_warnings.ts'

after(endLeftovers)
after(assertNoWarnings)

/** What a handler answers with, in a form that every framework can send by its own means. */
export interface Reply {
  status?: number
  headers?: Record<string, string>
  body?: string | Buffer | Readable
}

/** A request as a handler sees it, whatever the framework. */
export interface Exchange {
  req: http.IncomingMessage
  res: http.ServerResponse
  id: string
  path: string
  query: URLSearchParams
  /** The drain signal, by the way that the framework's users get at it. */
  signal: AbortSignal | undefined
}

/** Returns what to send; or writes to `res` itself and returns `'raw'`. A synchronous handler answers in the same tick. */
export type Handler = (x: Exchange) => Reply | 'raw' | Promise<Reply | 'raw'>

/** How a server is to be made. */
export interface Setup {
  options?: Options
  server?: http.ServerOptions
  /** Adds listeners to the server before it is wrapped. */
  prepare?: (server: http.Server, site: () => Site) => void
  /** Listen on a unix socket. */
  unix?: boolean
}

/** A running server as the scenarios see it: the wire, the start and the end of the drain, and what was executed. */
export interface Site {
  address: Address
  server: http.Server
  /** Only for scenarios that need more than a drain; peers have none. */
  duck: Duck | undefined
  /** Ids of the requests that reached the application, in order. */
  executed: string[]
  /** Starts the drain. @returns Its end; the report, if there is one. */
  drain(): Promise<DrainReport | undefined>
  close(): Promise<void>
}

/** What a world may lack: the scenarios that need it are skipped there. */
export type Feature =
  | 'catch' // an exception in a handler becomes a 500
  | 'duck' // lame duck, resume, abort, stats
  | 'signal' // the drain signal within reach of a handler
  | 'admit'
  | 'health'
  | 'upgrade' // the server's own `upgrade` and `connect` events
  | 'pairs' // `res` takes header arrays as Node's does

export interface World {
  name: string
  tls: boolean
  lacks: readonly Feature[]
  start(app: Handler, setup?: Setup): Promise<Site>
}

const fixture = (name: string) => readFileSync(new URL(`fixtures/${name}`, import.meta.url), 'utf8')

/** A self-signed certificate for localhost, made for these tests and used nowhere else. */
export const CERTIFICATE = { cert: fixture('cert.pem'), key: fixture('key.pem') }

/** Times short enough for a test, long enough for a busy machine. */
export const QUICK = {
  deadlineMs: 5_000,
  exit: false,
  headMs: 300,
  lameduckMs: 0,
  lingerMs: 200,
  quietMs: 30,
  signals: false,
  upgradedMs: 150,
} satisfies Options

let sockets = 0

/** A place for a unix socket that nothing else uses. */
export function socketPath(): string {
  return path.join(os.tmpdir(), `lameduck-${process.pid}-${++sockets}.sock`)
}

/** What to pass to `listen()`. */
export function whereToListen(unix = false): { path: string } | { port: number, host: string } {
  return unix ? { path: socketPath() } : { port: 0, host: '127.0.0.1' }
}

export function listen(server: http.Server, unix = false): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(whereToListen(unix), () => {
      server.off('error', reject)
      server.once('close', leftover(() => {
        server.close()
        http.Server.prototype.closeAllConnections.call(server)
      }))
      resolve()
    })
  })
}

/** Where a listening server is to be found. */
export function addressOf(server: http.Server): Address {
  const at = server.address() as AddressInfo | string
  const where = typeof at === 'string' ? { path: at } : { host: at.address, port: at.port }
  return server instanceof tls.Server ? { ...where, ca: CERTIFICATE.cert } : where
}

/** An http or https server of Node. */
export function createServer(isTls: boolean, options: http.ServerOptions = {}, listener?: http.RequestListener): http.Server {
  return isTls ? https.createServer({ ...CERTIFICATE, ...options }, listener) : http.createServer(options, listener)
}

/** Notes a request as executed, and describes it. */
export function exchange(
  executed: string[],
  req: http.IncomingMessage,
  res: http.ServerResponse,
  signal: AbortSignal | undefined,
): Exchange {
  const url = new URL(req.url ?? '/', 'http://test')
  const id = String(req.headers['x-id'] ?? url.searchParams.get('id') ?? 'anonymous')
  executed.push(id)
  return { req, res, id, path: url.pathname, query: url.searchParams, signal }
}

/** The site of a server that listens and is wrapped. */
export function siteOf(server: http.Server, duck: Duck, executed: string[], close?: () => Promise<unknown>): Site {
  return {
    address: addressOf(server),
    server,
    duck,
    executed,
    drain: () => duck.drain({ reason: 'test' }),
    async close() {
      await duck.abort('the test is over')
      await close?.()
    },
  }
}

/** Sends what a handler returned, by the means of node:http. */
export function sendRaw(res: http.ServerResponse, reply: Reply | 'raw'): void {
  if (reply === 'raw') return
  const { status = 200, headers = {}, body } = reply
  res.statusCode = status
  for (const [name, value] of Object.entries(headers)) res.setHeader(name, value)
  if (body === undefined || typeof body === 'string' || Buffer.isBuffer(body)) res.end(body)
  else body.pipe(res)
}

/** node:http or node:https with nothing in between. */
export function rawWorld(isTls: boolean): World {
  return {
    name: isTls ? 'https' : 'http',
    tls: isTls,
    lacks: ['catch'],
    async start(app, setup = {}) {
      const executed: string[] = []
      const server = createServer(isTls, setup.server, (req, res) => {
        const reply = app(exchange(executed, req, res, duck.signal))
        // A handler fails when its client goes away in the middle of a body.
        if (reply instanceof Promise) reply.then(value => sendRaw(res, value), () => res.destroy())
        else sendRaw(res, reply)
      })
      let site: Site | undefined
      setup.prepare?.(server, () => site as Site)
      const duck = wrap(server, { ...QUICK, ...setup.options })
      await listen(server, setup.unix)
      site = siteOf(server, duck, executed)
      return site
    },
  }
}
