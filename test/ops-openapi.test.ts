import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Validator } from '@seriousme/openapi-schema-validator'
import { checkOpenApi, COMMON_PROBLEMS, openApi, openApiRoute } from '../src/ops/http/openapi.ts'
import type { Route } from '../src/ops/http/route.ts'
import { openApiText } from './_openapi.ts'
import { openDoor, route } from './_ops-door.ts'

const samples: Route[] = [
  route('/info', 'read'), route('/livez', null, { success: { status: 200, types: ['application/json'], description: 'Alive.' }, problems: { 503: ['ERR_LAMEDUCK_OPS_DEAD'] } }),
  route('/heap/snapshots', 'diag', {
    method: 'POST', description: 'Takes a *while*.', success: { status: 202, types: ['application/json'], description: 'A job.' },
    problems: { 409: ['ERR_LAMEDUCK_OPS_BUSY'], 429: ['ERR_LAMEDUCK_OPS_COOLDOWN'] },
    params: {
      when: { in: 'query', type: 'string', description: 'When.', enum: ['now', 'after-gc'], default: 'now' },
      seconds: { in: 'query', type: 'number', description: 'How long.', min: 0.1, max: 300 },
      label: { in: 'body', type: 'string', description: 'For people.', required: true, min: 1, max: 20, pattern: '[a-z]+' },
      options: { in: 'body', type: 'object', description: 'Any.' },
    },
  }),
  route('/artifacts/{name}', 'diag', { params: { name: { in: 'path', type: 'string', description: 'Which.' } }, success: { status: 200, types: ['application/octet-stream'], description: 'The file.' } }),
  route('/artifacts/{name}', 'diag', { method: 'DELETE', params: { name: { in: 'path', type: 'string', description: 'Which.' } }, success: { status: 204, types: [], description: 'Gone.' } }),
  route('/gc/stream', 'read', { success: { status: 200, types: ['text/event-stream'], description: 'Events.' } }),
  route('/repl', 'eval', { upgrade: () => {} }),
]

interface Operation { security: unknown[]; responses: Record<string, unknown>; parameters?: unknown[]; requestBody?: unknown; operationId: string }
const operation = (document: Record<string, unknown>, path: string, method: string) =>
  (document.paths as Record<string, Record<string, Operation>>)[path]?.[method] as Operation

test('what is made of routes is an OpenAPI 3.1 document', async () => {
  const validator = new Validator()
  const document = JSON.parse(openApiText(samples)) as Record<string, unknown>
  const result = await validator.validate(structuredClone(document))
  assert.deepEqual(result.valid ? [] : result.errors, [])
  assert.equal(validator.version, '3.1')
  // The validator can tell.
  assert.equal((await new Validator().validate({ ...document, paths: 1 })).valid, false)
})

test('the document says who may, with what, and what may go wrong', () => {
  const document = openApi(samples)
  const snapshot = operation(document, '/heap/snapshots', 'post')
  assert.deepEqual(snapshot.security, [{ bearer: ['diag'] }, { certificate: ['diag'] }])
  assert.deepEqual(snapshot.requestBody, { required: true, content: { 'application/json': { schema: {
    type: 'object', additionalProperties: false, required: ['label'], properties: {
      label: { type: 'string', minLength: 1, maxLength: 20, pattern: '^(?:[a-z]+)$', description: 'For people.' }, options: { type: 'object', description: 'Any.' },
    },
  } } } })
  assert.equal(snapshot.parameters?.length, 2)
  for (const status of ['202', '400', '401', '403', '409', '429', '503']) assert.ok(snapshot.responses[status], status)
  assert.match(JSON.stringify(snapshot.responses['429']), /ERR_LAMEDUCK_OPS_COOLDOWN.*ERR_LAMEDUCK_OPS_THROTTLED/)
  const livez = operation(document, '/livez', 'get')
  assert.deepEqual([livez.security, livez.responses['401']], [[], undefined])
  assert.ok(operation(document, '/repl', 'get').responses['101'])
  const ids = samples.map(({ path, method }) => operation(document, path, method.toLowerCase()).operationId)
  assert.equal(new Set(ids).size, samples.length)
})

test('GET /openapi.json gives what is there at that moment', async () => {
  const site = await openDoor({ routes: samples })
  assert.equal((await site.ask('/openapi.json', { token: null })).status, 401)
  assert.deepEqual(checkOpenApi((await site.ask('/openapi.json')).json, [...samples, openApiRoute(() => [])]), [])
  const remove = site.endpoint.add([route('/mine', 'read')])
  assert.ok(operation((await site.ask('/openapi.json')).json, '/mine', 'get'))
  remove()
  assert.equal(operation((await site.ask('/openapi.json')).json, '/mine', 'get'), undefined)
  await site.close()
})

test('the checker finds every difference between a file and the code, and says where', () => {
  const file = JSON.parse(JSON.stringify(openApi(samples))) as Record<string, unknown>
  assert.deepEqual(checkOpenApi(file, samples), [])
  const [info, ...others] = samples as [Route, ...Route[]]
  assert.match(checkOpenApi(file, others).join(), /^\/paths\/~1info: the file has \{.*, the code missing$/)
  assert.match(checkOpenApi(file, [...samples, route('/new', 'read')]).join(), /^\/paths\/~1new: the file has missing, the code \{/)
  assert.match(checkOpenApi(file, [{ ...info, summary: 'Other' }, ...others]).join(), /^\/paths\/~1info\/get\/summary: the file has "A sample", the code "Other"$/)
  assert.match(checkOpenApi(file, [{ ...info, scope: 'diag' }, ...others]).join(), /\/paths\/~1info\/get\/security/)
  assert.match(checkOpenApi(file, [...samples, route('/info', 'read')]).join(), /another has the operationId get-info/)
})

test('every code that the checks answer with is in the document', () => {
  const dir = new URL('../src/ops/http/', import.meta.url)
  const said = new Set(Object.values(COMMON_PROBLEMS).flat())
  const found = new Set<string>()
  for (const name of readdirSync(dir)) {
    const text = readFileSync(new URL(name, dir), 'utf8')
    if (name !== 'openapi.ts') for (const [, status, code] of text.matchAll(/new Problem\((\d+), '(ERR_LAMEDUCK_OPS_\w+)'/g)) found.add(`${status} ${code}`)
  }
  // 499 is never sent: the client has gone.
  const missing = [...found].filter(one => !one.startsWith('499')).filter(one => {
    const [status, code] = one.split(' ') as [string, string]
    return !COMMON_PROBLEMS[Number(status)]?.includes(code)
  })
  assert.deepEqual(missing, [])
  assert.ok(found.size > 15 && said.size > 15)
})
