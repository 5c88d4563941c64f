/** What Kubernetes does to pods in a rolling update, with the numbers of a manifest and its two sides independent, as there. */
import { fork, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'
import { buildCore } from '../bench/_build.ts'
import { exampleApp } from '../bench/_proxy-examples.ts'
import { freePorts } from '../bench/_ports.ts'

/** What is read of a container; the rest is for the API server. */
interface Manifest {
  kind: string
  apiVersion: string
  spec: {
    minReadySeconds: number
    template: {
      spec: {
        terminationGracePeriodSeconds: number
        containers: [{
          env: { name: string, value: string }[]
          lifecycle: { preStop: { sleep: { seconds: number } } }
          readinessProbe: { httpGet: { path: string }, periodSeconds: number }
          livenessProbe: { httpGet: { path: string } }
          startupProbe: { httpGet: { path: string } }
        }]
      }
    }
  }
}

/** The documents of examples/kubernetes/deployment.yaml; the Deployment is the first. */
export function readManifests(): [Manifest, ...Manifest[]] {
  const text = readFileSync(new URL('../examples/kubernetes/deployment.yaml', import.meta.url), 'utf8')
  return parseAllDocuments(text, { strict: true, uniqueKeys: true }).map(document => {
    if (document.errors[0]) throw document.errors[0]
    return document.toJS() as Manifest
  }) as [Manifest, ...Manifest[]]
}

/** A pod's numbers, and how to start it. */
export interface PodSpec {
  args: string[]
  env: NodeJS.ProcessEnv
  readyPath: string
  readyPeriodMs: number
  minReadyMs: number
  preStopMs: number
  graceMs: number
}

function podSpec({ spec }: Manifest, args: string[]): PodSpec {
  const { terminationGracePeriodSeconds, containers: [container] } = spec.template.spec
  return {
    args,
    env: Object.fromEntries(container.env.map(({ name, value }) => [name, value])),
    readyPath: container.readinessProbe.httpGet.path,
    readyPeriodMs: container.readinessProbe.periodSeconds * 1_000,
    minReadyMs: spec.minReadySeconds * 1_000,
    preStopMs: container.lifecycle.preStop.sleep.seconds * 1_000,
    graceMs: terminationGracePeriodSeconds * 1_000,
  }
}

/** A pod with the numbers of the example, and its app. */
export async function examplePod(t: TestContext, edit?: (text: string) => string): Promise<PodSpec> {
  const core = await buildCore()
  t.after(() => core[Symbol.dispose]())
  const app = exampleApp('kubernetes/app.mjs', process.env['BENCH_CORE'] ?? '', edit)
  t.after(() => app[Symbol.dispose]())
  return podSpec(readManifests()[0], [app.file])
}

export interface Termination {
  code: number | null
  signal: NodeJS.Signals | null
  /** From the pod's deletion. */
  tookMs: number
}

/** A Service with its pods. */
export class Cluster {
  readonly port: number
  output = ''
  readonly #spec: PodSpec
  readonly #propagationMs: number
  readonly #balancer: ChildProcess
  readonly #pods = new Map<number, ChildProcess>()
  readonly #endpoints = new Set<number>()

  private constructor(spec: PodSpec, propagationMs: number, balancer: ChildProcess, port: number) {
    this.#spec = spec
    this.#propagationMs = propagationMs
    this.#balancer = balancer
    this.port = port
  }

  /** @param propagationMs How long it takes until the balancer knows of a change of the endpoints. */
  static async start(spec: PodSpec, propagationMs: number, replicas: number): Promise<Cluster> {
    const program = fileURLToPath(new URL('fixtures/proxied-balancer.ts', import.meta.url))
    const balancer = fork(program, { execArgv: ['--import', 'tsx'] })
    const [port] = await once(balancer, 'message') as [number]
    const cluster = new Cluster(spec, propagationMs, balancer, port)
    await Promise.all(Array.from({ length: replicas }, () => cluster.#add()))
    await sleep(propagationMs + 100)
    return cluster
  }

  /** One new pod at a time, and an old one goes for each that has been ready for minReadySeconds. @returns How the old ones ended. */
  async rollout(): Promise<Termination[]> {
    const terminations: Promise<Termination>[] = []
    for (const old of [...this.#pods.keys()]) {
      await this.#add()
      await sleep(this.#spec.minReadyMs)
      terminations.push(this.delete(old))
    }
    return await Promise.all(terminations)
  }

  /** Of any pod, for a request past the Service. */
  get anyPod(): number {
    return this.#pods.keys().next().value ?? Number.NaN
  }

  /** Two things begin at once and nobody orders them: the endpoint's removal, and the pod's end (preStop, SIGTERM, SIGKILL). */
  async delete(port: number): Promise<Termination> {
    const pod = this.#pods.get(port)
    if (!pod) throw new Error(`no pod on ${port}`)
    this.#pods.delete(port)
    const began = performance.now()
    const { preStopMs, graceMs } = this.#spec
    const removal = sleep(this.#propagationMs).then(() => this.#publish(() => this.#endpoints.delete(port)))
    const kill = setTimeout(() => pod.kill('SIGKILL'), graceMs)
    const term = setTimeout(() => pod.kill('SIGTERM'), preStopMs)
    const [code, signal] = await once(pod, 'close') as [number | null, NodeJS.Signals | null]
    const tookMs = performance.now() - began
    clearTimeout(kill)
    clearTimeout(term)
    await removal
    return { code, signal, tookMs }
  }

  async close(): Promise<void> {
    const living = [this.#balancer, ...this.#pods.values()].filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null)
    await Promise.all(living.map(child => {
      child.kill('SIGKILL')
      return once(child, 'exit')
    }))
  }

  /** Starts a pod and waits until it is ready. Its endpoint follows. */
  async #add(): Promise<void> {
    const [port = 0] = await freePorts(1)
    const { args, env, readyPath, readyPeriodMs } = this.#spec
    const pod = spawn(process.execPath, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NODE_TEST_CONTEXT: undefined, ...env, PORT: String(port) },
    })
    for (const stream of [pod.stdout, pod.stderr]) stream.on('data', chunk => { this.output += chunk })
    this.#pods.set(port, pod)
    while (await status(port, readyPath) !== 200) {
      if (pod.exitCode !== null) throw new Error(`a pod ended with ${pod.exitCode}:\n${this.output}`)
      await sleep(Math.min(readyPeriodMs, 200))
    }
    void sleep(this.#propagationMs).then(() => this.#publish(() => this.#endpoints.add(port)))
  }

  #publish(change: () => unknown): void {
    change()
    if (this.#balancer.connected) this.#balancer.send([...this.#endpoints])
  }
}

function status(port: number, path: string): Promise<number | undefined> {
  return new Promise(resolve => {
    http.get({ host: '127.0.0.1', port, path, agent: false }, res => {
      res.resume()
      resolve(res.statusCode)
    }).on('error', () => resolve(undefined))
  })
}
