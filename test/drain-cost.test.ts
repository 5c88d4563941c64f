import assert from 'node:assert/strict'
import http from 'node:http'
import net, { type AddressInfo } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import v8 from 'node:v8'
import vm from 'node:vm'
import { wrap } from '../src/core/index.ts'
import { app } from './_app.ts'
import { Child } from './_child.ts'
import { Client } from './_client.ts'
import { turns } from './_scenario.ts'
import { listen, rawWorld } from './_world.ts'
import type { Churn } from './fixtures/churn.ts'

/** The timers that are set and have neither fired nor been cleared, by where they were set. */
function watchTimers(): { live: () => string[], set: () => number, restore: () => void } {
  const { setTimeout, setInterval, clearTimeout, clearInterval } = globalThis
  const live = new Map<unknown, string>()
  let set = 0
  const origin = () => (new Error().stack ?? '').split('\n').slice(3, 5).join(' ').trim()
  globalThis.setTimeout = ((run: (...args: unknown[]) => void, ms?: number, ...args: unknown[]) => {
    set++
    const timer = setTimeout(() => {
      live.delete(timer)
      run(...args)
    }, ms)
    live.set(timer, origin())
    return timer
  }) as typeof setTimeout
  globalThis.setInterval = ((run: () => void, ms?: number) => {
    set++
    const timer = setInterval(run, ms)
    live.set(timer, origin())
    return timer
  }) as typeof setInterval
  const clear = (original: typeof clearTimeout) => ((timer: NodeJS.Timeout | undefined) => {
    live.delete(timer)
    original(timer)
  }) as typeof clearTimeout
  globalThis.clearTimeout = clear(clearTimeout)
  globalThis.clearInterval = clear(clearInterval) as typeof clearInterval
  return {
    live: () => [...live.values()].filter(where => where.includes('/src/')),
    set: () => set,
    restore: () => Object.assign(globalThis, { setTimeout, setInterval, clearTimeout, clearInterval }),
  }
}

const endings = ['drain', 'abort', 'deadline', 'resume and drain', 'ignored FIN', 'hanging hook', 'hanging check', 'unwrap'] as const

for (const ending of endings) {
  test(`no timer is left after: ${ending}`, async () => {
    const timers = watchTimers()
    try {
      const site = await rawWorld(false).start(app, {
        options: {
          lameduckMs: ending === 'resume and drain' ? 3_000 : 0,
          deadlineMs: ending === 'deadline' ? 300 : 5_000,
          health: { checks: ending === 'hanging check' ? { hang: () => new Promise(() => {}) } : {}, timeoutMs: 50 },
        },
      })
      const duck = site.duck!
      const clients = await Promise.all(Array.from({ length: 3 }, () => Client.open(site.address, { polite: ending !== 'ignored FIN' })))
      const [idle, busy, half] = clients as [Client, Client, Client]
      idle.request(ending === 'hanging check' ? '/readyz' : '/')
      await idle.answer()
      half.write('GET / HT')
      if (ending === 'deadline' || ending === 'abort') busy.request('/hang')
      if (ending === 'hanging hook') duck.onDrain('hangs', () => new Promise(() => {}), { timeoutMs: 50 })
      await turns()
      if (ending === 'resume and drain') {
        const drained = duck.drain()
        await turns()
        duck.resume()
        await drained
        assert.deepEqual(timers.live(), [], 'after resume()')
        await duck.drain({ lameduckMs: 0 })
      } else if (ending === 'abort') {
        void duck.drain()
        await turns()
        await duck.abort()
      } else if (ending === 'unwrap') {
        duck.lameduck()
        duck.resume()
      } else await duck.drain()
      duck.unwrap()
      await turns()
      assert.deepEqual(timers.live(), [])
      for (const client of clients) client.destroy()
      site.server.close()
      site.server.closeAllConnections()
    } finally {
      timers.restore()
    }
  })
}

test('nothing that keeps the event loop alive is left after a drain', async () => {
  const site = await rawWorld(false).start(app)
  const clients = await Promise.all(Array.from({ length: 5 }, () => Client.open(site.address)))
  for (const client of clients) client.request('/')
  await Promise.all(clients.map(client => client.answer()))
  await site.drain()
  site.duck!.unwrap()
  for (const client of clients) client.destroy()
  await sleep(20)
  const ours = process.getActiveResourcesInfo().filter(name => /TCP|TLS|Timeout|Immediate/.test(name))
  assert.deepEqual(ours, [])
})

/** Calls of these methods while `run` goes on. Node's own code has copies of its own, so these are ours. */
async function counted(run: () => Promise<void>): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  const restores: (() => void)[] = []
  for (const [name, prototype, method] of [
    ['Map.set', Map.prototype, 'set'], ['Set.add', Set.prototype, 'add'], ['WeakMap.set', WeakMap.prototype, 'set'],
    ['WeakSet.add', WeakSet.prototype, 'add'], ['bind', Function.prototype, 'bind'],
  ] as [string, any, string][]) {
    const original = prototype[method]
    counts[name] = 0
    prototype[method] = function (...args: unknown[]) {
      const caller = (new Error().stack ?? '').split('\n')[2]
      if (caller?.includes('/src/')) counts[name]!++
      return original.apply(this, args)
    }
    restores.push(() => {
      prototype[method] = original
    })
  }
  const timers = watchTimers()
  try {
    await run()
    counts.timers = timers.set()
  } finally {
    timers.restore()
    for (const restore of restores) restore()
  }
  return counts
}

test('in rotation, a request costs no timer and no write to a map or a set', async () => {
  const server = http.createServer((_req, res) => res.end('hello'))
  const duck = wrap(server, { signals: false, lameduckMs: 0 })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const socket = net.connect((server.address() as AddressInfo).port, '127.0.0.1')
  const ask = () => new Promise<void>(resolve => {
    socket.once('data', () => resolve())
    socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  })
  await ask()
  const counts = await counted(async () => {
    for (let i = 0; i < 200; i++) await ask()
  })
  assert.deepEqual(counts, { 'Map.set': 0, 'Set.add': 0, 'WeakMap.set': 0, 'WeakSet.add': 0, bind: 0, timers: 0 })
  assert.equal(duck.stats().counters.served, 201)
  socket.end()
  await duck.drain()
})

test('a client that always has a request in flight: each is counted as it is answered, its response is let go', async () => {
  v8.setFlagsFromString('--expose-gc')
  const gc = vm.runInNewContext('gc') as () => void
  const responses: WeakRef<http.ServerResponse>[] = []
  let closed = 0
  const server = http.createServer((_req, res) => {
    responses.push(new WeakRef(res))
    setTimeout(() => res.end('hello'), 20)
    res.on('close', () => closed++)
  })
  const duck = wrap(server, { signals: false, lameduckMs: 0 })
  try {
    await listen(server)
    const socket = net.connect((server.address() as AddressInfo).port, '127.0.0.1').resume()
    // What has just closed is counted with the next look at it.
    let uncounted = 0
    for (let i = 0; i < 300; i++) {
      socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(10))
      await sleep(3)
      uncounted = Math.max(uncounted, closed - duck.stats().counters.served)
    }
    assert.equal(uncounted, 0)
    gc()
    await turns()
    gc()
    const kept = responses.slice(0, 1_000).filter(one => one.deref()).length
    assert.ok(kept < 100, `${kept} of the first 1,000 responses are kept`)
    socket.end()
  } finally {
    await duck.drain()
  }
})

test('an application that takes every close listener off its responses: pipelined ones are counted and let go at the next idle moment', async () => {
  const server = http.createServer((_req, res) => {
    res.removeAllListeners('close')
    setImmediate(() => {
      res.removeAllListeners('close')
      res.end('hello')
    })
  })
  const duck = wrap(server, { signals: false, lameduckMs: 0 })
  await listen(server)
  const socket = net.connect((server.address() as AddressInfo).port, '127.0.0.1').resume()
  for (let i = 0; i < 10; i++) {
    socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(5))
    await sleep(50)
  }
  assert.equal(duck.stats().counters.served, 50)
  socket.end()
  await duck.drain()
})

test('pipelined requests in flight are listed in their order', async () => {
  const site = await rawWorld(false).start(app)
  const client = await Client.open(site.address)
  client.pipeline(['/gate', '/hang', '/slow?ms=5000'].map(path => ({ path })))
  while (site.executed.length < 3) await turns(1)
  assert.deepEqual(site.duck!.stats().inFlight.map(({ path }) => path), ['/gate', '/hang', '/slow'])
  client.destroy()
  await site.close()
})

test('pairs of requests in quick succession, and a slow one behind them: nobody is warned of too many listeners', async () => {
  const site = await rawWorld(false).start(app)
  const client = await Client.open(site.address)
  const warnings: string[] = []
  const heard = (warning: Error) => warnings.push(warning.message)
  process.on('warning', heard)
  try {
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 40; i++) {
        client.pipeline([{ path: '/' }, { path: '/' }])
        await client.answer()
        await client.answer()
      }
      client.request('/slow?ms=60')
      await client.answer()
    }
    assert.deepEqual(warnings, [])
  } finally {
    process.off('warning', heard)
    await site.close()
  }
})

/** As many connections, or as many as the environment says. */
const CHURN = Number(process.env.LAMEDUCK_CHURN ?? 4_000)

test('thousands of connections, pipelined, aborted and half-sent requests leave nothing', { timeout: 60_000 + CHURN * 5 }, async () => {
  const child = new Child('churn.ts', [], { node: ['--expose-gc'], env: { LAMEDUCK_CHURN: `${CHURN}` } })
  try {
    const churn = JSON.parse(await child.says(/^churn (.*)$/m, 50_000 + CHURN * 5)) as Churn
    assert.equal(churn.connections, CHURN)
    assert.ok(churn.requests > 2.5 * CHURN, `${churn.requests} requests`)
    assert.equal(churn.stats.connections.total, 0)
    assert.deepEqual(churn.stats.inFlight, [])
    assert.equal(churn.stats.counters.accepted, churn.connections)
    assert.ok(churn.sampled > 1.25 * CHURN)
    // The last socket or so may still be on a stack.
    assert.ok(churn.kept <= 20, `${churn.kept} of ${churn.sampled} sampled sockets, requests and responses are kept`)
    assert.equal((await child.exited).code, 0)
  } finally {
    await child.close()
  }
})

test('out of file descriptors, the drain completes', { skip: process.platform === 'win32' }, async () => {
  const child = new Child('starved.ts', [], { shell: 'ulimit -n 128' })
  const clients: Client[] = []
  try {
    const port = Number(await child.says(/^port (\d+)/m))
    const address = { host: '127.0.0.1', port }
    const idle = await Client.open(address)
    const client = await Client.open(address)
    clients.push(idle, client)
    client.request('/starve')
    assert.equal((await client.answer()).text, 'EMFILE')
    // These stay in the accept queue: there is no descriptor for them.
    for (let i = 0; i < 5; i++) clients.push(Client.dial(address))
    const started = performance.now()
    child.kill('SIGTERM')
    await child.says(/^report (\w+)/m)
    assert.equal((await child.exited).signal, null)
    assert.ok(performance.now() - started < 15_000)
    assert.equal(await idle.ended(), 'fin')
  } finally {
    for (const client of clients) client.destroy()
    await child.close()
  }
})
