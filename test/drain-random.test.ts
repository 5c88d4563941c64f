import assert from 'node:assert/strict'
import type http from 'node:http'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { wrap, type DrainReport } from '../src/core/index.ts'
import { BIG } from './_app.ts'
import { freshId } from './_client.ts'
import { Actor, type Scene } from './_random-actor.ts'
import { plans, STAYERS, STUCK, type Plan } from './_random-plan.ts'
import { turns } from './_scenario.ts'
import { Stopwatch } from './_stopwatch.ts'
import { simple } from './_websocket.ts'
import { addressOf, createServer, exchange, listen, QUICK } from './_world.ts'

const bigBody = Buffer.alloc(BIG)

/** Enough for all that ends by itself: to reach it is a failure. */
const PATIENT_MS = 10_000

/** What nothing else ends, this does. */
const STUCK_MS = 700

function handler(executed: string[]): http.RequestListener {
  return (req, res) => {
    const { path: where, query } = exchange(executed, req, res, undefined)
    const wait = Number(query.get('ms') ?? 0)
    // In the same tick; later; with the head out early; before the body was read.
    if (where === '/') res.end('at once')
    else if (where === '/early') res.writeHead(413).end('early')
    else if (where === '/slow') setTimeout(() => res.end('slow'), wait)
    else if (where === '/unread') res.end(bigBody)
    else if (where === '/events') {
      res.writeHead(200, { 'Content-Type': 'text/event-stream' })
      const timer = setInterval(() => res.write('data: more\n\n'), 5)
      res.on('close', () => clearInterval(timer))
    } else if (where === '/stream') {
      res.write('first')
      setTimeout(() => res.end('last'), wait)
    }
  }
}

/** What the clients and the report say, held against each other. */
function judge(actors: readonly Actor[], executed: readonly string[], report: DrainReport): void {
  const answered = new Set(actors.flatMap(({ client }) => client.answered))
  const forgiven = new Set(actors.flatMap(actor => actor.forgiven))
  // What the deadline cuts may be executed, and is not answered: but it is named.
  const named = new Map(report.destroyed.filter(({ why }) => why === 'deadline').map(entry => [entry.remote, entry]))
  const rest = actors.filter(({ remote }) => !named.has(remote))
  const missing = (ids: string[]) => ids.filter(id => !answered.has(id) && !forgiven.has(id))
  assert.deepEqual(missing(rest.flatMap(({ client }) => client.sent.filter(id => executed.includes(id)))), [], 'ghosts: executed and never answered, and not in the report')
  assert.equal(new Set(executed).size, executed.length, 'executed twice')
  assert.deepEqual(missing(rest.flatMap(({ owed }) => owed)), [], 'lost: sent before our FIN, and not answered')
  assert.deepEqual(actors.flatMap(({ wrong }) => wrong), [])
  const goodbyes = rest.flatMap(({ webSocket }) => (webSocket ? [webSocket.code] : []))
  assert.deepEqual(goodbyes, goodbyes.map(() => 1_001), 'close frames')
  for (const { remote, stuck } of actors) {
    if (!stuck || !executed.includes(stuck.id)) continue
    const { state, method, path, unsentBytes = 0 } = named.get(remote) ?? {}
    assert.deepEqual([state, method, path], ['active', 'GET', `/${stuck.how}`], 'executed and never answered: what the report says')
    assert.equal(unsentBytes > 0, stuck.how === 'unread', `${unsentBytes} unsent`)
  }
}

async function play(isTls: boolean, { drainMs, quietMs, lameduckMs, clients }: Plan): Promise<void> {
  const executed: string[] = []
  const server = createServer(isTls, {}, handler(executed))
  server.on('upgrade', (req, socket) => {
    executed.push(String(req.headers['x-id']))
    simple()(req, socket)
  })
  const sockets = new Map<number, Socket>()
  server.on(isTls ? 'secureConnection' : 'connection', (socket: Socket) => sockets.set(socket.remotePort ?? 0, socket))
  await listen(server)
  // `close` has been emitted at the end.
  const count = () => server.eventNames().filter(event => event !== 'close').map(event => [event, server.listenerCount(event)])
  const listeners = count()
  const deadlineMs = clients.some(({ stuck }) => stuck) ? STUCK_MS : PATIENT_MS
  const duck = wrap(server, { ...QUICK, quietMs, lameduckMs, headMs: 200, lingerMs: 100, deadlineMs })
  const scene: Scene = { address: addressOf(server), serverSide: port => sockets.get(port), draining: false }
  const actors = clients.map(one => new Actor(one, scene))
  const played = Promise.all(actors.map(actor => actor.play()))
  // Whatever they throw is thrown below.
  played.catch(() => {})
  await sleep(drainMs)
  const watch = new Stopwatch()
  scene.draining = true
  const report = await duck.drain()
  watch.assertUnder(deadlineMs + 500)
  const [tookMs, stoodStillMs] = [watch.ms, watch.ms - watch.ranMs]
  const present = actors.filter(actor => actor.client)
  // They have read nothing so far.
  for (const { client, stuck } of present) if (stuck) client.resume()
  await played
  for (const { client } of present) await client.ended()
  await turns()

  judge(present, executed, report)
  const isStuck = present.some(({ stuck }) => stuck && executed.includes(stuck.id))
  if (isStuck) {
    assert.deepEqual([report.outcome, report.forcedBy], ['forced', 'deadline'])
    assert.ok(tookMs > deadlineMs - 20, `settled after ${tookMs} ms`)
  } else if (deadlineMs === PATIENT_MS || stoodStillMs < deadlineMs / 4) assert.equal(report.outcome, 'clean', JSON.stringify(report))
  assert.equal(duck.stats().connections.total, 0)
  assert.deepEqual(duck.stats().inFlight, [])
  assert.equal(server.listening, false)
  duck.unwrap()
  assert.deepEqual(count(), listeners)
}

// fast-check prints the seed, the path and the smallest plan that fails; LAMEDUCK_SEED repeats a run, LAMEDUCK_RUNS makes it longer.
const seed = Number(process.env.LAMEDUCK_SEED ?? Date.now() % 2 ** 31)
const { LAMEDUCK_RUNS: runs } = process.env

/** None begins later; one that has begun is played to its end, so that what hangs fails. */
const LATEST_MS = runs === undefined ? 8_000 : Infinity

for (const over of ['http', 'https']) {
  test(`random clients and a drain at a random moment, over ${over}: no ghost, nothing lost, nothing left, and what is cut is named`, { timeout: runs === undefined ? 90_000 : Infinity }, async () => {
    freshId()
    const began = performance.now()
    const property = fc.asyncProperty(plans, async plan => {
      if (performance.now() - began < LATEST_MS) await play(over === 'https', plan)
    })
    await fc.assert(property, { seed, numRuns: Number(runs ?? 40), examples: [[STAYERS], [STUCK]], includeErrorInReport: true })
  })
}
