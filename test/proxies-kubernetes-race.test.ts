/** Two things begin at once when a pod is deleted: its endpoint's removal and its end. Nobody orders them. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startLoad } from '../bench/_load.ts'
import { Cluster, examplePod, type PodSpec } from './_kubernetes.ts'

/** How long endpoints take here. In a quiet cluster it is less than a second, in a large one several. */
const PROPAGATION_MS = 2_000

/** A rolling update under load. */
async function rollout(t: TestContext, spec: PodSpec, propagationMs = PROPAGATION_MS) {
  const cluster = await Cluster.start(spec, propagationMs, 2)
  t.after(() => cluster.close())
  const load = await startLoad({ port: cluster.port, connections: 20, thinkMs: 50, method: 'POST', reconnect: true })
  t.after(() => load.stop())
  await sleep(500)
  const terminations = await cluster.rollout()
  await sleep(500)
  await load.stop()
  assert.ok(load.counts.ok > 500, `the load proves nothing: ${load.counts.ok} POSTs`)
  const { lost, failed, rejected } = load.counts
  return { lost: lost + failed + rejected, terminations, output: cluster.output }
}

test("a rolling update with the example's numbers loses nothing, though the endpoints lag behind by seconds", async t => {
  const spec = await examplePod(t)
  const { lost, terminations, output } = await rollout(t, spec)
  assert.equal(lost, 0, output)
  assert.deepEqual(terminations.map(({ code, signal }) => ({ code, signal })), [{ code: 0, signal: null }, { code: 0, signal: null }])
  assert.ok(terminations.every(({ tookMs }) => tookMs >= spec.preStopMs && tookMs < spec.graceMs))
})

test('without preStop a hook that holds the lame duck for longer than the endpoints take loses nothing either', async t => {
  // As examples/kubernetes/README.md has it. A lame duck alone ends as soon as nobody seems to be left; in front of it there is still a list.
  const hook = "duck.onDrain('endpoints', () => sleep(3_000), { at: 'begin' })"
  const spec = await examplePod(t, text => `${text.replace('wrap(server', 'const duck = wrap(server')}${hook}\n`)
  // A third of what the hook takes: the endpoints' removal is a timer of this process, which may be late.
  const { lost, terminations, output } = await rollout(t, { ...spec, preStopMs: 0 }, 1_000)
  assert.equal(lost, 0, output)
  assert.ok(terminations.every(({ code, tookMs }) => code === 0 && tookMs >= 3_000), output)
})

test('without preStop and without a lame duck the same update loses requests', async t => {
  const spec = await examplePod(t, text => text.replace('{ deadlineMs', '{ lameduckMs: 0, deadlineMs'))
  const { lost } = await rollout(t, { ...spec, preStopMs: 0 })
  assert.ok(lost > 0, 'this simulation can lose nothing, so it proves nothing')
})
