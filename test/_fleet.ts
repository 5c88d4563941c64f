import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../bench/_ports.ts'
import type { Step, SuperviseOptions } from '../src/cluster/index.ts'
import { Child } from './_child.ts'
import type { Built } from './_cluster-build.ts'
import { until } from './_until.ts'
import type { App } from './fixtures/cluster-app.ts'

/** When things happened in a start, by `performance.now()`. */
export interface Start {
  spawnedAt: number
  /** The first worker was started. */
  bootedAt: number
  /** All of them were ready. */
  readyAt: number
}

export interface FleetOptions {
  built: Built
  workers: number
  app?: Partial<App>
  supervise?: Partial<SuperviseOptions>
  /** A control socket by its path, or where it is by default. */
  control?: 'given' | 'default'
}

/**
 * A supervising process and its workers, by what it says of them. It has folders of its own for temporary files and for sockets, and all
 * its processes have its folder among their arguments: so it can be seen what is left behind.
 */
export class Fleet {
  readonly port: number
  readonly folder = mkdtempSync(join(tmpdir(), 'lameduck-fleet-'))
  /** Each connection that a worker got: see `accepts` of the fixture. */
  readonly accepts = join(this.folder, 'accepts')
  /** Of those that live, by pid, as the supervisor says. */
  readonly workers = new Map<number, Step['what']>()
  readonly killed = new Set<number>()
  /** Told to go, or gone by themselves. */
  readonly left = new Set<number>()
  readonly steps: Step[] = []
  readonly wanted: number
  primary!: Child
  #options: FleetOptions
  #waiting = new Set<() => void>()
  /** What is not left behind: it is made for the supervisor. */
  #own = ['run', 'temporary'].map(name => join(this.folder, name))

  private constructor(port: number, options: FleetOptions) {
    this.port = port
    this.#options = options
    this.wanted = options.workers
    for (const folder of this.#own) mkdirSync(folder, { mode: 0o700 })
    writeFileSync(this.accepts, '')
  }

  static async make(options: FleetOptions): Promise<Fleet> {
    return new Fleet(await freePort(), options)
  }

  /** Workers that serve, those that were killed left out from that moment on. */
  get ready(): number {
    return [...this.workers.values()].filter(what => what === 'ready').length
  }

  /** Where the supervisor listens. */
  get control(): string {
    const [run] = this.#own as [string]
    if (this.#options.control !== 'default') return join(run, 'control')
    const name = this.sockets.find(path => path.endsWith(`.${this.primary.process.pid}.sock`))
    return join(run, name ?? 'none')
  }

  /** All that there are, below their folder. */
  get sockets(): string[] {
    return files(this.#own[0]!)
  }

  /** Starts a supervisor. @returns Once all workers are ready. */
  async start(): Promise<Start> {
    const { built, app, workers, supervise, control } = this.#options
    const [run, temporary] = this.#own as [string, string]
    this.workers.clear()
    const options: Partial<SuperviseOptions> = {
      script: built.app, args: [this.folder], workers, execArgv: [], deadlineMs: 20_000, ...supervise,
      ...(control !== 'default' && { control: join(run, 'control') }),
    }
    const env = {
      APP: JSON.stringify({ port: this.port, accepts: this.accepts, ...app }),
      TMPDIR: temporary, XDG_RUNTIME_DIR: run,
    }
    const spawnedAt = performance.now()
    let bootedAt = 0
    this.primary = new Child(built.run, [built.folder, JSON.stringify(options)], { env, ipc: true })
    const { primary } = this
    primary.process.on('message', message => {
      const { step } = message as { step?: Step }
      if (!step || primary !== this.primary) return
      if (step.what === 'starting') bootedAt ||= performance.now()
      this.#heard(step)
    })
    await primary.says(/^ready ([\d ]+)/m, 60_000)
    await this.until(() => this.ready === workers, 'all workers ready')
    return { spawnedAt, bootedAt, readyAt: performance.now() }
  }

  /** Waits for something that the supervisor says. */
  async until(is: () => boolean, what: string, ms = 60_000): Promise<void> {
    if (is()) return
    await new Promise<void>((resolve, reject) => {
      const look = () => {
        if (!is()) return
        clearTimeout(timer)
        this.#waiting.delete(look)
        resolve()
      }
      const timer = setTimeout(() => {
        this.#waiting.delete(look)
        const last = this.steps.slice(-20).map(step => JSON.stringify(step)).join('\n')
        reject(new Error(`not within ${ms} ms: ${what}\n${last}\n${this.primary.stderr.slice(-2_000)}`))
      }, ms)
      this.#waiting.add(look)
    })
  }

  /** As many as there should be, all of them ready, and nobody is leaving. */
  calm(): Promise<void> {
    return this.until(() => this.ready === this.wanted && this.workers.size === this.wanted, 'all ready, and nobody else there')
  }

  /** SIGKILL. @returns Whether that one was still alive. */
  kill(pid: number): boolean {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      return false
    }
    this.killed.add(pid)
    this.workers.delete(pid)
    return true
  }

  /** SIGKILL to the supervisor. @returns Its workers, which are to leave by themselves, once it is dead. */
  async killPrimary(): Promise<number[]> {
    const { process: child } = this.primary
    const dead = new Promise(resolve => child.once('exit', resolve))
    child.kill('SIGKILL')
    await dead
    for (const pid of this.workers.keys()) this.left.add(pid)
    return [...this.workers.keys()]
  }

  /** Ends the supervisor as a service manager does. */
  async stop(): Promise<void> {
    this.primary.kill('SIGTERM')
    await this.primary.exited
  }

  /** What should not be there any more once the supervisor has ended: processes, sockets, temporary files. */
  async leftovers(): Promise<string[]> {
    await until(() => this.#processes().length === 0, 'the end of all processes').catch(() => {})
    return [...this.#processes(), ...this.#own.flatMap(folder => files(folder).map(name => join(folder, name)))]
  }

  /** Ends whatever is still there, in whatever state. */
  async close(): Promise<void> {
    await this.primary?.close()
    for (const line of this.#processes()) process.kill(Number.parseInt(line), 'SIGKILL')
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** Who got a connection with this port at its other end, in a time of the epoch. The last one: it may have come back from one that was killed. */
  accepter(port: number, from: number, to: number): number | undefined {
    if (!existsSync(this.accepts)) return undefined
    const lines = readFileSync(this.accepts, 'utf8').split('\n').map(line => line.split(' ').map(Number) as [number, number, number])
    return lines.findLast(([, at, when]) => at === port && when >= from && when <= to)?.[0]
  }

  #heard(step: Step): void {
    this.steps.push(step)
    const { pid, what } = step
    if (pid !== undefined) {
      if (what === 'retiring' || what === 'leaving') this.left.add(pid)
      if (what === 'exited' || what === 'crashed') this.workers.delete(pid)
      else if (!this.killed.has(pid) && STATES.has(what)) this.workers.set(pid, what)
    }
    for (const look of [...this.#waiting]) look()
  }

  /** `<pid> <arguments>` */
  #processes(): string[] {
    const { stdout } = spawnSync('ps', ['-A', '-ww', '-o', 'pid=,args='], { encoding: 'utf8' })
    return stdout.split('\n').map(line => line.trim()).filter(line => line.includes(this.folder) && !line.includes('<defunct>'))
  }
}

/** Steps that say what a worker is. */
const STATES = new Set<Step['what']>(['starting', 'ready', 'unready', 'leaving', 'stuck', 'isolated', 'retiring'])

function files(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).filter(entry => !entry.isDirectory()).map(entry => join(entry.parentPath, entry.name).slice(folder.length + 1))
}
