import { LameduckError } from '../core/index.ts'
import { SCOPES, type Param, type Reply, type Route, type Scope } from './http/route.ts'
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
  /** How long it may take, in milliseconds. Default 30,000. */
  timeoutMs?: number
  /** Runs on the main thread. What it returns is sent as JSON, unless it is a {@link Reply} with `status`, `json` or `body`. */
  handler(call: CustomCall): unknown
}

/** A custom route as it goes over to the endpoint: functions cannot. */
export interface CustomSign extends Omit<CustomRoute, 'handler'> {
  id: number
}

const REPLY = new Set(['status', 'headers', 'json', 'body', 'type'])

function isReply(value: unknown): value is Reply {
  const keys = typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.keys(value) : []
  return keys.length > 0 && keys.every(key => REPLY.has(key)) && keys.some(key => key === 'json' || key === 'body' || key === 'status')
}

/** @throws {LameduckError} `ERR_LAMEDUCK_OPTION` */
function checkRoute(route: CustomRoute): void {
  const refuse = (name: string, value: unknown, allowed: string) => {
    throw new LameduckError('ERR_LAMEDUCK_OPTION', `route.${name} is ${JSON.stringify(value)}; allowed: ${allowed}`)
  }
  const { method, path, scope, handler, timeoutMs = 1 } = route
  if (!['GET', 'POST', 'PUT', 'DELETE'].includes(method)) refuse('method', method, 'GET, POST, PUT or DELETE')
  if (typeof path !== 'string' || !/^(?:\/(?:[\w.~-]+|\{\w+\}))+$/.test(path)) refuse('path', path, 'segments such as /cache/{name}')
  if (!SCOPES.includes(scope)) refuse('scope', scope, SCOPES.join(', '))
  if (typeof handler !== 'function') refuse('handler', typeof handler, 'a function')
  if (!(timeoutMs > 0 && timeoutMs <= 3_600_000)) refuse('timeoutMs', timeoutMs, 'milliseconds from 1 to 3600000')
}

/** The application's routes: their handlers stay here, on the main thread. */
export class CustomRoutes {
  #routes = new Map<number, CustomRoute>()
  #last = 0

  /** @throws {LameduckError} `ERR_LAMEDUCK_OPTION` */
  add(route: CustomRoute): CustomSign {
    checkRoute(route)
    const same = [...this.#routes.values()].some(({ method, path }) => method === route.method && path === route.path)
    if (same) throw new LameduckError('ERR_LAMEDUCK_OPTION', `${route.method} ${route.path} is there already; allowed: one handler each`)
    this.#routes.set(++this.#last, route)
    return sign(this.#last, route)
  }

  remove(id: number): void {
    this.#routes.delete(id)
  }

  /** For an endpoint that has just begun. */
  get signs(): CustomSign[] {
    return [...this.#routes].map(([id, route]) => sign(id, route))
  }

  readonly outpost: Outpost = ({ link }) => {
    link.offer({
      custom: async ({ id, params, who }: { id: number } & Omit<CustomCall, 'signal'>, signal: AbortSignal): Promise<Reply> => {
        const answer = await this.#routes.get(id)?.handler({ params, who, signal })
        return isReply(answer) ? answer : { json: answer ?? null }
      },
    })
    return () => {}
  }
}

function sign(id: number, { method, path, scope, summary, params, timeoutMs }: CustomRoute): CustomSign {
  return { id, method, path, scope, ...(summary !== undefined && { summary }), ...(params && { params }), ...(timeoutMs !== undefined && { timeoutMs }) }
}

/** The endpoint's side of a custom route. */
export function customRoute({ main }: Bench, { id, method, path, scope, summary = `${method} ${path}`, params, timeoutMs = 30_000 }: CustomSign): Route {
  return {
    method,
    path,
    scope,
    summary,
    ...(params && { params }),
    success: { status: 200, types: ['application/json'], description: 'As the application answers' },
    handler({ params, who, signal }) {
      const { name, scopes, from } = who
      return main.call<Reply>('custom', { id, params, who: { name, scopes: [...scopes], from } }, { timeoutMs, signal })
    },
  }
}
