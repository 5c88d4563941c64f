/** What stands behind a proxy: processes on fixed ports that are restarted, and a journal of what they executed. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePorts } from './_ports.ts'

/** How to start one process on a port (or the path of a unix socket). It appends `METHOD url` to the journal, a line for each request it executes. */
export interface Program {
  args: (port: string, journal: string) => string[]
  env?: (port: string, journal: string) => NodeJS.ProcessEnv
  /** Replaces what it runs while it goes on. Without it a restart is a SIGTERM, and another process. */
  reload?: (port: string) => Promise<Restart>
  /** The signals that end it at once, and its children with it. Default SIGKILL: it has none. */
  abort?: readonly NodeJS.Signals[]
}

export interface Restart {
  /** From SIGTERM until the process was gone; of a reload, until it was over. */
  drainMs: number
  /** It had to be killed. */
  killed: boolean
  code: number | null
}

/** Processes behind one proxy, or whatever is restarted in steps: a supervisor has one port, and `restart` may be its reload. */
export interface Upstream {
  /** Ports on 127.0.0.1, or paths of unix sockets: what PORT was set to. */
  readonly addresses: readonly string[]
  /** Restarts the part with this index and resolves when it is ready again. */
  restart(index: number): Promise<Restart>
  /** `METHOD url` of everything that was executed, in order. */
  executed(): string[]
  output(): string
  close(): Promise<void>
}

export interface InstancesOptions {
  /** Of the processes, from 1 to 2. Default 2. */
  count?: number | undefined
  /** How long one may take to end before it is killed. Default 10 000. */
  killMs?: number
  /** Unix sockets instead of ports. */
  sockets?: boolean | undefined
}

/** Processes, each with a listener of its own. Resolves when all are ready. */
export async function startInstances(program: Program, options: InstancesOptions = {}): Promise<Upstream> {
  const { count = 2, killMs = 10_000, sockets = false } = options
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-instances-'))
  const journal = join(folder, 'journal')
  closeSync(openSync(journal, 'a'))
  chmodSync(folder, 0o755) // nginx's workers are nobody
  const names = ['one', 'two'].slice(0, count)
  const addresses = sockets ? names.map((name) => join(folder, `${name}.sock`)) : (await freePorts(count)).map(String)
  const instances = addresses.map((address) => new Instance(address, journal, program, killMs))
  const upstream: Upstream = {
    addresses,
    async restart(index) {
      const instance = instances[index]
      if (!instance) throw new Error(`no instance ${index}`)
      if (program.reload) return program.reload(instance.address)
      const ended = await instance.stop()
      await instance.start()
      return ended
    },
    executed: () => readFileSync(journal, 'utf8').split('\n').filter(Boolean),
    output: () => instances.map((instance) => instance.output).join(''),
    async close() {
      await Promise.all(instances.map((instance) => instance.kill()))
      rmSync(folder, { recursive: true, force: true })
    },
  }
  try {
    await Promise.all(instances.map((instance) => instance.start()))
    return upstream
  } catch (error) {
    await upstream.close()
    throw error
  }
}

class Instance {
  output = ''
  readonly address: string
  readonly #journal: string
  readonly #program: Program
  readonly #killMs: number
  #child: ChildProcess | undefined
  #gone: Promise<unknown> = Promise.resolve()

  constructor(address: string, journal: string, program: Program, killMs: number) {
    this.address = address
    this.#journal = journal
    this.#program = program
    this.#killMs = killMs
  }

  /** Resolves when its readiness passes. */
  async start(): Promise<void> {
    const { args, env } = this.#program
    const child = spawn(process.execPath, args(this.address, this.#journal), {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NODE_TEST_CONTEXT: undefined, PORT: this.address, ...env?.(this.address, this.#journal) },
    })
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => { this.output += chunk })
    const orphan = () => child.kill('SIGKILL')
    process.on('exit', orphan)
    this.#child = child
    this.#gone = once(child, 'close').then(() => { process.off('exit', orphan) })
    while (!await isReady(this.address)) {
      if (child.exitCode !== null || child.signalCode !== null) {
        throw new Error(`an instance ended (${child.signalCode ?? child.exitCode}) before it was ready:\n${this.output}`)
      }
      await sleep(20)
    }
  }

  /** SIGTERM, and SIGKILL if that does not end it. */
  async stop(): Promise<Restart> {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) throw new Error(`the instance had ended:\n${this.output}`)
    const began = performance.now()
    let killed = false
    child.kill('SIGTERM')
    const timer = setTimeout(() => { killed = child.kill('SIGKILL') }, this.#killMs)
    await this.#gone
    clearTimeout(timer)
    return { drainMs: performance.now() - began, killed, code: child.exitCode }
  }

  async kill(): Promise<void> {
    for (const signal of this.#program.abort ?? ['SIGKILL']) this.#child?.kill(signal)
    const timer = setTimeout(() => this.#child?.kill('SIGKILL'), this.#killMs)
    await this.#gone
    clearTimeout(timer)
  }
}

/** Whether `GET /readyz` says 200, on a connection of its own. */
function isReady(address: string): Promise<boolean> {
  const where = address.startsWith('/') ? { socketPath: address } : { host: '127.0.0.1', port: address }
  return new Promise((resolve) => {
    http.get({ ...where, path: '/readyz', agent: false }, (res) => {
      res.resume()
      resolve(res.statusCode === 200)
    }).on('error', () => resolve(false))
  })
}
