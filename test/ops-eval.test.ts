import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { service, Shared } from './fixtures/ops-inspect-client.ts'

const shared = new Shared()
const inThread = new Shared('in-thread')
after(() => Promise.all([shared.close(), inThread.close()]))

test('an expression is evaluated in the global scope and its value described', () => shared.with(async it => {
  for (const [expression, kind, text] of [
    ['1 + 1', 'number', '2'],
    ['subject.deep', 'object', '{ a: { b: { c: [Object] } } }'],
    ['{ a: 1 }', 'object', '{ a: 1 }'],
    ['subject.map', 'object', 'Map(1) { "k" => { x: 2 } }'],
    ['subject.bytes', 'object', 'Buffer(2) [ 104, 105 ]'],
    ['subject.when', 'object', '1970-01-01T00:00:00.000Z'],
    ['subject.error', 'object', '[RangeError: out]'],
    ['"x".length; 7', 'number', '7'],
    ['typeof process', 'string', '"object"'],
    ['undefined', 'undefined', 'undefined'],
    ['-0', 'number', '-0'],
    ['10n', 'bigint', '10n'],
  ]) {
    const { status, json } = await it.evaluate(expression!)
    assert.deepEqual([status, json], [200, { ok: true, kind, text }], expression)
  }
  assert.equal((await it.evaluate('subject.deep', { depth: 0 })).json.text, '{ a: [Object] }')
}))

test('looking at a value runs no getter and no proxy', () => shared.with(async it => {
  const { json } = await it.evaluate('subject')
  assert.match(json.text, /loud: \[Getter\]/)
  assert.match(json.text, /proxy: \[Proxy\]/)
  assert.match(json.text, /thing: Thing \{ a: 1, self: \[Circular\] \}/)
  assert.equal((await it.evaluate('subject.proxy', { sideEffects: true })).json.text, '[Proxy]')
  assert.match((await it.evaluate('subject', { sideEffects: true })).json.text, /loud: \[Getter\]/)
  assert.equal((await it.evaluate('subject.hits')).json.text, '0')
}))

test('a value of any size comes bounded', () => shared.with(async it => {
  const { json } = await it.evaluate('subject.long')
  assert.match(json.text, /998000 more characters$/)
  assert.match((await it.evaluate('subject.list')).json.text, /900 more/)
  assert.ok((await it.evaluate('[subject, globalThis, process.versions]', { depth: 10, sideEffects: true })).json.text.length < 21_000)
}))

test('what would change anything is refused, and has changed nothing', () => shared.with(async it => {
  for (const expression of [
    'subject.number = 2', 'globalThis.planted = 1', 'subject.loud', 'delete subject.number', 'subject.list.push(1)', 'console.log(1)',
    'process.exit(3)', "process.getBuiltinModule('node:fs').writeFileSync('/tmp/never', 'x')", 'let planted = 1', 'setTimeout(() => {}, 1)',
    '(async () => { await 0; globalThis.planted = 1 })()', 'subject.soon.then(() => { globalThis.planted = 1 })',
  ]) {
    const { status, json } = await it.evaluate(expression)
    assert.deepEqual([status, json.ok, json.exception?.sideEffect], [200, false, true], expression)
  }
  assert.equal((await it.evaluate('[subject.number, typeof planted, subject.hits, subject.list.length]')).json.text, '[ 1, "undefined", 0, 1000 ]')
}))

test('with side effects allowed it changes the process', () => shared.with(async it => {
  assert.equal((await it.evaluate('globalThis.made = 5', { sideEffects: true })).json.text, '5')
  assert.equal((await it.evaluate('made')).json.text, '5')
  assert.equal((await it.evaluate("require('node:path').sep === process.getBuiltinModule('node:path').sep", { sideEffects: true })).json.text, 'true')
}))

test('what is thrown comes as data, with its stack', () => shared.with(async it => {
  const { status, json } = await it.evaluate('(function fails() { throw new TypeError("bad") })()', { sideEffects: true })
  assert.deepEqual([status, json.ok, json.exception.sideEffect], [200, false, false])
  assert.match(json.exception.text, /^TypeError: bad\n +at fails/)
  const syntax = await it.evaluate('1 +\n+ * 2')
  assert.match(syntax.json.exception.text, /^SyntaxError/)
  assert.equal(syntax.json.exception.line, 2)
  assert.match((await it.evaluate('throw 5', { sideEffects: true })).json.exception.text, /5/)
}))

test('a promise is waited for, also by await at the top', () => shared.with(async it => {
  assert.equal((await it.evaluate('subject.soon')).json.text, '{ done: true }')
  assert.equal((await it.evaluate('await subject.soon', { sideEffects: true })).json.text, '{ done: true }')
  assert.equal((await it.evaluate('const { done } = await subject.soon; done', { sideEffects: true })).json.text, 'true')
  assert.equal((await it.evaluate('new Promise(resolve => setTimeout(resolve, 30, "late"))', { sideEffects: true })).json.text, '"late"')
  assert.equal((await it.evaluate('subject.soon', { awaitPromise: false })).json.text, 'Promise {}')
}))

test('a promise that rejects is an exception in the answer and no unhandled rejection in the process', () => shared.with(async it => {
  for (const awaitPromise of [true, false]) await it.evaluate('Promise.reject(new Error("mine"))', { sideEffects: true, awaitPromise })
  const { json } = await it.evaluate('Promise.reject(new Error("mine"))', { sideEffects: true })
  assert.match(json.exception.text, /^Error: mine/)
  await it.get('/')
  assert.doesNotMatch(it.child.stdout, /unhandled/)
}))

test('an expression that never returns is ended by its time limit, and the process serves on', () => shared.with(async it => {
  for (const sideEffects of [false, true]) {
    const { status, json, ms } = await it.evaluate('for(;;){}', { timeoutMs: 200, sideEffects })
    assert.deepEqual([status, json.code], [504, 'ERR_LAMEDUCK_OPS_TIMEOUT'])
    assert.ok(ms < 15_000)
    assert.equal(await it.get('/'), 'hello')
  }
}))

test('a promise that never settles is given up at the time limit, and the process serves on', () => shared.with(async it => {
  for (const [expression, sideEffects] of [['subject.never', false], ['await subject.never', true], ['new Promise(() => {})', true]] as const) {
    const { status, json, ms } = await it.evaluate(expression, { timeoutMs: 200, sideEffects })
    assert.deepEqual([status, json.code], [504, 'ERR_LAMEDUCK_OPS_TIMEOUT'], expression)
    assert.ok(ms < 15_000)
  }
  assert.equal(await it.get('/'), 'hello')
}))

test('an expression that never returns after an await is ended too', () => service(async it => {
  for (const expression of ['(async () => { await 0; for(;;){} })()', 'await 0; for(;;){}']) {
    const { status, json } = await it.evaluate(expression, { timeoutMs: 200, sideEffects: true })
    assert.deepEqual([status, json.code], [504, 'ERR_LAMEDUCK_OPS_TIMEOUT'], expression)
    assert.equal(await it.get('/'), 'hello')
  }
  assert.equal(await it.get('/debugger'), 'not paused')
  assert.equal((await it.evaluate('1 + 1')).json.text, '2')
}))

test('the application\'s own loop is not ended by the time limit of an expression', () => shared.with(async it => {
  const spun = it.get('/spin?ms=1000')
  await sleep(100)
  const { status } = await it.evaluate('for(;;){}', { timeoutMs: 100 })
  assert.equal(status, 504)
  const waits = await it.evaluate('await subject.never', { timeoutMs: 100, sideEffects: true })
  assert.equal(waits.status, 504)
  assert.ok(Number(await spun) > 0)
}))

test('a busy loop of the application can be looked into, and ended through a variable', () => shared.with(async it => {
  await it.busy('/spin?ms=20000')
  assert.equal((await it.evaluate('subject.number')).json.text, '1')
  const begun = performance.now()
  assert.equal((await it.evaluate('globalThis.stop = true', { sideEffects: true })).json.text, 'true')
  assert.equal(await it.get('/'), 'hello')
  assert.ok(performance.now() - begun < 15_000)
  await it.evaluate('globalThis.stop = false', { sideEffects: true })
}))

test('a main thread in native code refuses, and does not evaluate it later either', () => shared.with(async it => {
  await it.native(async () => {
    const { status, json } = await it.evaluate('globalThis.tooLate = 1', { sideEffects: true })
    assert.deepEqual([status, json.code], [503, 'ERR_LAMEDUCK_OPS_BLOCKED'])
  })
  assert.equal(await it.get('/'), 'hello')
  assert.equal((await it.evaluate('typeof tooLate')).json.text, '"undefined"')
}))

test('the audit line has the digest and the length of the expression, and not its text', () => shared.with(async it => {
  const expression = '"geheim".length'
  const { note } = await it.evaluate(expression)
  assert.deepEqual(note, { sha256: createHash('sha256').update(expression).digest('hex'), length: 15, sideEffects: false })
}))

test('on the main thread itself it evaluates as well, within its time limit', () => inThread.with(async it => {
  assert.equal((await it.evaluate('subject.deep.a')).json.text, '{ b: { c: { d: 1 } } }')
  assert.equal((await it.evaluate('await subject.soon', { sideEffects: true })).json.text, '{ done: true }')
  for (const expression of ['for(;;){}', 'subject.never']) {
    const { status, json } = await it.evaluate(expression, { timeoutMs: 200 })
    assert.deepEqual([status, json.code], [504, 'ERR_LAMEDUCK_OPS_TIMEOUT'], expression)
  }
  assert.equal((await it.evaluate('subject.number = 9')).json.exception.sideEffect, true)
  assert.equal(await it.get('/'), 'hello')
}))
