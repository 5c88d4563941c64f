import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import { afterEach, test } from 'node:test'
import * as originalTerminus from '@godaddy/terminus'
import { createHttpTerminator as originalTerminator } from 'http-terminator'
import type originalStoppable from 'stoppable'
import { createHttpTerminator, type HttpTerminatorConfigurationInput } from '../src/adapters/http-terminator.ts'
import stoppable, { stoppable as named, type StoppableServer, type WithStop } from '../src/adapters/stoppable.ts'
import { HealthCheckError, createTerminus, type HealthCheck, type TerminusOptions } from '../src/adapters/terminus.ts'
import { duckOf } from '../src/core/duck.ts'
import { wrap } from '../src/core/index.ts'

// What TypeScript accepts of the originals it accepts of the drop-ins: `npm run types` compiles these.
const asStoppable: typeof originalStoppable = stoppable
const asTerminator: typeof originalTerminator = createHttpTerminator
const asTerminus: originalTerminus.Terminus = createTerminus
const asError: typeof originalTerminus.HealthCheckError = HealthCheckError
const asOptions = (options: originalTerminus.TerminusOptions): TerminusOptions => options
// And back: what is written with the types of the drop-ins fits where those of the originals are expected. (`signals` may be readonly here.)
const asCheck = (check: HealthCheck): originalTerminus.HealthCheck => check
const asOriginal = (options: Omit<TerminusOptions, 'signals'>): originalTerminus.TerminusOptions => options
const asInput = (input: HttpTerminatorConfigurationInput): Parameters<typeof originalTerminator>[0] => input

const signals = ['SIGTERM', 'SIGINT'] as const
// createTerminus listens for signals, and has no way back.
afterEach(() => {
  for (const signal of signals) process.removeAllListeners(signal)
})

function refuses(option: string, attempt: () => unknown): void {
  assert.throws(attempt, (error: { code?: string, message: string }) => {
    assert.equal(error.code, 'ERR_LAMEDUCK_OPTION', error.message)
    assert.ok(error.message.startsWith(`${option} is `), error.message)
    assert.match(error.message, /; allowed: /)
    return true
  })
}

test('stoppable gives the same server back, with a stop() that returns nothing', async () => {
  const server = http.createServer()
  const stopped: StoppableServer = asStoppable(server)
  assert.equal(stopped, server)
  assert.equal(named, stoppable)
  server.listen(0)
  await once(server, 'listening')
  const ended = new Promise(resolve => {
    // Taken off the server, as promisify does.
    const { stop }: WithStop = stopped
    assert.equal(stop((...args) => resolve(args)), undefined)
  })
  assert.deepEqual(await ended, [undefined, true])
  assert.equal(server.listening, false)
})

/** A request that is never answered is cut by its limit, and the stop says so. */
async function stopsByForce(server: http.Server & WithStop): Promise<void> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const lost = fetch(`http://127.0.0.1:${(server.address() as { port: number }).port}`).catch((error: Error) => error.message)
  await once(server, 'request')
  assert.deepEqual(await new Promise(resolve => server.stop((...args) => resolve(args))), [undefined, false])
  assert.equal(await lost, 'fetch failed')
}

test('stoppable twice on one server: the grace of the last one counts', async () => {
  const server = stoppable(stoppable(http.createServer(), Infinity), 100)
  server.on('request', () => {})
  await stopsByForce(server)
})

test('a limit that a drop-in was given holds for a drain that a supervisor begins, too; a default does not', () => {
  const server = () => http.createServer()
  const of = (wrapped: http.Server) => duckOf(wrapped)?.deadlineMs
  const terminated = (gracefulTerminationTimeout?: number) => {
    const one = server()
    createHttpTerminator({ server: one, ...(gracefulTerminationTimeout !== undefined && { gracefulTerminationTimeout }) })
    return one
  }
  assert.deepEqual([stoppable(server(), 7_000), terminated(6_000), createTerminus(server(), { timeout: 3_000 })].map(of), [7_000, 6_000, 3_000])
  assert.deepEqual([terminated(), createTerminus(server())].map(of), [undefined, undefined])
})

test('a drop-in that has all the time in the world stops in its supervisor\'s, as often as it is stopped', { timeout: 60_000 }, async () => {
  const key = Symbol.for('lameduck.supervisedDeadlineMs')
  const scope = globalThis as { [key: symbol]: number }
  scope[key] = 300
  const server = stoppable(http.createServer(() => {}))
  try {
    for (let i = 0; i < 2; i++) await stopsByForce(server)
  } finally {
    delete scope[key]
  }
})

test('what the callback of stop() throws is an uncaught exception, as with stoppable, and no rejection', async () => {
  const server = stoppable(http.createServer())
  const thrown = new Promise(resolve => {
    const others = process.rawListeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    process.once('uncaughtException', (error, origin) => {
      for (const other of others) process.on('uncaughtException', other as () => void)
      resolve([error.message, origin])
    })
  })
  server.stop(() => {
    throw new Error('of the callback')
  })
  assert.deepEqual(await thrown, ['of the callback', 'uncaughtException'])
})

test('a server that is wrapped keeps its duck: its hooks run when a drop-in stops it', async () => {
  const server = http.createServer()
  const duck = wrap(server, { signals: false })
  let ran = 0
  duck.onDrain('count', () => void ran++)
  await asTerminator({ server: server.listen(0) }).terminate()
  assert.equal(ran, 1)
  assert.equal(wrap(server), duck)
  assert.equal(duck.state, 'drained')
})

test('a limit that is no number from 0 on is refused by name', () => {
  for (const bad of [-1, Number.NaN, null, '300', {}] as never[]) {
    refuses('grace', () => stoppable(http.createServer(), bad))
    refuses('gracefulTerminationTimeout', () => createHttpTerminator({ server: http.createServer(), gracefulTerminationTimeout: bad }))
    refuses('options.timeout', () => createTerminus(http.createServer(), { timeout: bad }))
    refuses('options.hookTimeout', () => createTerminus(http.createServer(), { hookTimeout: bad }))
  }
})

test('something that is no server is refused, and nothing is left of the attempt', () => {
  const before = signals.map(signal => process.listenerCount(signal))
  const attempts: ((server: never) => unknown)[] = [stoppable, createTerminus, server => createHttpTerminator({ server })]
  for (const attempt of attempts) {
    for (const bad of [undefined, {}, () => {}] as never[]) assert.throws(() => attempt(bad), { code: 'ERR_LAMEDUCK_SERVER' })
  }
  assert.deepEqual(signals.map(signal => process.listenerCount(signal)), before)
})

test('a key that is no option is ignored without a word, as the originals do it', () => {
  const misspelt = { timout: 5, gracefulTerminationTimout: 5 }
  for (const terminus of [originalTerminus.createTerminus, createTerminus]) {
    const server = http.createServer()
    assert.equal(terminus(server, misspelt as object), server)
  }
  for (const terminator of [originalTerminator, createHttpTerminator]) {
    assert.equal(typeof terminator({ server: http.createServer(), ...misspelt }).terminate, 'function')
  }
})

test('terminus: options that cannot be meant are refused by name', () => {
  const circular: { self?: object } = {}
  circular.self = circular
  const bad: Record<string, object> = {
    'options.signals': { signal: 'SIGKILL' },
    'options.beforeShutdown': { beforeShutdown: 'sleep' },
    'options.onSignal': { onSignal: Promise.resolve() },
    'options.logger': { logger: console },
    'options.statusOk': { statusOk: 99 },
    'options.statusError': { statusError: '503' },
    'options.statusOkResponse': { statusOkResponse: circular },
    'options.statusErrorResponse': { statusErrorResponse: 'down' },
    'options.headers': { headers: null },
    'options.headers.X-Bad': { headers: { 'X-Bad': 'a\nb' } },
    'options.healthChecks': { healthChecks: 1 },
    'options.healthChecks./health': { healthChecks: { '/health': 'ok' } },
  }
  for (const [name, options] of Object.entries(bad)) refuses(name, () => createTerminus(http.createServer(), options as TerminusOptions))
  refuses('options', () => createTerminus(http.createServer(), null as never))
  refuses('options.signals', () => createTerminus(http.createServer(), { signals: 'SIGTERM' as never }))
})

test('terminus: what is undefined means the default, and the same server comes back', async () => {
  const options = { timeout: undefined, signals: undefined, healthChecks: { '/health': async () => {}, '/off': false } } as unknown as TerminusOptions
  const server = http.createServer((_req, res) => res.end('the application'))
  assert.equal(asTerminus(server), server)
  assert.equal(createTerminus(server, asOptions({})), server)
  assert.equal(createTerminus(server, options), server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const ask = (path: string) => fetch(`http://127.0.0.1:${(server.address() as { port: number }).port}${path}`).then(res => res.text())
  assert.deepEqual([await ask('/health'), await ask('/off')], ['{"status":"ok"}', 'the application'])
  server.close()
  server.closeAllConnections()
  assert.deepEqual(new asError('failed', ['a cause']).causes, ['a cause'])
})

test('what is written with the types of the drop-ins fits where those of the originals are expected', async () => {
  const check: HealthCheck = async ({ state }) => ({ version: 1, ...state })
  const state = { isShuttingDown: false }
  assert.equal((await check({ state })).version, 1)
  assert.deepEqual(await asCheck(check)({ state }), { version: 1, isShuttingDown: false })
  const onSignal = async () => 'closed'
  assert.equal(await asOriginal({ onSignal }).onSignal?.(), 'closed')
  const { server, gracefulTerminationTimeout } = asInput({ server: http.createServer(), gracefulTerminationTimeout: 5 })
  assert.deepEqual([server.listening, gracefulTerminationTimeout], [false, 5])
})

test('terminus: a logger that throws is no reason to leave a probe without an answer', async () => {
  const server = createTerminus(http.createServer(), {
    healthChecks: { '/health': () => Promise.reject(new Error('no database')) },
    logger: () => {
      throw new Error('of the logger')
    },
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const warned = once(process, 'warning')
  const { status } = await fetch(`http://127.0.0.1:${(server.address() as { port: number }).port}/health`)
  assert.equal(status, 503)
  assert.match(String(await warned), /of the logger/)
  server.close()
  server.closeAllConnections()
})
