import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import http from 'node:http'
import net, { type AddressInfo } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { EventSource } from 'eventsource'
import { wrap, type Duck } from '../src/core/index.ts'
import { leftover } from './_leftovers.ts'
import { until } from './_until.ts'
import { listen, QUICK, rawWorld } from './_world.ts'

/** An instance that sends the numbers after `Last-Event-ID`, a few milliseconds apart. */
async function ticker(name: string): Promise<{ duck: Duck, port: number, resumedAt: string[] }> {
  const resumedAt: string[] = []
  const server = http.createServer((req, res) => {
    const last = req.headers['last-event-id']
    resumedAt.push(String(last))
    let id = Number(last ?? 0)
    res.writeHead(200, { 'Content-Type': 'text/event-stream' })
    res.write('retry: 20\n\n')
    const timer = setInterval(() => res.write(`id: ${++id}\ndata: ${name} ${id}\n\n`), 5)
    res.on('close', () => clearInterval(timer))
  })
  const duck = wrap(server, { ...QUICK, lameduckMs: 100 })
  await listen(server)
  return { duck, port: (server.address() as AddressInfo).port, resumedAt }
}

test('an EventSource goes to the second instance with its Last-Event-ID, and misses no event', async () => {
  const [one, two] = [await ticker('one'), await ticker('two')]
  // A balancer that asks for readiness, as they do.
  const balancer = net.createServer(client => {
    const upstream = net.connect((one.duck.state === 'running' ? one : two).port, '127.0.0.1')
    client.pipe(upstream).pipe(client)
    for (const [socket, other] of [[client, upstream], [upstream, client]] as const) socket.on('error', () => other.destroy())
  })
  balancer.listen(0, '127.0.0.1')
  await once(balancer, 'listening')
  const source = new EventSource(`http://127.0.0.1:${(balancer.address() as AddressInfo).port}/`)
  leftover(() => source.close())
  const events: { from: string, id: number }[] = []
  const came = new EventEmitter()
  source.addEventListener('message', ({ data }) => {
    const [from, id] = String(data).split(' ')
    events.push({ from: String(from), id: Number(id) })
    came.emit(String(from))
  })
  try {
    await once(came, 'one')
    const report = await one.duck.drain()
    assert.equal(report.outcome, 'clean')
    await once(came, 'two')
    await once(came, 'two')
    assert.deepEqual(events.map(({ id }) => id), events.map((_, i) => i + 1), 'no number is missing, none comes twice')
    const last = events.findLast(({ from }) => from === 'one')
    assert.deepEqual(two.resumedAt, [String(last?.id)])
  } finally {
    source.close()
    balancer.close()
    await two.duck.abort()
  }
})

for (const [how, head] of [['setHeader()', false], ['writeHead()', true]] as const) {
  test(`an event stream of a known length (${how}) comes to its own end`, async () => {
    const [events, write] = [20, 'data: one\n\n']
    const fields = { 'Content-Type': 'text/event-stream', 'Content-Length': String(events * write.length) }
    const site = await rawWorld(false).start(async ({ res }) => {
      if (!head) for (const [name, value] of Object.entries(fields)) res.setHeader(name, value)
      res.writeHead(200, head ? fields : {})
      for (let i = 0; i < events; i++) {
        res.write(write)
        await sleep(5)
      }
      res.end()
      return 'raw' as const
    })
    const response = await fetch(`http://127.0.0.1:${site.address.port}/`)
    const report = await site.drain()
    assert.equal(await response.text(), write.repeat(events))
    assert.equal(report?.outcome, 'clean')
  })
}

test('a long poll that waits with signalFor(res) is answered as the drain begins, not at the deadline', async () => {
  // Its own listeners are no leak either.
  const waiting = new EventEmitter().setMaxListeners(0)
  const reasons: unknown[] = []
  const site = await rawWorld(false).start(async ({ res }) => {
    const signal = site.duck!.signalFor(res)
    const event = await once(waiting, 'event', { signal }).catch((error: unknown) => {
      reasons.push(signal.reason)
      return [(error as Error).name]
    })
    return { body: String(event[0]) }
  })
  const ask = () => fetch(`http://127.0.0.1:${site.address.port}/`).then(response => response.text())
  const warnings: Error[] = []
  const onWarning = (warning: Error) => warnings.push(warning)
  process.on('warning', onWarning)
  const polls = Array.from({ length: 20 }, ask)
  await until(() => site.duck!.stats().inFlight.length === 20, 'all of them waiting')
  const report = await site.drain()
  assert.deepEqual(await Promise.all(polls), Array.from({ length: 20 }, () => 'AbortError'))
  assert.equal(report?.outcome, 'clean')
  assert.equal(reasons.length, 20)
  process.off('warning', onWarning)
  assert.deepEqual(warnings, [], 'no warning of too many listeners')
})

test('signalFor(res) is aborted when the client goes away, not when it has its answer, and at once in a drain', async () => {
  const signals = new Map<string, AbortSignal>()
  const site = await rawWorld(false).start(x => {
    signals.set(x.path, site.duck!.signalFor(x.res))
    return x.path === '/leaves' ? new Promise(() => {}) : { body: String(signals.get(x.path)?.aborted) }
  }, { options: { lameduckMs: 2_000 } })
  const at = (path: string) => `http://127.0.0.1:${site.address.port}${path}`
  assert.equal(await (await fetch(at('/answered'))).text(), 'false')
  const leaving = new AbortController()
  const left = fetch(at('/leaves'), { signal: leaving.signal }).catch(() => {})
  while (!signals.has('/leaves')) await sleep(1)
  leaving.abort()
  await left
  await once(signals.get('/leaves')!, 'abort')
  const drained = site.drain()
  assert.equal(await (await fetch(at('/late'))).text(), 'true')
  assert.equal(signals.get('/answered')?.aborted, false)
  assert.equal((await drained)?.outcome, 'clean')
})
