import { count } from '../core/count.ts'
import { printable } from '../core/printable.ts'
import { textOf } from '../core/thrown.ts'
import { ClusterError, type ClusterErrorCode } from './errors.ts'
import { isOurs, SETTINGS, type DuckState, type FromWorker, type ToWorker, type Vitals, type WorkerSettings } from './messages.ts'
import { LAST_MS, type Settings } from './options.ts'
import type { Release } from './release.ts'
import type { Exit, Proc, System } from './system.ts'

/**
 * starting: not ready yet; ready: listens, is ready, and was so for `readyMs`; unready: proved, but its readiness fails now;
 * isolated: out of rotation by its own wish, with a replacement; leaving: draining though nobody asked it to; stuck: gives no
 * sign of life; retiring: was told to drain; gone: the process has ended.
 */
export type MemberState = 'starting' | 'ready' | 'unready' | 'isolated' | 'leaving' | 'stuck' | 'retiring' | 'gone'

/** It is sent SIGTERM first: not at the deadline itself, at which a wrapped one ends by itself and says what it cut. */
const OVERDUE_MS = 1_000
/** A worker that does not confirm the message to drain within this is sent SIGTERM. */
const CONFIRM_MS = 1_000

/** What a start waits for is said first after so long, what an end waits for after a longer time, and then every so often. */
const START_WORD_MS = 2_000
const END_WORD_MS = 5_000
const NEXT_WORD_MS = 10_000

/** Who hears what becomes of a member. */
export interface Watcher {
  /** Its start, or its end, takes a while. */
  waits(member: Member, what: 'not ready yet' | 'not gone yet', why: string): void
  /** Its state, or what it is waiting for, has changed. */
  changed(member: Member): void
  exited(member: Member, exit: Exit): void
  asks(member: Member, question: Extract<FromWorker, { lameduck: 'isolate' | 'return' | 'lastReady' }>): void
}

/** How a worker that was told to go went. */
export interface Farewell {
  exit: Exit
  /** It left in time, with 0 (or by the signal, where nobody handles that), and its drain was not cut. */
  clean: boolean
}

/** What a worker said: its application chose the words, and may be anything. */
const tame = (text: unknown) => printable(textOf(text), 300)

let serial = 0

export function describeExit({ code, signal }: Exit): string {
  return signal === null ? `exit code ${code}` : signal
}

/** One worker process, from its start to its end, as the supervisor sees it. */
export class Member {
  readonly id = ++serial
  readonly slot: number
  readonly release: Release
  readonly exited: Promise<Exit>
  readonly bornAt: number
  /** Since when it has been proved. */
  provedAt: number | undefined
  vitals: Vitals | undefined
  ducks: DuckState = 'none'
  /** When it last gave a sign of life. */
  heardAt: number
  /** No sign of life is expected before this, on the clock of `epoch()`. */
  pausedUntil = 0
  /** What it said of the exception that ended it. */
  crash: string | undefined
  /** From 0 to 1: how much earlier than its limits it is recycled. */
  readonly lot: number
  #system: System
  #settings: Settings
  #watcher: Watcher
  #proc: Proc
  #state: MemberState = 'starting'
  #why = 'it did not listen'
  /** It was ready, and then it was not. */
  #flapped = false
  #listened = false
  #said = false
  #proved = resolvers<void>()
  #again: (() => void) | undefined
  #exited = resolvers<Exit>()
  #calm: (() => void) | undefined
  #late: () => void
  #word: () => void
  #farewell: Promise<Farewell> | undefined
  /** Why it did not leave in time. */
  #overdue: string | undefined
  #confirmed = () => {}

  constructor(slot: number, release: Release, settings: Settings, system: System, watcher: Watcher) {
    this.slot = slot
    this.release = release
    this.#settings = settings
    this.#system = system
    this.#watcher = watcher
    this.exited = this.#exited.promise
    this.bornAt = this.heardAt = system.now()
    this.lot = system.random()
    this.#proved.promise.catch(() => {})
    this.#proc = system.fork(this.#plan(), { message: message => this.#hear(message), exit: exit => this.#exit(exit) })
    this.#late = system.after(settings.readyTimeoutMs, () => this.#tooLate())
    this.#word = system.after(START_WORD_MS, () => this.#waits())
  }

  get pid(): number {
    return this.#proc.pid
  }

  get proc(): Proc {
    return this.#proc
  }

  get state(): MemberState {
    return this.#state
  }

  /** Settles when it was ready for `readyMs` without interruption; rejects when it ended, or took too long. It lives on then. */
  get proved(): Promise<void> {
    return this.#proved.promise
  }

  /** What there is to say of its end, beside how it exited. */
  get remark(): string | undefined {
    return this.crash ?? this.#overdue ?? (this.#farewell && this.ducks === 'aborted' ? 'its drain was cut' : undefined)
  }

  /** As messages name it. */
  get title(): string {
    return `worker ${this.slot} (pid ${this.pid}, generation ${this.release.generation})`
  }

  /** Why it is not ready. */
  get why(): string {
    if (!this.#said) return this.#why
    return `not for ${this.#settings.readyMs} ms without interruption${this.#flapped ? `: ${this.#why}` : ''}`
  }

  /** What keeps it from being ready, once that is worth a word. */
  get obstacle(): string | undefined {
    const late = this.#state === 'starting' && (!this.#said || this.#flapped) && this.#system.now() - this.bornAt >= START_WORD_MS
    return late || this.#state === 'unready' ? this.why : undefined
  }

  /** It serves, and may be counted on. */
  get ready(): boolean {
    return this.#state === 'ready'
  }

  tell(message: ToWorker): void {
    this.#proc.send(message)
  }

  /** @param why As is said of its end. */
  kill(signal: NodeJS.Signals, why?: string): void {
    this.#overdue ??= why
    this.#proc.kill(signal)
  }

  enter(state: MemberState): void {
    if (this.#state === state || this.#state === 'gone' || (this.#state === 'retiring' && state !== 'gone')) return
    this.#state = state
    this.#watcher.changed(this)
  }

  /** Back from being isolated, or stuck: what it is by what it says. */
  recover(): void {
    this.enter(this.#said ? 'ready' : 'unready')
  }

  /** It says that it is ready, now or later. */
  readyAgain(): Promise<void> {
    return this.#said ? Promise.resolve() : new Promise(resolve => {
      this.#again = resolve
    })
  }

  /** Lets it drain, and sees to it that it ends: message, SIGTERM where that is not confirmed or 1 s after the deadline, SIGKILL 1 s later. */
  retire(reason: string, signal: 'SIGTERM' | 'SIGINT' = 'SIGTERM'): Promise<Farewell> {
    this.#farewell ??= this.#retire(reason, signal)
    return this.#farewell
  }

  async #retire(reason: string, signal: 'SIGTERM' | 'SIGINT'): Promise<Farewell> {
    const wasStuck = this.#state === 'stuck'
    this.enter('retiring')
    this.#fail('ERR_LAMEDUCK_CLUSTER_STOPPED', 'it was told to go')
    this.#proc.withdraw()
    const { deadlineMs } = this.#settings
    this.tell({ lameduck: 'drain', reason, signal })
    const after: System['after'] = (ms, run) => this.#system.after(ms, run)
    const late = `it was still there after its deadline of ${deadlineMs} ms`
    const steps = [
      after(wasStuck ? LAST_MS : deadlineMs + LAST_MS, () => this.kill('SIGKILL', wasStuck ? 'it was stuck' : late)),
      after(deadlineMs + OVERDUE_MS, () => this.kill('SIGTERM', late)),
    ]
    const unconfirmed = after(Math.min(CONFIRM_MS, deadlineMs), () => this.kill('SIGTERM'))
    this.#confirmed = unconfirmed
    const cutAt = this.#system.now() + deadlineMs
    this.#word = after(END_WORD_MS, () => this.#lingers(cutAt))
    const exit = await this.exited
    for (const step of [...steps, unconfirmed, this.#word]) step()
    // Ctrl-C reaches all of the group, those as well that were told to go before.
    const asTold = exit.code === 0 || exit.signal === 'SIGTERM' || exit.signal === 'SIGINT'
    // An application's own handler may exit with 0 whatever the drain came to.
    return { exit, clean: asTold && this.#overdue === undefined && this.ducks !== 'aborted' }
  }

  #plan() {
    const { args, execArgv, heartbeatMs, readyPath, deadlineMs } = this.#settings
    const { exec, cwd, env, generation } = this.release
    const settings: WorkerSettings = { heartbeatMs, readyPath, deadlineMs }
    const own = { LAMEDUCK_SLOT: String(this.slot), LAMEDUCK_GENERATION: String(generation), [SETTINGS]: JSON.stringify(settings) }
    return { exec, args, execArgv, cwd, env: { ...env, ...own } }
  }

  #hear(message: unknown): void {
    if (!isOurs(message)) return
    const said = message as FromWorker
    this.heardAt = this.#system.now()
    switch (said.lameduck) {
      case 'ready': return this.#readiness(said.ready, said.why)
      case 'state': return this.#ducks(said.state)
      case 'beat': return this.#beat(said.vitals)
      case 'crash':
        this.crash = tame(said.message)
        return
      case 'pause':
        this.pausedUntil = said.untilMs
        return
      case 'draining': return this.#confirmed()
      case 'isolate': case 'return': case 'lastReady': return this.#watcher.asks(this, said)
      default:
    }
  }

  #beat(vitals: Vitals): void {
    this.vitals = vitals
    if (this.#state === 'stuck') this.recover()
  }

  #readiness(ready: boolean, why: string): void {
    this.#flapped ||= this.#said && !ready
    this.#said = ready
    if (ready) this.#again?.()
    else this.#why = tame(why)
    this.#listened ||= ready || !this.#why.startsWith('it did not listen')
    if (this.provedAt === undefined) {
      this.#calm?.()
      this.#calm = ready ? this.#system.after(this.#settings.readyMs, () => this.#prove()) : undefined
    } else if (this.#state === 'ready' || this.#state === 'unready') this.recover()
  }

  #prove(): void {
    if (this.#state !== 'starting') return
    this.#late()
    this.#word()
    this.provedAt = this.#system.now()
    this.#proc.admit()
    this.enter('ready')
    this.#proved.resolve()
  }

  /** Draining is to be expected after `retire()`; a lame duck, when it is isolated. */
  #ducks(state: DuckState): void {
    this.ducks = state
    const out = state === 'draining' || state === 'drained' || state === 'aborted' || state === 'lameduck'
    if (out && (this.#state === 'ready' || this.#state === 'unready')) this.enter('leaving')
    else if (state === 'running' && this.#state === 'leaving') this.recover()
  }

  #tooLate(): void {
    const { readyTimeoutMs } = this.#settings
    const silent = !this.#listened
    const code = silent ? 'ERR_LAMEDUCK_CLUSTER_SILENT' : 'ERR_LAMEDUCK_CLUSTER_UNREADY'
    this.#fail(code, silent ? `it did not listen within ${readyTimeoutMs} ms` : `it was not ready within ${readyTimeoutMs} ms: ${this.why}`)
  }

  #waits(): void {
    const leftMs = this.bornAt + this.#settings.readyTimeoutMs - this.#system.now()
    if (this.obstacle) this.#watcher.waits(this, 'not ready yet', `${this.obstacle}; it is given up in ${Math.round(leftMs / 1_000)} s`)
    this.#word = this.#system.after(NEXT_WORD_MS, () => this.#waits())
  }

  /** @param cutAt When its drain is cut. */
  #lingers(cutAt: number): void {
    const { connections, inFlight } = this.vitals ?? {}
    const holding = [inFlight === undefined ? [] : count(inFlight, 'request'), connections === undefined ? [] : count(connections, 'connection')].flat()
    const leftMs = Math.max(0, cutAt - this.#system.now())
    this.#watcher.waits(this, 'not gone yet', `${holding.join(', ') || 'it drains'}; it is cut in ${Math.round(leftMs / 1_000)} s`)
    this.#word = this.#system.after(NEXT_WORD_MS, () => this.#lingers(cutAt))
  }

  #fail(code: ClusterErrorCode, what: string): void {
    this.#late()
    this.#word()
    this.#calm?.()
    this.#proved.reject(new ClusterError(code, `${this.title}: ${what}`))
  }

  #exit(exit: Exit): void {
    const what = `it ended with ${describeExit(exit)} before it was ready${this.crash === undefined ? '' : `: ${this.crash}`}`
    this.#fail('ERR_LAMEDUCK_CLUSTER_DIED', what)
    this.enter('gone')
    this.#exited.resolve(exit)
    this.#watcher.exited(this, exit)
  }
}

function resolvers<T>() {
  let resolve!: (value: T) => void
  let reject!: (error: unknown) => void
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}
