import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { DEFAULTS } from '../src/core/options.ts'
import { hasSchema, unknownFields, validate } from './_kubernetes-schema.ts'
import { Cluster, examplePod, readManifests } from './_kubernetes.ts'

/** What is left for the process to exit in, once its deadline has passed. */
const MARGIN_SECONDS = 5

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

test('a request that hangs ends with the deadline: the pod tells what it cut before SIGKILL, which a shorter grace period prevents', async t => {
  const spec = await examplePod(t)
  const hang = async (graceMs: number) => {
    const deadlineMs = 4_000
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
  const [enough, tooShort] = await Promise.all([hang(500 + 4_000 + MARGIN_SECONDS * 1_000), hang(500 + 4_000 - 3_000)])
  assert.deepEqual(enough, { code: 1, signal: null, told: true })
  assert.deepEqual(tooShort, { code: null, signal: 'SIGKILL', told: false })
})
