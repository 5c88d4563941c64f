import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CODES, counted, isProblem, openDoor, route } from './_ops-door.ts'
import type { Param } from '../src/ops/http/route.ts'

const PARAMS: Record<string, Param> = {
  seconds: { in: 'query', type: 'number', description: 'How long.', min: 0.1, max: 300, default: 5 },
  count: { in: 'query', type: 'integer', description: 'How many.', min: 0 },
  when: { in: 'query', type: 'string', description: 'When.', enum: ['now', 'after-gc'] },
  force: { in: 'query', type: 'boolean', description: 'Whether.' },
  name: { in: 'query', type: 'string', description: 'What.', min: 1, max: 5, pattern: '[a-z]+' },
  level: { in: 'body', type: 'string', description: 'Level.', required: true },
  options: { in: 'body', type: 'object', description: 'Any.' },
  limit: { in: 'body', type: 'integer', description: 'Any.' },
}

for (const [query, body, param, allowed] of [
  ['seconds=-5', {}, 'seconds', 'from 0.1 to 300'], ['seconds=1e9', {}, 'seconds', 'a number'], ['seconds=1000000000', {}, 'seconds', '300'], ['seconds=', {}, 'seconds', 'a number'],
  ['seconds=NaN', {}, 'seconds', 'a number'], ['seconds=0x10', {}, 'seconds', 'a number'], ['seconds=Infinity', {}, 'seconds', 'a number'], ['seconds=1&seconds=2', {}, 'seconds', 'once'],
  ['count=1.5', {}, 'count', 'an integer'], ['count=99999999999999999999', {}, 'count', 'an integer'], ['count=-1', {}, 'count', 'at least 0'],
  ['when=later', {}, 'when', "'now', 'after-gc'"], ['force=yes', {}, 'force', 'true or false'], ['force', {}, 'force', 'true or false'],
  ['name=', {}, 'name', 'from 1 to 5 characters'], ['name=abcdef', {}, 'name', 'characters'], ['name=A', {}, 'name', '[a-z]+'], ['name=a%0a', {}, 'name', 'a string'],
  ['sekonds=1', {}, "'sekonds'", 'seconds'], ['level=x', {}, "'level'", 'seconds'], ['access_token=abc', {}, "'access_token'", 'seconds'],
  ['', undefined, 'level', 'a string'], ['', {}, 'level', 'a string'], ['', { level: 1 }, 'level', 'a string'], ['', { level: null }, 'level', 'a string'],
  ['', { level: 'x', options: [] }, 'options', 'an object'], ['', { level: 'x', limit: '5' }, 'limit', 'an integer'], ['', { level: 'x', limit: 2 ** 53 }, 'limit', 'an integer'],
  ['', { level: 'x', seconds: 5 }, "'seconds'", 'level, options, limit'],
] as const) {
  test(`the parameters ?${query} and ${JSON.stringify(body)} are answered with 400 that names ${param}`, async () => {
    const { site, seen } = await counted(PARAMS)
    const whole = body === undefined || Object.keys(body).length > 0 || param === 'level' ? body : { level: 'x' }
    const answer = await site.ask(`/work?${query}`, { method: 'POST', ...(whole === undefined ? {} : { body: whole }) })
    isProblem(answer, 400, CODES.param)
    assert.equal(answer.json.param, param)
    assert.ok(String(answer.json.detail).includes(param) && String(answer.json.allowed).includes(allowed), JSON.stringify(answer.json))
    assert.ok(String(answer.json.detail).includes(String(answer.json.allowed)))
    assert.equal(seen.length, 0)
    await site.close()
  })
}

test('good parameters arrive as what they are, with defaults', async () => {
  const { site, seen } = await counted(PARAMS)
  const body = { level: 'multi\nline', options: { a: [1] }, limit: -3 }
  assert.equal((await site.ask('/work?count=7&when=after-gc&force=true&name=abc', { method: 'POST', body })).status, 200)
  assert.deepEqual(seen, [{ seconds: 5, count: 7, when: 'after-gc', force: true, name: 'abc', ...body }])
  await site.close()
})

test('a parameter in the path is decoded once, and a fixed path goes before it', async () => {
  const names: unknown[] = []
  const params: Record<string, Param> = { name: { in: 'path', type: 'string', description: 'Which.' } }
  const site = await openDoor({
    routes: [
      route('/loggers/{name}', 'read', { params, handler: call => (names.push(call.params.name), { json: {} }) }),
      route('/loggers/all', 'read', { handler: () => ({ json: { all: true } }) }),
    ],
  })
  for (const name of ['db', 'db%20pool', 'caf%C3%A9', '%40scope', 'a+b']) assert.equal((await site.ask(`/loggers/${name}`)).status, 200)
  assert.deepEqual(names, ['db', 'db pool', 'caf\u00e9', '@scope', 'a+b'])
  assert.deepEqual((await site.ask('/loggers/all')).json, { all: true })
  for (const path of ['/loggers/', '/loggers', '/loggers/a/b']) assert.equal((await site.ask(path)).status, 404)
  await site.close()
})
