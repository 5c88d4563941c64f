import assert from 'node:assert/strict'
import diagnostics from 'node:diagnostics_channel'
import http from 'node:http'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap, type Duck, type Logger } from '../src/core/index.ts'
import { app, release } from './_app.ts'
import { Client } from './_client.ts'
import { turns } from './_scenario.ts'
import { until } from './_until.ts'
import { QUICK, rawWorld, type Setup } from './_world.ts'

/** A site with one request in flight. */
async function occupied(options: Setup['options'] = {}, path = '/gate?token=secret') {
  const site = await rawWorld(false).start(app, { options })
  const client = await Client.open(site.address)
  const id = client.request(path, { method: 'POST', body: 'x' })
  while (site.executed.length === 0) await turns(1)
  return { site, duck: site.duck!, client, id }
}

test('events tell each state with the one before it, each hook, and the report, once', async () => {
  const { site, duck, id } = await occupied({ lameduckMs: 50 })
  const log: string[] = []
  duck.on('state', (state, previous) => log.push(`${previous} -> ${state}`))
  duck.on('hook', ({ name, outcome }) => log.push(`${name} ${outcome}`))
  duck.on('report', ({ outcome }) => log.push(`report ${outcome}`))
  duck.onDrain('db', () => {})
  const drained = duck.drain()
  await sleep(70)
  release(id)
  await drained
  await turns()
  assert.deepEqual(log, ['running -> lameduck', 'lameduck -> draining', 'db ok', 'draining -> drained', 'report clean'])
  await site.close()
})

test('a drain that goes on says once a second what is still holding it, without the query', async () => {
  const lines: string[] = []
  const { site, duck, id } = await occupied({ logger: { info: line => lines.push(line), warn: line => lines.push(line) } })
  const seen: unknown[] = []
  duck.on('progress', ({ elapsedMs, stats }) => {
    assert.ok(elapsedMs >= 900)
    seen.push(stats.inFlight.map(({ method, path }) => `${method} ${path}`))
  })
  const drained = duck.drain()
  await until(() => seen.length > 0, 'the first second')
  release(id)
  const { durationMs } = await drained
  assert.deepEqual(seen[0], ['POST /gate'])
  assert.ok(seen.length <= durationMs / 1_000, `${seen.length} in ${durationMs} ms`)
  assert.match(lines.join('\n'), /draining for .*POST \/gate \d/)
  assert.ok(!lines.join('').includes('secret'))
  await site.close()
})

test('a drain that waits for a hook says once a second which', async () => {
  const lines: string[] = []
  const duck = wrap(http.createServer(), { ...QUICK, logger: { info: line => lines.push(line), warn: line => lines.push(line) } })
  let seen: (hook: string | undefined) => void = () => {}
  const first = new Promise<string | undefined>(resolve => {
    seen = resolve
  })
  duck.on('progress', ({ hook }) => seen(hook))
  duck.onDrain('cache', () => {})
  duck.onDrain('database', () => first)
  duck.onDrain('log', () => {})
  await duck.drain()
  assert.equal(await first, 'database')
  assert.match(lines.join('\n'), /draining for \d\.\d s; open: no connection; hook database runs$/m)
  duck.unwrap()
})

test('a logger gets one readable line per phase and the numbers at the end', async () => {
  const lines: string[] = []
  const logger: Logger = { info: line => lines.push(`info ${line}`), warn: line => lines.push(`warn ${line}`) }
  const { site, id, duck } = await occupied({ logger, lameduckMs: 30 })
  duck.onDrain('db', () => Promise.reject(new Error('no database')))
  const drained = duck.drain({ reason: 'SIGTERM' })
  await sleep(60)
  release(id)
  await drained
  await turns()
  for (const line of lines) assert.match(line, /^(info|warn) lameduck: [^\n]+$/)
  assert.match(lines[0]!, /SIGTERM/)
  assert.ok(lines.some(line => line.startsWith('info') && line.includes('draining')))
  assert.ok(lines.some(line => line.startsWith('warn') && line.includes('db') && line.includes('no database')))
  assert.match(lines.at(-1)!, /drained in .*served 1/)
  await site.close()
})

test('a forced drain warns, and names what was destroyed', async () => {
  const lines: string[] = []
  const logger: Logger = { info: () => {}, warn: line => lines.push(line) }
  const { site } = await occupied({ logger, deadlineMs: 150 }, '/hang?token=secret')
  await site.drain()
  await turns()
  assert.ok(lines.some(line => line.includes('forced by deadline')))
  assert.ok(lines.some(line => /destroyed by deadline: POST \/hang /.test(line)), lines.join('\n'))
  assert.ok(!lines.join('').includes('secret'))
  await site.close()
})

test('a logger, an event listener or a subscriber that throws stops nothing', async () => {
  const fail = () => {
    throw new Error('thrown by a listener')
  }
  const warnings: Error[] = []
  const onWarning = (warning: Error) => warnings.push(warning)
  process.on('warning', onWarning)
  const { site, duck, id } = await occupied({ logger: { info: fail, warn: fail } })
  const faults: string[] = []
  for (const event of ['state', 'progress', 'hook', 'report'] as const) duck.on(event, fail)
  duck.on('fault', ({ where }) => faults.push(where))
  duck.onDrain('db', () => {})
  const drained = duck.drain()
  await turns()
  release(id)
  const report = await drained
  assert.equal(report.outcome, 'clean')
  await turns()
  assert.ok(faults.some(where => where.includes('state')))
  assert.ok(warnings.length > 0)
  process.off('warning', onWarning)
  await site.close()
})

test('an asynchronous logger or event listener that rejects stops nothing, and nobody has an unhandled rejection', async () => {
  const fail = () => Promise.reject(new Error('rejected by a listener'))
  const warnings: string[] = []
  const onWarning = ({ message }: Error) => warnings.push(message)
  process.on('warning', onWarning)
  const { site, duck, id } = await occupied({ logger: { info: fail, warn: fail } })
  const faults: string[] = []
  for (const event of ['state', 'hook', 'report', 'fault'] as const) duck.on(event, fail)
  duck.once('report', fail)
  duck.on('fault', ({ where }) => faults.push(where))
  duck.onDrain('db', () => {})
  const drained = duck.drain()
  await turns()
  release(id)
  assert.equal((await drained).outcome, 'clean')
  await turns()
  process.off('warning', onWarning)
  const times = (where: string) => faults.filter(fault => fault === `listener of "${where}"`).length
  assert.deepEqual([times('state'), times('hook'), times('report')], [3, 1, 2])
  assert.ok(warnings.includes('rejected by a listener'), 'of the fault listener')
  assert.ok(warnings.includes('lameduck: the logger failed: rejected by a listener'))
  await site.close()
})

test('a listener can be removed, and once is once', async () => {
  const { site, duck, id } = await occupied()
  const log: string[] = []
  const listener = () => log.push('on')
  duck.on('state', listener).off('state', listener)
  duck.once('state', () => log.push('once'))
  release(id)
  await duck.drain()
  assert.deepEqual(log, ['once'])
  await site.close()
})

test('diagnostics channels carry state, report and fault, with the duck', async () => {
  const messages: [string, { duck: Duck, args: unknown[] }][] = []
  const subscriptions = ['state', 'report', 'fault'].map(event => {
    const name = `lameduck:${event}`
    const listener = (message: unknown) => messages.push([name, message as { duck: Duck, args: unknown[] }])
    diagnostics.subscribe(name, listener)
    return () => diagnostics.unsubscribe(name, listener)
  })
  const { site, duck, id } = await occupied()
  duck.on('state', () => {
    throw new Error('to be a fault')
  })
  release(id)
  const report = await duck.drain()
  await turns()
  for (const unsubscribe of subscriptions) unsubscribe()
  assert.ok(messages.every(([, message]) => message.duck === duck))
  assert.ok(messages.some(([name, { args }]) => name === 'lameduck:state' && args[0] === 'drained'))
  assert.ok(messages.some(([name, { args }]) => name === 'lameduck:report' && args[0] === report))
  assert.ok(messages.some(([name]) => name === 'lameduck:fault'))
  await site.close()
})

test('an event that does not exist, or a listener that is no function, is refused', () => {
  const duck = wrap(http.createServer(), { signals: false })
  for (const method of ['on', 'once'] as const) {
    assert.throws(() => duck[method]('drained' as 'state', () => {}), { code: 'ERR_LAMEDUCK_OPTION', message: /event is 'drained'; allowed: state, / })
    assert.throws(() => duck[method]('state', undefined as never), { code: 'ERR_LAMEDUCK_OPTION', message: /listener is undefined/ })
  }
})
