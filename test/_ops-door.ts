import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { createAudit } from '../src/ops/http/audit-trail.ts'
import type { AuditEntry } from '../src/ops/http/audit.ts'
import { createEndpoint, type Endpoint, type EndpointOptions } from '../src/ops/http/endpoint.ts'
import { SCOPES, type Param, type Route, type Scope } from '../src/ops/http/route.ts'
import type { OpsOptions } from '../src/ops/options.ts'
import { settle } from '../src/ops/settle.ts'
import { endLeftovers, leftover } from './_leftovers.ts'

after(endLeftovers)

/** A folder of the test's own, 0700, that goes away with it. Short: a socket's path has to fit. */
export function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'ld-'))
  leftover(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

export const freshToken = () => randomBytes(32).toString('base64url')

/** Whether root runs this, who may do what modes forbid. */
export const root = process.getuid?.() === 0

/** A route that does nothing but answer, with what is given in its place. */
export function route(path: string, scope: Scope | null, more: Partial<Route> = {}): Route {
  return {
    method: 'GET', path, scope, summary: 'A sample',
    success: { status: 200, types: ['application/json'], description: 'Fine.' },
    handler: () => ({ json: { path } }),
    ...more,
  }
}

export interface Answer {
  status: number
  headers: http.IncomingHttpHeaders
  text: string
  /** The body as JSON. */
  json: Record<string, unknown>
}

/** An endpoint that listens, and what it did. */
export interface DoorSite {
  endpoint: Endpoint
  url: string
  path: string | undefined
  /** The audit's entries, in order. */
  entries: AuditEntry[]
  /** What went to the log. */
  lines: string[]
  /** One request on a connection of its own, with this token unless it is told otherwise. */
  ask(path: string, options?: Asking): Promise<Answer>
  close(): Promise<void>
}

export interface Asking {
  method?: string
  headers?: Record<string, string>
  /** Null: none. */
  token?: string | null
  /** An object is sent as JSON. */
  body?: string | object
  agent?: http.Agent
  tls?: https.RequestOptions
}

/** One request. */
export function request(url: string, socketPath: string | undefined, path: string, { method = 'GET', headers = {}, token, body, agent, tls }: Asking = {}): Promise<Answer> {
  const text = typeof body === 'object' ? JSON.stringify(body) : body
  const { hostname, port, protocol } = new URL(url)
  const all: Record<string, string> = { ...headers }
  if (token !== null && token !== undefined) all.Authorization = `Bearer ${token}`
  if (typeof body === 'object') all['Content-Type'] ??= 'application/json'
  if (text !== undefined) all['Content-Length'] ??= String(Buffer.byteLength(text))
  return new Promise((resolve, reject) => {
    const host = hostname.replace(/^\[|\]$/g, '')
    const where = socketPath === undefined ? { host, port } : { socketPath }
    const go = protocol === 'https:' ? https.request : http.request
    const req = go({ ...where, path, method, headers: all, agent: agent ?? false, ...tls }, res => {
      const chunks: Buffer[] = []
      res.on('data', chunk => chunks.push(chunk))
      res.on('error', reject)
      res.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        const isJson = /json/.test(res.headers['content-type'] ?? '') && text !== ''
        resolve({ status: res.statusCode ?? 0, headers: res.headers, text, json: isJson ? JSON.parse(text) as Record<string, unknown> : {} })
      })
    })
    req.on('error', reject)
    req.end(text)
  })
}

export interface DoorSetup {
  options?: OpsOptions
  routes?: Route[]
  authorize?: EndpointOptions['authorize']
  /** The audit's file. Default none. */
  file?: string
  /** Of the requests. Default: of everybody who needs one. */
  token?: string
}

/** Opens an endpoint on loopback, unless the options say where. By default with one token, which may do everything. */
export async function openDoor({ options = {}, routes = [route('/info', 'read')], authorize, file, token = freshToken() }: DoorSetup = {}): Promise<DoorSite> {
  const scopes: Scope[] = ['read', 'diag', 'secrets', 'control', 'eval']
  const settings = settle({ listen: { port: 0 }, auth: { tokens: [{ name: 'ann', scopes, token }] }, ...options })
  const entries: AuditEntry[] = []
  const lines: string[] = []
  const audit = createAudit({ file: file ?? false, onEntry: entry => entries.push(entry), log: line => lines.push(line) })
  const endpoint = createEndpoint({ settings, routes, audit, log: line => lines.push(line), ...(authorize ? { authorize } : {}) })
  const { url, path } = await endpoint.listen()
  const close = async () => {
    ended()
    await endpoint.close()
    await audit.close()
  }
  const ended = leftover(() => void close())
  const ask = (to: string, asking: Asking = {}) => request(url, path, to, { token, ...asking })
  return { endpoint, url, path, entries, lines, ask, close }
}

/** Waits until something holds. @throws After fifteen seconds, or `ms`. */
export async function until(what: string, holds: () => boolean, ms = 15_000): Promise<void> {
  const end = performance.now() + ms
  while (!holds()) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

/** What the checks answer with. */
export const CODES = {
  host: 'ERR_LAMEDUCK_OPS_HOST', origin: 'ERR_LAMEDUCK_OPS_ORIGIN', path: 'ERR_LAMEDUCK_OPS_PATH', header: 'ERR_LAMEDUCK_OPS_HEADER',
  param: 'ERR_LAMEDUCK_OPS_PARAM', body: 'ERR_LAMEDUCK_OPS_BODY', type: 'ERR_LAMEDUCK_OPS_BODY_TYPE', size: 'ERR_LAMEDUCK_OPS_BODY_SIZE',
}

/** An endpoint whose only handler counts. */
export async function counted(params: Record<string, Param> = {}, more: Partial<Route> = {}, options = {}) {
  const seen: Record<string, unknown>[] = []
  const work = route('/work', 'diag', {
    method: 'POST', params,
    handler: call => {
      seen.push(call.params)
      return { json: { done: true } }
    },
    ...more,
  })
  const token = freshToken()
  const site = await openDoor({
    routes: [work, route('/info', 'read'), route('/livez', null)], token,
    options: { auth: { tokens: [{ name: 'ann', scopes: ['read', 'diag'], token }] }, ...options },
  })
  return { site, seen, token }
}

/** A problem document, whole and in order. */
export function isProblem(answer: { status: number; headers?: Record<string, unknown>; json: Record<string, unknown> }, status: number, code: string): void {
  assert.equal(answer.status, status, JSON.stringify(answer.json))
  assert.equal(answer.json.code, code)
  assert.equal(answer.json.status, status)
  assert.equal(answer.json.type, 'about:blank')
  assert.equal(typeof answer.json.detail, 'string')
  if (answer.headers) assert.equal(answer.headers['content-type'], 'application/problem+json')
}

export const calm = { failures: { burst: 1_000, perSecond: 1_000 } }

/** One route for each scope, and one for everybody. */
export function scoped(executed: string[] = []): Route[] {
  const note = (path: string) => ({ handler: () => (executed.push(path), { json: {} }) })
  return [...SCOPES.map(scope => route(`/${scope}`, scope, { method: 'POST', ...note(scope) })), route('/livez', null, note('livez'))]
}

export const post = (site: DoorSite, path: string, token: string | null) => site.ask(path, { method: 'POST', token })
