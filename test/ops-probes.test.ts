// What readiness probes ask of the main thread, and what they do not wait for.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MessageChannel } from 'node:worker_threads'
import { Heartbeat } from '../src/ops/heartbeat.ts'
import { Link } from '../src/ops/link.ts'
import type { Bench } from '../src/ops/part.ts'
import { settle } from '../src/ops/settle.ts'
import { probeRoutes } from '../src/ops/state/probes.ts'
import { View } from '../src/ops/state/view.ts'
import { until } from './_until.ts'

/** Both sides of an endpoint's link, and its probe. */
interface Site {
  main: Link
  heartbeat: Heartbeat
  view: View
  /** How often the main thread was asked. */
  asked(): number
  /** Lets the main thread answer. */
  answer(): void
  /** @returns The status. */
  readyz(): Promise<number | undefined>
}

async function site(timeoutMs: number, run: (it: Site) => Promise<void>): Promise<void> {
  const { port1, port2 } = new MessageChannel()
  const [main, endpoint] = [new Link(port1), new Link(port2)]
  const heartbeat = new Heartbeat()
  const waiting: (() => void)[] = []
  main.offer({ readiness: () => new Promise(resolve => void waiting.push(() => resolve({ ready: true, checks: {} }))) })
  const settings = settle({ listen: { port: 0 }, auth: { authorize: () => null }, health: { timeoutMs } })
  const view = new View(endpoint, heartbeat)
  const route = probeRoutes({ main: endpoint, view, settings } as Partial<Bench> as Bench).find(({ path }) => path === '/readyz')!
  try {
    await run({
      main,
      heartbeat,
      view,
      asked: () => waiting.length,
      answer: () => waiting.at(-1)?.(),
      readyz: async () => (await route.handler({} as never) as { status?: number }).status,
    })
  } finally {
    heartbeat.stop()
    main.close()
    endpoint.close()
  }
}

// None of these may wait for the limit of its question, which is longer than the test's.
const LONG_MS = 600_000
const options = { timeout: 60_000 }

test('a main thread that has not come to its timers for longer than health.timeoutMs is not ready at once, and is asked nothing', options, () => site(20_000, async it => {
  // It has never had a heartbeat.
  assert.ok(it.heartbeat.blockedMs > 20_000)
  assert.deepEqual(await Promise.all([it.readyz(), it.readyz()]), [503, 503])
  assert.equal(it.asked(), 0)
  it.heartbeat.start()
  const verdict = it.readyz()
  await until(() => it.asked() === 1, 'the question')
  it.answer()
  assert.equal(await verdict, 200)
}))

test('a health.timeoutMs of 0 is not for ever', options, () => site(0, async it => {
  it.heartbeat.start()
  assert.equal(await it.readyz(), 503)
}))

test('a diagnostic pause ends the question that is under way, and who comes meanwhile does not wait for it', options, () => site(LONG_MS, async it => {
  it.heartbeat.start()
  const before = it.readyz()
  await until(() => it.asked() === 1, 'the question')
  it.main.tell('pause', { what: 'a heap snapshot', untilMs: Date.now() + LONG_MS })
  assert.deepEqual([await before, await it.readyz(), it.asked()], [503, 503, 1])
  it.main.tell('pause', null)
  await until(() => it.view.pause === undefined, 'the end of the pause')
  const after = it.readyz()
  await until(() => it.asked() === 2, 'another question')
  it.answer()
  assert.equal(await after, 200)
}))
