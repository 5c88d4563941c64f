import { inspect } from 'node:util'
import { LameduckError } from '../core/index.ts'
import { printable } from '../core/printable.ts'
import { messageOf } from '../core/thrown.ts'
import { Problem } from './http/problem.ts'
import { SCOPES, type Param, type Reply, type Route, type Scope } from './http/route.ts'
import { Router } from './http/router.ts'
import type { Bench, Outpost } from './part.ts'

/** What a handler of the application gets. */
export interface CustomCall {
  /** Checked, with defaults filled in. */
  params: Record<string, unknown>
  who: { name: string; scopes: Scope[]; from: string }
  /** Aborted when the client goes away, or the time is over. */
  signal: AbortSignal
}

/** Maintenance work of the application, behind the same door. */
export interface CustomRoute {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** As `/cache/{name}`; not one of lameduck's own. */
  path: string
  scope: Scope
  summary?: string
  params?: Record<string, Param>
  /** How long it may take, in milliseconds; then it is answered with 504. Default 30,000. */
  timeoutMs?: number
  /**
   * Runs on the main thread. What it returns is sent as JSON, unless it is a {@link Reply}: nothing but `status` (200 to 599), `headers`, `json`, `body`
   * (a string or bytes) and `type`, of which there is `status`, `json` or `body`. What it throws is logged, and answered with 500 without its message.
   */
  handler(call: CustomCall): unknown
}

/** A custom route as it goes over to the endpoint: functions cannot. */
export interface CustomSign extends Omit<CustomRoute, 'handler'> {
  id: number
}

/** A route of the endpoint's own, as far as it matters for whether another can be there. */
export type OwnRoute = Pick<Route, 'method' | 'path' | 'params'>

const REPLY = new Set(['status', 'headers', 'json', 'body', 'type'])

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

const isStatus = (status: unknown) => Number.isInteger(status) && Number(status) >= 200 && Number(status) <= 599

/** What has other members, or others' values in them, is the application's own, and sent as JSON. */
function isReply(value: unknown): value is Reply {
  if (!isRecord(value)) return false
  const { status, headers, body, type } = value
  const keys = Object.keys(value)
  return keys.every(key => REPLY.has(key)) && keys.some(key => key === 'json' || key === 'body' || key === 'status')
    && (status === undefined || isStatus(status)) && (headers === undefined || isRecord(headers))
    && (body === undefined || typeof body === 'string' || body instanceof Uint8Array) && (type === undefined || typeof type === 'string')
}

const PLACES = ['path', 'query', 'body']
const TYPES = ['string', 'number', 'integer', 'boolean', 'object']

function refuse(name: string, value: unknown, allowed: string): never {
  throw new LameduckError('ERR_LAMEDUCK_OPTION', `${name} is ${inspect(value, { depth: 1, maxStringLength: 80, breakLength: Infinity })}; allowed: ${allowed}`)
}

function checkParams(params: unknown): void {
  if (!isRecord(params)) refuse('route.params', params, 'an object of { in, type, description } by name')
  for (const [name, param] of Object.entries(params)) {
    if (!isRecord(param)) refuse(`route.params.${name}`, param, '{ in, type, description }')
    if (!PLACES.includes(param.in as string)) refuse(`route.params.${name}.in`, param.in, PLACES.join(', '))
    if (!TYPES.includes(param.type as string)) refuse(`route.params.${name}.type`, param.type, TYPES.join(', '))
  }
}

/** @throws {LameduckError} `ERR_LAMEDUCK_OPTION` */
function checkRoute(route: CustomRoute): void {
  if (!isRecord(route)) refuse('route', route, '{ method, path, scope, handler }')
  const { method, path, scope, handler, params, summary, timeoutMs = 1 } = route
  if (!['GET', 'POST', 'PUT', 'DELETE'].includes(method)) refuse('route.method', method, 'GET, POST, PUT or DELETE')
  if (typeof path !== 'string' || !/^(?:\/(?:[\w.~-]+|\{\w+\}))+$/.test(path)) refuse('route.path', path, 'segments such as /cache/{name}')
  if (!SCOPES.includes(scope)) refuse('route.scope', scope, SCOPES.join(', '))
  if (typeof handler !== 'function') refuse('route.handler', handler, 'a function')
  if (summary !== undefined && typeof summary !== 'string') refuse('route.summary', summary, 'a string')
  if (typeof timeoutMs !== 'number' || !(timeoutMs >= 1 && timeoutMs <= 3_600_000)) refuse('route.timeoutMs', timeoutMs, 'milliseconds from 1 to 3600000')
  if (params !== undefined) checkParams(params)
}

/** As it goes over: a copy, which nobody changes any more. @throws {LameduckError} `ERR_LAMEDUCK_OPTION` */
function signOf(id: number, { method, path, scope, summary, params, timeoutMs }: CustomRoute): CustomSign {
  try {
    return structuredClone({ id, method, path, scope, ...(summary !== undefined && { summary }), ...(params && { params }), ...(timeoutMs !== undefined && { timeoutMs }) })
  } catch {
    return refuse('route.params', params, 'what can be copied to another thread: no functions')
  }
}

/** For the router, which only holds its place. */
const placeOf = ({ method, path, params }: OwnRoute): Route => ({
  method, path, scope: null, summary: '', ...(params && { params }), success: { status: 200, types: [], description: '' }, handler: () => undefined,
})

interface Registered {
  sign: CustomSign
  handler: CustomRoute['handler']
}

/** The application's routes: their handlers stay here, on the main thread. */
export class CustomRoutes {
  #routes = new Map<number, Registered>()
  #last = 0
  #own: readonly OwnRoute[] = []
  #log: (message: string) => void

  /** @param log Hears why a handler failed. */
  constructor(log: (message: string) => void) {
    this.#log = log
  }

  /** Which routes are the endpoint's own: none of these can be added from then on. */
  set own(routes: readonly OwnRoute[]) {
    this.#own = routes
  }

  /** @throws {LameduckError} `ERR_LAMEDUCK_OPTION` */
  add(route: CustomRoute): CustomSign {
    checkRoute(route)
    const sign = signOf(this.#last + 1, route)
    this.#checkPlace(sign)
    this.#routes.set(++this.#last, { sign, handler: call => route.handler(call) })
    return sign
  }

  remove(id: number): void {
    this.#routes.delete(id)
  }

  /** For an endpoint that has just begun. */
  get signs(): CustomSign[] {
    return [...this.#routes.values()].map(({ sign }) => sign)
  }

  readonly outpost: Outpost = ({ link }) => {
    link.offer({
      custom: ({ id, ...call }: { id: number } & Omit<CustomCall, 'signal'>, signal: AbortSignal): Promise<Reply> => this.#run(id, { ...call, signal }),
    })
    return () => {}
  }

  /** What the endpoint's own router says to it. @throws {LameduckError} `ERR_LAMEDUCK_OPTION` */
  #checkPlace(sign: CustomSign): void {
    const router = new Router()
    for (const own of this.#own) router.add(placeOf(own))
    for (const other of this.signs) {
      try {
        router.add(placeOf(other))
      } catch {
        // Added before the endpoint's own were known; the endpoint has said so.
      }
    }
    router.add(placeOf(sign))
  }

  async #run(id: number, call: CustomCall): Promise<Reply> {
    const { sign, handler } = this.#routes.get(id) ?? {}
    if (!sign || !handler) throw new Problem(404, 'ERR_LAMEDUCK_OPS_NOT_FOUND', 'there is nothing here')
    try {
      const answer = await handler(call)
      const { json, ...reply } = isReply(answer) ? answer : { json: answer ?? null }
      if (json === undefined) return reply
      // As text: what JSON can say is more than what can be copied to another thread.
      return { type: 'application/json', ...reply, body: `${JSON.stringify(json) ?? 'null'}\n` }
    } catch (error) {
      // Its message may quote anything: it is for the log.
      if (!call.signal.aborted) this.#log(failed(sign, error))
      throw new Problem(500, 'ERR_LAMEDUCK_OPS_FAILED', 'this failed; the log says why')
    }
  }
}

function failed({ method, path }: CustomSign, error: unknown): string {
  const why = error instanceof Error && error.stack ? error.stack : messageOf(error)
  return printable(`${method} ${path} failed: ${why}`.replaceAll('\n', ' | '), 8_192)
}

/** Waits for a handler on the main thread. @throws {Problem} 504 when it took too long; 503 when the main thread is blocked. */
async function answerOf({ main, view }: Bench, order: object, timeoutMs: number, signal: AbortSignal): Promise<Reply> {
  try {
    return await main.call<Reply>('custom', order, { timeoutMs, signal })
  } catch (error) {
    const late = error instanceof Problem && error.code === 'ERR_LAMEDUCK_OPS_BLOCKED' && view.blockedMs === 0
    if (late) throw new Problem(504, 'ERR_LAMEDUCK_OPS_TIMEOUT', `this was not done within ${timeoutMs} ms`)
    throw error
  }
}

/** The endpoint's side of a custom route. */
export function customRoute(bench: Bench, { id, method, path, scope, summary = `${method} ${path}`, params, timeoutMs = 30_000 }: CustomSign): Route {
  return {
    method,
    path,
    scope,
    summary,
    ...(params && { params }),
    problems: { 504: ['ERR_LAMEDUCK_OPS_TIMEOUT'] },
    success: { status: 200, types: ['application/json'], description: 'As the application answers' },
    handler({ params, who, signal }) {
      const { name, scopes, from } = who
      return answerOf(bench, { id, params, who: { name, scopes: [...scopes], from } }, timeoutMs, signal)
    },
  }
}
