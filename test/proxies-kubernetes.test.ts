import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import { test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildCore } from '../bench/_build.ts'
import { startLoad } from '../bench/_load.ts'
import { exampleApp } from '../bench/_proxy-examples.ts'
import { DEFAULTS } from '../src/core/options.ts'
import { hasSchema, unknownFields, validate } from './_kubernetes-schema.ts'
import { Cluster, podSpec, readManifests, type PodSpec } from './_kubernetes.ts'

/** What is left for the process to exit in, once its deadline has passed. */
const MARGIN_SECONDS = 5

/** How long endpoints take here. In a quiet cluster it is less than a second, in a large one several. */
const PROPAGATION_MS = 2_000

/** The numbers of the example, and its app. */
async function example(t: TestContext, edit?: (text: string) => string): Promise<PodSpec> {
  const core = await buildCore()
  t.after(() => core[Symbol.dispose]())
  const app = exampleApp('kubernetes/app.mjs', process.env['BENCH_CORE'] ?? '', edit)
  t.after(() => app[Symbol.dispose]())
  return podSpec(readManifests()[0], [app.file])
}

/** A rolling update under load. */
async function rollout(t: TestContext, spec: PodSpec) {
  const cluster = await Cluster.start(spec, PROPAGATION_MS, 2)
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

test("Kubernetes' grace period is preStop, the deadline and five seconds, and its probes ask where lameduck answers", () => {
  const [{ spec: { template: { spec } } }] = readManifests()
  const [{ env, lifecycle, readinessProbe, livenessProbe, startupProbe }] = spec.containers
  const deadlineMs = Number(env.find(({ name }) => name === 'DEADLINE_MS')?.value)
  assert.equal(deadlineMs, DEFAULTS.deadlineMs)
  assert.equal(spec.terminationGracePeriodSeconds, lifecycle.preStop.sleep.seconds + deadlineMs / 1_000 + MARGIN_SECONDS)
  assert.equal(readinessProbe.httpGet.path, DEFAULTS.health.ready)
  assert.equal(livenessProbe.httpGet.path, DEFAULTS.health.live)
  assert.equal(startupProbe.httpGet.path, DEFAULTS.health.live)
})

test('the manifests hold to the schema of Kubernetes, in which a wrong type and an unknown field would be found', {
  skip: hasSchema ? false : 'kubernetes-models is not installed',
}, async () => {
  const manifests = readManifests()
  assert.deepEqual(manifests.map(({ kind }) => kind), ['Deployment', 'Service', 'PodDisruptionBudget'])
  for (const manifest of manifests) await validate(manifest)

  // One that is wrong beside them: the proof that it looks.
  const wrong = structuredClone(manifests[0]) as { spec: { replicas?: unknown, replica?: number } } & typeof manifests[0]
  wrong.spec.replica = 3
  const complaints = unknownFields([...manifests, wrong])
  assert.equal(complaints.length, 1, complaints.join('\n'))
  assert.match(complaints[0] ?? '', /'"replica"' does not exist in type 'IDeploymentSpec'/)
  wrong.spec.replicas = 'three'
  await assert.rejects(validate(wrong), /replicas must be/)
})

test("a rolling update with the example's numbers loses nothing, though the endpoints lag behind by seconds", async t => {
  const spec = await example(t)
  const { lost, terminations, output } = await rollout(t, spec)
  assert.equal(lost, 0, output)
  assert.deepEqual(terminations.map(({ code, signal }) => ({ code, signal })), [{ code: 0, signal: null }, { code: 0, signal: null }])
  assert.ok(terminations.every(({ tookMs }) => tookMs >= spec.preStopMs && tookMs < spec.graceMs))
})

test('without preStop a hook that holds the lame duck for longer than the endpoints take loses nothing either', async t => {
  // As examples/kubernetes/README.md has it. A lame duck alone ends as soon as nobody seems to be left; in front of it there is still a list.
  const hook = "duck.onDrain('endpoints', () => sleep(3_000), { at: 'begin' })"
  const spec = await example(t, text => `${text.replace('wrap(server', 'const duck = wrap(server')}${hook}\n`)
  const { lost, terminations, output } = await rollout(t, { ...spec, preStopMs: 0 })
  assert.equal(lost, 0, output)
  assert.ok(terminations.every(({ code, tookMs }) => code === 0 && tookMs >= 3_000), output)
})

test('without preStop and without a lame duck the same update loses requests', async t => {
  const spec = await example(t, text => text.replace('{ deadlineMs', '{ lameduckMs: 0, deadlineMs'))
  const { lost } = await rollout(t, { ...spec, preStopMs: 0 })
  assert.ok(lost > 0, 'this simulation can lose nothing, so it proves nothing')
})

test('a request that hangs ends with the deadline: the pod tells what it cut before SIGKILL, which a shorter grace period prevents', async t => {
  const spec = await example(t)
  const hang = async (graceMs: number) => {
    const deadlineMs = 2_000
    const pod = { ...spec, preStopMs: 500, graceMs, env: { ...spec.env, DEADLINE_MS: String(deadlineMs) } }
    const cluster = await Cluster.start(pod, 100, 1)
    t.after(() => cluster.close())
    const port = cluster.anyPod
    const request = http.get({ host: '127.0.0.1', port, path: '/slow', agent: false })
    const cut = once(request, 'error')
    await sleep(300)
    const { code, signal } = await cluster.delete(port)
    await cut
    return { code, signal, told: /aborted|forced/.test(cluster.output) }
  }
  const [enough, tooShort] = await Promise.all([hang(500 + 2_000 + MARGIN_SECONDS * 1_000), hang(500 + 2_000 - 1_000)])
  assert.deepEqual(enough, { code: 1, signal: null, told: true })
  assert.deepEqual(tooShort, { code: null, signal: 'SIGKILL', told: false })
})
