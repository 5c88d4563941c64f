import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { pathToFileURL } from 'node:url'
import { freePort } from '../bench/_ports.ts'
import type { Step, SuperviseOptions, Supervisor } from '../src/cluster/index.ts'
import { Client } from './_client.ts'
import { buildCluster, type Cluster } from './_cluster-build.ts'
import { unstalled } from './_stopwatch.ts'
import { alive, until } from './_until.ts'
import type { App } from './fixtures/cluster-app.ts'

const built = await buildCluster()
process.once('exit', () => built[Symbol.dispose]())

export { alive, freePort, until }

/** The fixture, built. */
export const BUILT = built.folder
export const APP = built.app
export const { supervise, command, status, findSupervisors, defaultControlPath } = await import(pathToFileURL(built.main).href) as Cluster

/** What `/` of the fixture says. */
export interface Who {
  pid: number
  slot: string
  generation: string
  version?: string
  child?: number
  extra?: string
}

/** A supervisor of the fixture, and all that a test wants to know of it. */
export class World {
  readonly folder = mkdtempSync(join(tmpdir(), 'lameduck-cluster-'))
  readonly steps: Step[] = []
  readonly stdout = new PassThrough()
  readonly stderr = new PassThrough()
  readonly port: number
  out = ''
  err = ''
  /** What the next worker is told. Read at each start of a generation. */
  app: App
  supervisor!: Supervisor

  constructor(port: number, app: Partial<App>) {
    this.port = port
    this.app = { port, ...app }
    this.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.out += text
    })
    this.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.err += text
    })
  }

  start(options: Partial<SuperviseOptions> = {}): Supervisor {
    this.supervisor = supervise({
      script: APP,
      workers: 2,
      execArgv: [],
      env: () => ({ APP: JSON.stringify(this.app), NODE_OPTIONS: '' }),
      control: join(this.folder, 'control'),
      signals: false,
      readyMs: 100,
      readyTimeoutMs: 20_000,
      heartbeatMs: 100,
      deadlineMs: 10_000,
      stdout: this.stdout,
      stderr: this.stderr,
      ...options,
    })
    this.supervisor.onStep(step => this.steps.push(step))
    return this.supervisor
  }

  get address() {
    return { host: '127.0.0.1', port: this.port }
  }

  /** One request on a connection of its own. @returns Status and body. */
  async get(path: string, ms = 10_000): Promise<{ status: number; text: string }> {
    const client = await Client.open(this.address)
    try {
      client.request(path, { headers: { Connection: 'close' } })
      const { status, text } = await client.answer(ms)
      return { status, text }
    } finally {
      client.destroy()
    }
  }

  /** A connection in the hands of a worker: it has answered on it. What is asked there next is its own to answer, whatever becomes of us. */
  async use(): Promise<Client> {
    const client = await Client.open(this.address)
    client.request('/')
    await client.answer()
    return client
  }

  async who(): Promise<Who> {
    return JSON.parse((await this.get('/')).text) as Who
  }

  /** Who answers, of so many requests. */
  async crowd(requests = 20): Promise<Who[]> {
    const all: Who[] = []
    for (let i = 0; i < requests; i++) all.push(await this.who())
    return all
  }

  get pids(): number[] {
    return this.supervisor.status().workers.flatMap(({ pid }) => pid ?? [])
  }

  async close(): Promise<void> {
    if (this.supervisor) {
      void this.supervisor.kill('the test is over')
      await this.supervisor.closed
    }
    rmSync(this.folder, { recursive: true, force: true })
  }
}

type Run = (it: World) => Promise<void>

/** Runs a test with a supervisor that is ready. */
export function world(run: Run, options: Partial<SuperviseOptions> = {}, app: Partial<App> = {}): Promise<void> {
  return unstalled(() => begin(run, options, app), 3)
}

async function begin(run: Run, options: Partial<SuperviseOptions>, app: Partial<App>): Promise<void> {
  const it = new World(await freePort(), app)
  try {
    await it.start(options).ready
    await run(it)
  } catch (error) {
    if (error instanceof Error) error.message += `\n${it.err}\n${it.steps.map(step => JSON.stringify(step)).join('\n')}`
    throw error
  } finally {
    await it.close()
  }
}
