import { constants } from 'node:os'
import { Hooks } from '../core/hooks.ts'
import type { Duck, HookReport } from '../core/index.ts'
import { limitOf } from './drop-in.ts'
import type { TerminusState } from './terminus-health.ts'

/** A signal that comes twice within this time is one: a terminal and npm both send Ctrl-C. */
const ONCE_MS = 1_000

interface Plan {
  beforeShutdown: (() => unknown) | undefined
  deadlineMs: number
  hooksMs: number
  log: (message: string, error: unknown) => void
  onShutdown: (() => unknown) | undefined
  onSignal: (() => unknown) | undefined
  signals: readonly NodeJS.Signals[]
  useExit0: boolean
}

/** The shutdowns of this process that a signal has begun: the first one that is done does not end the process under the others. */
interface Group {
  going: number
  failed: boolean
  exit0: boolean
}

/** One for each process, also when the package is loaded twice (as ESM and as CJS). */
const KEY = Symbol.for('lameduck.terminus.1')

function group(): Group {
  const shared = globalThis as { [KEY]?: Group }
  return (shared[KEY] ??= { going: 0, failed: false, exit0: false })
}

/** From a signal to the end of the process, for one server. */
export class Shutdown {
  #duck: Duck
  #state: TerminusState
  #plan: Plan
  #hooks = new Hooks()
  #began = 0
  #giveUp: (why: 'aborted') => void = () => {}
  /** Nobody waits for hooks any longer. */
  #givenUp: Promise<'aborted'>

  constructor(duck: Duck, state: TerminusState, plan: Plan) {
    this.#duck = duck
    this.#state = state
    this.#plan = plan
    this.#givenUp = new Promise(resolve => {
      this.#giveUp = resolve
    })
    this.#add('beforeShutdown', 'begin')
    this.#add('onSignal', 'end')
    this.#add('onShutdown', 'end')
  }

  listen(): void {
    for (const signal of this.#plan.signals) process.on(signal, this.#signalled)
  }

  #add(name: 'beforeShutdown' | 'onSignal' | 'onShutdown', at: 'begin' | 'end'): void {
    const hook = this.#plan[name]
    // At least 1: that is a timer's least, and what a hook's limit must be above 0 for.
    if (hook) this.#hooks.add(name, () => hook(), { at, timeoutMs: Math.max(this.#plan.hooksMs, 1) })
  }

  #signalled = (signal: NodeJS.Signals): void => {
    if (!this.#state.isShuttingDown) void this.#shutDown(signal)
    else if (performance.now() - this.#began > ONCE_MS) this.#giveUp('aborted')
  }

  async #shutDown(signal: NodeJS.Signals): Promise<void> {
    const all = group()
    all.going++
    all.exit0 ||= this.#plan.useExit0
    this.#began = performance.now()
    this.#state.isShuttingDown = true
    this.#duck.lameduck()
    await this.#run('begin')
    await this.#duck.drain({ ...limitOf(this.#duck, this.#plan.deadlineMs), lameduckMs: 0, reason: signal })
    await this.#run('end')
    for (const signal of this.#plan.signals) process.off(signal, this.#signalled)
    if (--all.going === 0) end(signal, all)
  }

  #run(at: 'begin' | 'end'): Promise<void> {
    return this.#hooks.run(at, () => Infinity, this.#givenUp, report => this.#ended(report))
  }

  #ended({ name, outcome, durationMs, error }: HookReport): void {
    if (outcome === 'ok') return
    group().failed = true
    const why = outcome === 'timeout' ? 'has not ended' : 'was given up at a second signal'
    this.#plan.log('error happened during shutdown', outcome === 'failed' ? error : new Error(`${name} ${why} after ${durationMs} ms`))
  }
}

/** Ends the process by the signal that it got, so that whoever sent it sees what it asked for. */
function end(signal: NodeJS.Signals, { failed, exit0 }: Group): void {
  // oxlint-disable-next-line unicorn/no-process-exit -- the original's contract, which its users rely on
  const exit = (code: number) => process.exit(code)
  if (failed) exit(1)
  else if (exit0) exit(0)
  else {
    process.kill(process.pid, signal)
    // The kernel does not let a signal without a handler end the first process of a container.
    if (process.pid === 1 && process.listenerCount(signal) === 0) exit(128 + constants.signals[signal])
  }
}
