import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import tls from 'node:tls'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { DEFAULTS, LameduckError, wrap, type Options } from '../src/core/index.ts'

/** A refusal: has the code, and its message names the option, the value and what is allowed. */
function refused(run: () => unknown, code: string, ...words: string[]): void {
  assert.throws(run, (error: unknown) => {
    assert.ok(error instanceof LameduckError)
    assert.ok(error instanceof Error)
    assert.equal(error.code, code)
    for (const word of words) assert.ok(error.message.includes(word), `"${error.message}" does not mention ${word}`)
    return true
  })
}

const durations = ['deadlineMs', 'headMs', 'lameduckMs', 'lingerMs', 'quietMs', 'retryAfterMs', 'spreadMs', 'upgradedMs']
const flags = ['drainOnCrash', 'endEventStreams', 'exit']

/** Option, value, and what the message must say beside both. */
const bad: [name: string, value: unknown, allowed: string][] = [
  ...durations.flatMap(name => [-1, Number.NaN, Infinity, -Infinity, '1000', null, true, 10n, {}, 2 ** 31]
    .map((value): [string, unknown, string] => [name, value, 'milliseconds'])),
  ...flags.flatMap(name => [1, 0, 'true', null, {}].map((value): [string, unknown, string] => [name, value, 'true'])),
  ...[true, 'no', null, 1, {}].map((value): [string, unknown, string] => ['admit', value, 'serve']),
  ...['SIGTERM', true, null, {}]
    .map((value): [string, unknown, string] => ['signals', value, 'signal']),
  ...[true, 'console', null, {}, { info() {} }, { info() {}, warn: 1 }]
    .map((value): [string, unknown, string] => ['logger', value, 'info']),
  ...[true, 'html', null, {}].map((value): [string, unknown, string] => ['reject', value, 'function']),
  ...[true, 'yes', null, 1, []].map((value): [string, unknown, string] => ['health', value, 'object']),
]

for (const [name, value, allowed] of bad) {
  test(`wrap: ${name}: ${inspect(value)} is refused`, () => {
    const server = http.createServer()
    refused(() => wrap(server, { [name]: value } as Options), 'ERR_LAMEDUCK_OPTION', name, inspect(value, { depth: 0 }), allowed)
    assert.deepEqual(Object.getOwnPropertySymbols(server).filter(key => String(key).includes('lameduck')), [])
    assert.equal(Object.hasOwn(server, 'emit'), false, 'a refused wrap leaves the server as it was')
  })
}

const badHealth: [name: string, value: unknown][] = [
  ['live', ''], ['live', 'livez'], ['live', '/live?x'], ['live', 1], ['live', true], ['live', null], ['ready', '/a b'],
  ['ready', true], ['timeoutMs', -1], ['timeoutMs', Number.NaN], ['timeoutMs', Infinity], ['timeoutMs', '1'],
  ['checks', null], ['checks', 'db'], ['checks', () => true], ['checks', []], ['checks', { db: true }], ['paths', '/x'],
]

for (const [name, value] of badHealth) {
  test(`wrap: health.${name}: ${inspect(value)} is refused`, () => {
    refused(() => wrap(http.createServer(), { health: { [name]: value } } as Options), 'ERR_LAMEDUCK_OPTION', name)
  })
}

test('wrap: what is no signal, or cannot be caught, is refused', () => {
  for (const name of ['TERM', 15, 'SIGKILL', 'SIGSTOP', null]) {
    const options = { signals: ['SIGINT', name] } as Options
    refused(() => wrap(http.createServer(), options), 'ERR_LAMEDUCK_OPTION', 'signals', inspect(name), 'signal names')
  }
})

test('wrap: an unknown option is refused, and the known ones are named', () => {
  const options = { quitMs: 5 } as Options
  refused(() => wrap(http.createServer(), options), 'ERR_LAMEDUCK_OPTION', 'quitMs', '5', 'quietMs')
})

test('a refusal is one short line, whatever was given', () => {
  const given = [
    'x'.repeat(5_000), 'a\n  b', new Error('boom'), Array.from({ length: 300 }, (_, i) => i), new Map(Array.from({ length: 80 }, (_, i) => [i, i])),
    http.createServer(), { ['k'.repeat(500)]: 1 }, { [inspect.custom]: () => 'line\n'.repeat(200) },
  ]
  for (const value of given) {
    assert.throws(() => wrap(http.createServer(), { lingerMs: value as never }), ({ message }: LameduckError) => {
      assert.match(message, /^options\.lingerMs is .{1,200}; allowed: milliseconds from 0 to \d+$/)
      return true
    })
  }
})

test('wrap: options that are no object are refused', () => {
  for (const value of [null, 5, 'fast', [], () => {}]) {
    refused(() => wrap(http.createServer(), value as Options), 'ERR_LAMEDUCK_OPTION', 'options')
  }
})

test('wrap: quietMs above deadlineMs is refused', () => {
  refused(() => wrap(http.createServer(), { quietMs: 201, deadlineMs: 200 }), 'ERR_LAMEDUCK_OPTION', 'quietMs', '201', '200')
  wrap(http.createServer(), { quietMs: 200, deadlineMs: 200, signals: false }).unwrap()
})

test('wrap: lameduckMs that is not below deadlineMs is refused', () => {
  for (const lameduckMs of [200, 201]) {
    refused(() => wrap(http.createServer(), { lameduckMs, deadlineMs: 200 }), 'ERR_LAMEDUCK_OPTION', 'lameduckMs', String(lameduckMs), '200')
  }
})

test('wrap: a short deadline alone does not make the defaults an error', () => {
  wrap(http.createServer(), { deadlineMs: 50, signals: false }).unwrap()
})

test('wrap: undefined means the default, and the defaults pass', () => {
  const undefinedOptions = Object.fromEntries(Object.keys(DEFAULTS).map(key => [key, undefined]))
  for (const options of [undefined, {}, undefinedOptions, { ...DEFAULTS }]) {
    wrap(http.createServer(), { ...options, signals: false } as Options).unwrap()
  }
})

test('wrap: same path for live and ready is refused', () => {
  refused(() => wrap(http.createServer(), { health: { live: '/health', ready: '/health' } }), 'ERR_LAMEDUCK_OPTION', '/health')
})

test('wrap: something that is no server of http, https or http2 is refused', () => {
  const others = [undefined, null, 5, 'server', {}, () => {}, new EventEmitter(), net.createServer(), tls.createServer(), http, http2]
  for (const value of others) refused(() => wrap(value as http.Server), 'ERR_LAMEDUCK_SERVER', 'http')
})

test('drain: options are checked, and a refused drain is none', async () => {
  const duck = wrap(http.createServer(), { signals: false, deadlineMs: 500 })
  const wrong: object[] = [
    { deadlineMs: -1 }, { deadlineMs: Number.NaN }, { deadlineMs: Infinity }, { deadlineMs: '1' }, { lameduckMs: -1 },
    { lameduckMs: 600 }, { lameduckMs: 50, deadlineMs: 10 }, { reason: 5 }, { deadlinMs: 5 },
  ]
  for (const options of wrong) {
    await assert.rejects(duck.drain(options), { code: 'ERR_LAMEDUCK_OPTION' }, inspect(options))
    assert.equal(duck.state, 'running')
    assert.equal(duck.signal.aborted, false)
  }
  assert.equal((await duck.drain()).outcome, 'clean')
  duck.unwrap()
})

test('onDrain: what is no hook is refused', () => {
  const duck = wrap(http.createServer(), { signals: false })
  const add = duck.onDrain.bind(duck) as (...args: unknown[]) => unknown
  const hook = () => {}
  const wrong: [unknown[], string][] = [
    [[], 'name'], [['', hook], 'name'], [[5, hook], 'name'], [[hook], 'name'], [['db'], 'db'], [['db', 'close'], 'db'],
    [['db', hook, { at: 'middle' }], 'middle'], [['db', hook, { timeoutMs: -1 }], 'timeoutMs'],
    [['db', hook, { timeoutMs: Number.NaN }], 'timeoutMs'], [['db', hook, { timeoutMs: Infinity }], 'timeoutMs'],
    [['db', hook, { timeout: 5 }], 'timeout'],
  ]
  for (const [args, word] of wrong) refused(() => add(...args), 'ERR_LAMEDUCK_OPTION', word)
  duck.unwrap()
})

test('add: what is no server, is another duck\'s, or comes too late is refused', async () => {
  const [a, b] = [http.createServer(), http.createServer()]
  const duck = wrap(a, { signals: false })
  const other = wrap(b, { signals: false })
  refused(() => duck.add({} as http.Server), 'ERR_LAMEDUCK_SERVER')
  refused(() => duck.add(b), 'ERR_LAMEDUCK_SERVER')
  for (const order of [Number.NaN, Infinity, '1', null]) {
    refused(() => duck.add(http.createServer(), { order: order as number }), 'ERR_LAMEDUCK_OPTION', 'order')
  }
  assert.equal(duck.add(a), duck, 'its own server again')
  await duck.drain()
  refused(() => duck.add(http.createServer()), 'ERR_LAMEDUCK_STATE', 'drained')
  duck.unwrap()
  other.unwrap()
})

test('resume and unwrap in the wrong state are refused, and say in which they were', async () => {
  const duck = wrap(http.createServer(), { signals: false })
  refused(() => duck.resume(), 'ERR_LAMEDUCK_STATE', 'running')
  duck.lameduck()
  refused(() => duck.unwrap(), 'ERR_LAMEDUCK_STATE', 'lameduck')
  await duck.drain({ lameduckMs: 0 })
  refused(() => duck.resume(), 'ERR_LAMEDUCK_STATE', 'drained')
  duck.unwrap()
})
