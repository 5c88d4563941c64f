import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { failed, type DrainReport } from './report.ts'

/** What a lifecycle needs of a duck. */
export interface Member {
  drain(options: { reason: string; lameduckMs?: number }): Promise<DrainReport>
  abort(reason: string): Promise<DrainReport>
}

/** What a member wants of the process. */
export interface Policy {
  signals: readonly NodeJS.Signals[]
  exit: boolean
  drainOnCrash: boolean
  /** Of its drain. Default 0. */
  lameduckMs?: number
}

/** PM2 and Windows have no SIGTERM to send: they send this message over IPC. */
const SHUTDOWN = 'shutdown'

/** How long pm2 waits for a process before SIGKILL, when no `kill_timeout` is set: so much is left for the rest of a drain. It hands its settings on in the environment. */
const PM2_KILL_MS = 1_600

/** Somebody at a terminal does not want to wait for a lame duck. pm2 stops with SIGINT, too: it wants to, if it was told to leave time for one. */
function isCtrlC(signal: NodeJS.Signals, lameduckMs: number): boolean {
  const { pm_id: pm2, kill_timeout: killMs } = process.env
  return signal === 'SIGINT' && !(pm2 !== undefined && Number(killMs) > PM2_KILL_MS + lameduckMs)
}

const CRASH = 'uncaught exception'

/** The same signal again within this is no second one: some send it to a process and to its group, as GNU `timeout` does. */
export const DOUBLED_MS = 250

/** How long the process waits for what is done last. */
const LAST_MS = 1_000

/**
 * The process's side of a drain: signals come in, an exit code goes out. One for all ducks of a process, so that the first
 * one that is done does not exit under the others.
 */
class Lifecycle {
  #members = new Map<Member, Policy>()
  #signals = new Map<NodeJS.Signals, () => void>()
  #last = new Set<() => Promise<void>>()
  /** Why the process is going down, once it is. */
  #reason: string | undefined
  /** The signal that it began with, and when. */
  #first: { signal: NodeJS.Signals; at: number } | undefined
  #crashed = false

  join(member: Member, policy: Policy): () => void {
    this.#members.set(member, policy)
    this.#listen()
    return () => {
      this.#members.delete(member)
      this.#listen()
    }
  }

  /** The exit is ours. */
  get goesDown(): boolean {
    return this.#reason !== undefined
  }

  lastly(run: () => Promise<void>): () => void {
    this.#last.add(run)
    return () => void this.#last.delete(run)
  }

  /** Listens for just what the members of this moment want. */
  #listen(): void {
    const policies = [...this.#members.values()]
    const wanted = new Set(policies.flatMap(({ signals }) => signals))
    for (const [signal, listener] of this.#signals) {
      if (wanted.has(signal)) continue
      process.off(signal, listener)
      this.#signals.delete(signal)
    }
    for (const signal of wanted) {
      if (this.#signals.has(signal)) continue
      const listener = () => this.#signalled(signal)
      process.on(signal, listener)
      this.#signals.set(signal, listener)
    }
    process.off('message', this.#onMessage)
    const managed = process.platform === 'win32' || process.env.pm_id !== undefined
    if (wanted.size > 0 && managed && process.send) process.on('message', this.#onMessage)
    for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
      process.off(event, this.#onCrash)
      if (policies.some(({ drainOnCrash }) => drainOnCrash)) process.on(event, this.#onCrash)
    }
  }

  #onMessage = (message: unknown): void => {
    if (message === SHUTDOWN) this.#signalled('SIGTERM', SHUTDOWN)
  }

  #onCrash = (error: unknown): void => {
    console.error(error)
    if (this.#crashed) return
    this.#crashed = true
    void this.#goDown(CRASH, [...this.#members.keys()])
  }

  #signalled(signal: NodeJS.Signals, reason: string = signal): void {
    const members = [...this.#members].filter(([, { signals }]) => signals.includes(signal))
    // After a crash the first one is what a supervisor sends to a process that it sees leaving: no reason to cut it.
    if (this.#reason === CRASH) {
      this.#reason = `${CRASH} and ${reason}`
      this.#first = { signal, at: performance.now() }
      return
    }
    if (this.#reason !== undefined) {
      if (signal === this.#first?.signal && performance.now() - this.#first.at < DOUBLED_MS) return
      this.#forceDown(signal, `${reason} after ${this.#reason}`)
      return
    }
    this.#first = { signal, at: performance.now() }
    const lameduckMs = Math.max(0, ...members.map(([, policy]) => policy.lameduckMs ?? 0))
    void this.#goDown(reason, members.map(([member]) => member), isCtrlC(signal, lameduckMs))
  }

  async #goDown(reason: string, members: Member[], atOnce = false): Promise<void> {
    if (this.#reason !== undefined) return
    this.#reason = reason
    const plan = atOnce ? { reason, lameduckMs: 0 } : { reason }
    const reports = await Promise.all(members.map(member => member.drain(plan)))
    // Out of rotation was not for good: the process stays, and its next signal is a first one.
    if (reports.every(({ outcome }) => outcome === 'resumed') && !this.#crashed) {
      this.#reason = undefined
      return
    }
    const exit = members.some(member => this.#members.get(member)?.exit)
    // Meanwhile a signal is a second one.
    if (exit) await Promise.race([Promise.allSettled([...this.#last].map(run => run())), sleep(LAST_MS, undefined, { ref: false })])
    for (const member of members) this.#members.delete(member)
    this.#reason = undefined
    this.#listen()
    if (exit) process.exit(this.#crashed || reports.some(failed) ? 1 : 0)
  }

  /** A second signal: whoever sends it does not want to wait. The exit code is the shell's, 128 + the signal's number. */
  #forceDown(signal: NodeJS.Signals, reason: string): void {
    const exit = [...this.#members.values()].some(policy => policy.exit)
    for (const member of this.#members.keys()) void member.abort(reason)
    if (exit) process.exit(128 + constants.signals[signal])
  }
}

function lifecycle(): Lifecycle {
  const shared = globalThis as { [KEY]?: Lifecycle }
  return (shared[KEY] ??= new Lifecycle())
}

/** One for each process, also when the package is loaded twice (as ESM and as CJS). */
const KEY = Symbol.for('lameduck.lifecycle.1')

/** Lets the process's signals (and crashes, if wished) drain this member. @returns What takes it out again. */
export function join(member: Member, policy: Policy): () => void {
  return lifecycle().join(member, policy)
}

/** What is to be done between the last report and the exit, and may take a moment: to tell who is watching. @returns What takes it back. */
export function lastly(run: () => Promise<void>): () => void {
  return lifecycle().lastly(run)
}

/** Whether this process is on its way to an exit that is lameduck's: of whichever copy of it. */
export function goesDown(): boolean {
  return (globalThis as { [KEY]?: Lifecycle })[KEY]?.goesDown ?? false
}
