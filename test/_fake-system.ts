import { PassThrough } from 'node:stream'
import { settle, type SuperviseOptions } from '../src/cluster/options.ts'
import { Supervisor } from '../src/cluster/supervisor.ts'
import type { FromWorker, ToWorker } from '../src/cluster/messages.ts'
import type { ForkPlan, Proc, ProcEvents, System } from '../src/cluster/system.ts'
import type { Step } from '../src/cluster/step.ts'

/** A worker process that does what the test says. */
export class FakeProc implements Proc {
  readonly pid: number
  readonly stdout = null
  readonly stderr = null
  readonly plan: ForkPlan
  readonly told: ToWorker[] = []
  readonly signals: NodeJS.Signals[] = []
  admitted = false
  gone = false
  #on: ProcEvents

  constructor(pid: number, plan: ForkPlan, on: ProcEvents) {
    this.pid = pid
    this.plan = plan
    this.#on = on
  }

  get slot(): string | undefined {
    return this.plan.env.LAMEDUCK_SLOT
  }

  admit(): void {
    this.admitted = true
  }

  withdraw(): void {
    this.admitted = false
  }

  send(message: ToWorker): void {
    this.told.push(message)
  }

  kill(signal: NodeJS.Signals): void {
    this.signals.push(signal)
    if (signal === 'SIGKILL') this.exit(null, signal)
  }

  says(message: FromWorker): void {
    this.#on.message(message)
  }

  ready(ready = true): void {
    this.says({ lameduck: 'ready', ready, why: ready ? '' : '/readyz says 503' })
  }

  beat(vitals: Partial<Extract<FromWorker, { lameduck: 'beat' }>['vitals']> = {}): void {
    this.says({ lameduck: 'beat', vitals: { rss: 1, heapUsed: 1, requests: 0, errors: 0, connections: 0, ...vitals } })
  }

  exit(code: number | null, signal: NodeJS.Signals | null = null): void {
    if (this.gone) return
    this.gone = true
    this.#on.exit({ code, signal })
  }
}

/** Processes and a clock that do what the test says. */
export class FakeSystem implements System {
  readonly procs: FakeProc[] = []
  /** What a new process does. */
  born: (proc: FakeProc) => void = proc => proc.ready()
  #now = 0
  #timers = new Set<{ at: number; run: () => void }>()

  fork(plan: ForkPlan, on: ProcEvents): Proc {
    const proc = new FakeProc(this.procs.length + 1, plan, on)
    this.procs.push(proc)
    queueMicrotask(() => this.born(proc))
    return proc
  }

  /** What happens meanwhile. */
  closing = () => {}
  closeListeners = async () => this.closing()
  now = () => this.#now
  epoch = () => 1_000_000 + this.#now
  random = () => 0.5

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + ms, run }
    this.#timers.add(timer)
    return () => void this.#timers.delete(timer)
  }

  /** Lets time go by, timer by timer. */
  async pass(ms: number): Promise<void> {
    const until = this.#now + ms
    for (;;) {
      await settled()
      const [next] = [...this.#timers].filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)
      if (!next) break
      this.#timers.delete(next)
      this.#now = Math.max(this.#now, next.at)
      next.run()
    }
    this.#now = until
  }

  /** The machine slept: time has gone by, and nothing ran. */
  sleep(ms: number): void {
    this.#now += ms
  }

  alive(): FakeProc[] {
    return this.procs.filter(({ gone }) => !gone)
  }

  get last(): FakeProc {
    return this.procs.at(-1)!
  }
}

/** How often it was told to go. */
export const drains = ({ told }: FakeProc) => told.filter(({ lameduck }) => lameduck === 'drain').length

/** Whatever follows from promises has happened. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise(resolve => setImmediate(resolve))
}

/** A supervisor in a world of its own, with signs of life every second from all that live. */
export async function fake(options: Partial<SuperviseOptions> = {}, script = import.meta.filename): Promise<{ system: FakeSystem; supervisor: Supervisor; steps: Step[] }> {
  const system = new FakeSystem()
  const quiet = () => new PassThrough().resume()
  const settings = settle({ script, control: false, workers: 2, readyMs: 500, stdout: quiet(), stderr: quiet(), ...options })
  const supervisor = new Supervisor(settings, system)
  const steps: Step[] = []
  supervisor.onStep(step => steps.push(step))
  await system.pass(1_000)
  await system.pass(600)
  return { system, supervisor, steps }
}

/** Whoever was told to go goes, until there is nobody left who was. */
export async function goOn(system: FakeSystem, times = 5): Promise<void> {
  for (let i = 0; i < times; i++) {
    await system.pass(600)
    for (const proc of system.alive()) if (drains(proc) > 0) proc.exit(0)
  }
}
