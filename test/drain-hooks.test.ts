import assert from 'node:assert/strict'
import http from 'node:http'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap, type HookReport, type Options } from '../src/core/index.ts'
import { app, release } from './_app.ts'
import { Client } from './_client.ts'
import { turns } from './_scenario.ts'
import { Stopwatch, unstalled } from './_stopwatch.ts'
import { QUICK, rawWorld } from './_world.ts'

/** A wrapped server that nobody listens on: for hooks it makes no difference. */
function bare(options: Options = {}) {
  const duck = wrap(http.createServer(), { ...QUICK, ...options })
  return { duck, done: () => duck.unwrap() }
}

const brief = (hooks: HookReport[]) => hooks.map(({ name, at, outcome }) => `${name} ${at} ${outcome}`)

test('hooks run one after the other, in the order of registration, begin before end', async () => {
  const { duck, done } = bare()
  const log: string[] = []
  const hook = (name: string) => async () => {
    log.push(`${name} starts`)
    await sleep(5)
    log.push(`${name} ends`)
  }
  duck.onDrain('db', hook('db'))
  duck.onDrain('registry', hook('registry'), { at: 'begin' })
  duck.onDrain('cache', hook('cache'), { at: 'end' })
  duck.onDrain('queue', hook('queue'), { at: 'begin' })
  const report = await duck.drain()
  const order = ['registry', 'queue', 'db', 'cache']
  assert.deepEqual(log, order.flatMap(name => [`${name} starts`, `${name} ends`]))
  assert.deepEqual(brief(report.hooks), ['registry begin ok', 'queue begin ok', 'db end ok', 'cache end ok'])
  for (const { durationMs } of report.hooks) assert.ok(durationMs >= 0 && durationMs < 5_000)
  assert.equal(report.outcome, 'clean')
  done()
})

test('begin: while requests are served still; end: after the last connection', async () => {
  const site = await rawWorld(false).start(app, { options: { lameduckMs: 100 } })
  const duck = site.duck!
  const client = await Client.open(site.address)
  const id = client.request('/gate')
  while (site.executed.length === 0) await turns(1)
  const seen: string[] = []
  duck.onDrain('first', () => void seen.push(`${duck.state} ${duck.stats().connections.total} ${site.server.listening}`), { at: 'begin' })
  duck.onDrain('last', () => void seen.push(`${duck.stats().connections.total} ${site.server.listening}`))
  const drained = duck.drain()
  await sleep(20)
  release(id)
  await drained
  assert.deepEqual(seen, ['lameduck 1 true', '0 false'])
  await site.close()
})

test('the lame duck lasts until the hooks at its begin are done', async () => {
  const { duck, done } = bare({ lameduckMs: 0 })
  let state: string | undefined
  duck.onDrain('deregister', async () => {
    await sleep(50)
    state = duck.state
  }, { at: 'begin' })
  await duck.drain()
  assert.equal(state, 'lameduck')
  done()
})

test('a hook that was removed does not run; removing it twice does no harm', async () => {
  const { duck, done } = bare()
  const ran: string[] = []
  const remove = duck.onDrain('gone', () => void ran.push('gone'))
  duck.onDrain('stays', () => void ran.push('stays'))
  remove()
  remove()
  assert.deepEqual(brief((await duck.drain()).hooks), ['stays end ok'])
  assert.deepEqual(ran, ['stays'])
  done()
})

test('the same function and the same name may be registered twice', async () => {
  const { duck, done } = bare()
  let runs = 0
  const hook = () => void runs++
  const remove = duck.onDrain('twice', hook)
  duck.onDrain('twice', hook)
  duck.onDrain('twice', hook)
  remove()
  await duck.drain()
  assert.equal(runs, 2)
  done()
})

test('a hook that is registered in the drain still runs', async () => {
  const { duck, done } = bare()
  duck.onDrain('first', () => {
    duck.onDrain('late', () => {})
  })
  const drained = duck.drain()
  duck.onDrain('later', () => {}, { at: 'end' })
  assert.deepEqual(brief((await drained).hooks), ['first end ok', 'later end ok', 'late end ok'])
  done()
})

test('a hook that throws, rejects or throws no error does not stop the rest, and is named', async () => {
  const { duck, done } = bare()
  const error = new Error('no database')
  duck.onDrain('throws', () => {
    throw error
  })
  duck.onDrain('rejects', () => Promise.reject(error), { at: 'begin' })
  duck.onDrain('rejects nothing', () => Promise.reject(undefined))
  duck.onDrain('fine', () => 'a value that nobody needs')
  const report = await duck.drain()
  assert.deepEqual(brief(report.hooks), ['rejects begin failed', 'throws end failed', 'rejects nothing end failed', 'fine end ok'])
  assert.equal(report.hooks[0]?.error, error)
  assert.equal(report.hooks[1]?.error, error)
  assert.equal(duck.state, 'drained')
  done()
})

test('a hook that hangs is left at its timeout, its signal is aborted, and the rest run', async () => {
  const { duck, done } = bare()
  let told = false
  duck.onDrain('hangs', signal => new Promise(() => {
    signal.addEventListener('abort', () => {
      told = true
    })
  }), { timeoutMs: 60 })
  duck.onDrain('fine', () => {})
  const report = await duck.drain()
  assert.deepEqual(brief(report.hooks), ['hangs end timeout', 'fine end ok'])
  assert.ok(report.hooks[0]!.durationMs >= 55)
  assert.equal(told, true)
  done()
})

test('a hook that fails after its timeout is nobody\'s unhandled rejection', async () => {
  const { duck, done } = bare()
  duck.onDrain('late to fail', async () => {
    await sleep(50)
    throw new Error('too late')
  }, { timeoutMs: 10 })
  assert.deepEqual(brief((await duck.drain()).hooks), ['late to fail end timeout'])
  await sleep(80)
  done()
})

test('hooks do not outlast the deadline: the drain settles, the rest are skipped', async () => {
  const { duck, done } = bare({ deadlineMs: 200 })
  for (const [name, timeoutMs] of [['a', 150], ['b', 60_000], ['c', 60_000]] as const) duck.onDrain(name, () => new Promise(() => {}), { timeoutMs })
  const watch = new Stopwatch()
  const report = await duck.drain()
  watch.assertUnder(1_000)
  // A timer may leave the last one a fraction of a millisecond; a busy machine that before it nothing.
  assert.match(brief(report.hooks).join(', '), /^a end timeout, b end (timeout|skipped), c end (skipped|timeout)$/)
  done()
})

test('a hanging hook at the begin does not outlast the deadline either', async () => {
  const { duck, done } = bare({ deadlineMs: 200 })
  duck.onDrain('hangs', () => new Promise(() => {}), { at: 'begin', timeoutMs: 60_000 })
  const watch = new Stopwatch()
  const report = await duck.drain()
  watch.assertUnder(1_000)
  assert.deepEqual(brief(report.hooks), ['hangs begin timeout'])
  done()
})

test('when connections use up the time, hooks still get a part of the deadline', () => unstalled(async () => {
  const site = await rawWorld(false).start(app, { options: { deadlineMs: 1_500 } })
  const client = await Client.open(site.address)
  client.request('/hang')
  while (site.executed.length === 0) await turns(1)
  let ran = false
  site.duck!.onDrain('db', async () => {
    await sleep(10)
    ran = true
  }, { timeoutMs: 1_000 })
  const watch = new Stopwatch()
  const report = await site.drain()
  watch.assertUnder(2_500)
  assert.equal(report?.outcome, 'forced')
  assert.deepEqual(brief(report.hooks), ['db end ok'])
  assert.equal(ran, true)
  await site.close()
}))

test('abort() skips the hooks that have not begun', async () => {
  const { duck, done } = bare()
  duck.onDrain('db', () => {})
  const report = await duck.abort('test')
  assert.deepEqual(brief(report.hooks), ['db end skipped'])
  assert.equal(report.outcome, 'forced')
  done()
})

test('hooks run once, however often drain() is called', async () => {
  const { duck, done } = bare()
  let runs = 0
  duck.onDrain('once', () => void runs++)
  await Promise.all([duck.drain(), duck.drain(), duck.abort()])
  await duck.drain()
  assert.ok(runs <= 1)
  done()
})

test('hooks at the begin run again in the drain after a resume', async () => {
  const { duck, done } = bare({ lameduckMs: 1_000 })
  const site = http.createServer()
  let runs = 0
  duck.onDrain('deregister', async () => {
    runs++
    await sleep(20)
  }, { at: 'begin' })
  const drained = duck.drain()
  while (runs === 0) await sleep(1)
  duck.resume()
  assert.equal((await drained).outcome, 'resumed')
  await duck.drain({ lameduckMs: 0 })
  assert.equal(runs, 2)
  site.close()
  done()
})
