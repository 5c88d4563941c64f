import { STATUS_CODES } from 'node:http'
import { isDeepStrictEqual } from 'node:util'
import type { Param, Route } from './route.ts'

type Json = Record<string, unknown>

/** What every route may answer with, by status; the codes are the same ones that the checks throw. */
export const COMMON_PROBLEMS: Readonly<Record<number, readonly string[]>> = {
  400: [
    'ERR_LAMEDUCK_OPS_BODY', 'ERR_LAMEDUCK_OPS_HEADER', 'ERR_LAMEDUCK_OPS_HTTP', 'ERR_LAMEDUCK_OPS_PARAM', 'ERR_LAMEDUCK_OPS_PATH',
    'ERR_LAMEDUCK_OPS_UPGRADE',
  ],
  401: ['ERR_LAMEDUCK_OPS_TOKEN'],
  403: ['ERR_LAMEDUCK_OPS_ORIGIN', 'ERR_LAMEDUCK_OPS_SCOPE'],
  404: ['ERR_LAMEDUCK_OPS_NOT_FOUND'],
  405: ['ERR_LAMEDUCK_OPS_METHOD'],
  408: ['ERR_LAMEDUCK_OPS_TIMEOUT'],
  413: ['ERR_LAMEDUCK_OPS_BODY_SIZE'],
  415: ['ERR_LAMEDUCK_OPS_BODY_TYPE'],
  417: ['ERR_LAMEDUCK_OPS_EXPECT'],
  421: ['ERR_LAMEDUCK_OPS_HOST'],
  426: ['ERR_LAMEDUCK_OPS_UPGRADE'],
  429: ['ERR_LAMEDUCK_OPS_THROTTLED'],
  431: ['ERR_LAMEDUCK_OPS_HEAD_SIZE'],
  500: ['ERR_LAMEDUCK_OPS_FAILED'],
  503: [
    'ERR_LAMEDUCK_OPS_AUDIT', 'ERR_LAMEDUCK_OPS_AUTHORIZE', 'ERR_LAMEDUCK_OPS_BLOCKED', 'ERR_LAMEDUCK_OPS_CANCELLED',
    'ERR_LAMEDUCK_OPS_CLOSED',
  ],
}

/** Those of a route that nobody needs a token for. */
const OPEN = new Set([400, 403, 408, 413, 415, 417, 421, 431, 500, 503])

const PROBLEM_SCHEMA = {
  type: 'object',
  description: 'A problem document (RFC 9457). Further members have the figures.',
  required: ['type', 'title', 'status', 'code', 'detail'],
  properties: {
    type: { type: 'string', const: 'about:blank' },
    title: { type: 'string' },
    status: { type: 'integer' },
    code: { type: 'string', description: 'For programs: compare this.', pattern: '^ERR_LAMEDUCK_' },
    detail: { type: 'string' },
    retryAfterMs: { type: 'integer', description: 'With 429 and 503: when it may work. As a header, in seconds: Retry-After.' },
  },
} as const

const SECURITY_SCHEMES = {
  bearer: { type: 'http', scheme: 'bearer', description: 'In the Authorization header only. On the unix socket it may be that none is needed.' },
  certificate: { type: 'mutualTLS', description: "A client certificate that one of the endpoint's authorities signed." },
} as const

function problemResponse(status: number, codes: readonly string[]): Json {
  const headers = status === 429
    ? { headers: { 'Retry-After': { description: 'Seconds.', schema: { type: 'integer' } } } }
    : status === 401 ? { headers: { 'WWW-Authenticate': { description: 'Bearer.', schema: { type: 'string' } } } } : {}
  const schema = { allOf: [{ $ref: '#/components/schemas/Problem' }, { type: 'object', properties: { code: { enum: [...codes].sort() } } }] }
  return { description: `${STATUS_CODES[status] ?? 'Problem'}: ${[...codes].sort().join(', ')}`, ...headers, content: { 'application/problem+json': { schema } } }
}

function schemaOf({ type, min, max, enum: values, pattern, default: fallback }: Param): Json {
  const schema: Json = { type }
  const [least, most] = type === 'string' ? ['minLength', 'maxLength'] : ['minimum', 'maximum']
  if (min !== undefined) schema[least as string] = min
  if (max !== undefined) schema[most as string] = max
  if (values) schema.enum = [...values]
  if (pattern !== undefined) schema.pattern = `^(?:${pattern})$`
  if (fallback !== undefined) schema.default = fallback
  return schema
}

function bodyOf(params: [string, Param][]): Json {
  if (params.length === 0) return {}
  const required = params.filter(([, param]) => param.required).map(([name]) => name)
  const properties = Object.fromEntries(params.map(([name, param]) => [name, { ...schemaOf(param), description: param.description }]))
  const schema = { type: 'object', additionalProperties: false, ...(required.length > 0 ? { required } : {}), properties }
  return { requestBody: { required: required.length > 0, content: { 'application/json': { schema } } } }
}

function responsesOf({ scope, success, problems = {}, upgrade }: Route): Json {
  const content = Object.fromEntries(success.types.map(type => [type, {}]))
  const responses: Json = { [success.status]: { description: success.description, ...(success.types.length > 0 ? { content } : {}) } }
  if (upgrade) responses['101'] = { description: 'A WebSocket.' }
  const statuses = new Set([...Object.keys(COMMON_PROBLEMS).map(Number).filter(status => scope !== null || OPEN.has(status)), ...Object.keys(problems).map(Number)])
  for (const status of [...statuses].sort((a, b) => a - b)) {
    const own = problems[status]
    const common = COMMON_PROBLEMS[status] ?? []
    const shared = { $ref: `#/components/responses/${status}` }
    // A probe that fails says so as its own answer, with the same status as a problem.
    if (status === success.status) continue
    if (status === 426 && !upgrade && !own) continue
    responses[status] = own ? problemResponse(status, [...new Set([...common, ...own])]) : shared
  }
  return responses
}

/** `POST /heap/snapshots/{name}` becomes `post-heap-snapshots-name`. */
const idOf = ({ method, path }: Route) => [method.toLowerCase(), ...path.split(/[^\w]+/).filter(Boolean)].join('-')

function operationOf(route: Route): Json {
  const { scope, summary, description, params = {} } = route
  const all = Object.entries(params)
  const parameters = all.filter(([, param]) => param.in !== 'body').map(([name, param]) => ({
    name, in: param.in, description: param.description, required: param.in === 'path' || param.required === true, schema: schemaOf(param),
  }))
  return {
    operationId: idOf(route),
    summary,
    ...(description === undefined ? {} : { description }),
    // The roles of a scheme that is not OAuth's are its scopes (OpenAPI 3.1, Security Requirement Object).
    security: scope === null ? [] : [{ bearer: [scope] }, { certificate: [scope] }],
    ...(parameters.length > 0 ? { parameters } : {}),
    ...bodyOf(all.filter(([, param]) => param.in === 'body')),
    responses: responsesOf(route),
  }
}

/** Makes an OpenAPI 3.1 document out of routes, in the order of their paths and methods. */
export function openApi(routes: readonly Route[]): Json {
  const paths: Record<string, Json> = {}
  const ordered = [...routes].sort((a, b) => a.path < b.path ? -1 : a.path > b.path ? 1 : a.method < b.method ? -1 : 1)
  for (const route of ordered) (paths[route.path] ??= {})[route.method.toLowerCase()] = operationOf(route)
  return {
    openapi: '3.1.0',
    info: {
      title: 'lameduck: the maintenance endpoint',
      // Of what is offered here, not of the package.
      version: '1',
      description: 'Every answer that is no success is a problem document with a code. HEAD is answered wherever GET is. Whoever has no token gets 401 for every path but those without security.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      schemas: { Problem: PROBLEM_SCHEMA },
      responses: Object.fromEntries(Object.entries(COMMON_PROBLEMS).map(([status, codes]) => [status, problemResponse(Number(status), codes)])),
      securitySchemes: SECURITY_SCHEMES,
    },
  }
}

/** `GET /openapi.json`: of the routes as they are at that moment. */
export function openApiRoute(routes: () => readonly Route[]): Route {
  return {
    method: 'GET',
    path: '/openapi.json',
    scope: 'read',
    summary: 'This document',
    description: 'OpenAPI 3.1, of what this endpoint offers at the moment: what is switched off is not in it.',
    success: { status: 200, types: ['application/json'], description: 'The document.' },
    handler: () => ({ json: openApi(routes()) }),
  }
}

/** Where two documents differ, as JSON pointers (RFC 6901). */
function compare(is: unknown, should: unknown, at: string, found: string[]): void {
  if (isDeepStrictEqual(is, should)) return
  const both = [is, should].every(value => typeof value === 'object' && value !== null && !Array.isArray(value))
  if (!both) {
    const shown = (value: unknown) => value === undefined ? 'missing' : JSON.stringify(value).slice(0, 120)
    found.push(`${at}: the file has ${shown(is)}, the code ${shown(should)}`)
    return
  }
  const [a, b] = [is as Json, should as Json]
  for (const name of new Set([...Object.keys(a), ...Object.keys(b)])) {
    compare(a[name], b[name], `${at}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`, found)
  }
}

/** Holds a document against the code. @returns Every difference, as a line; none when they agree. */
export function checkOpenApi(document: unknown, routes: readonly Route[]): string[] {
  const found: string[] = []
  const ids = new Set<string>()
  for (const route of routes) {
    if (ids.has(idOf(route))) found.push(`${route.method} ${route.path}: another has the operationId ${idOf(route)}`)
    ids.add(idOf(route))
  }
  // As a file has it: without what is undefined.
  compare(document, JSON.parse(JSON.stringify(openApi(routes))), '', found)
  return found
}
