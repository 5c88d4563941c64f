/**
 * A supervisor: workers of one script behind one listener. What holds at any time:
 *
 * - A reload never has fewer ready workers than it began with (see `rollout.ts`), and one goes on at a time.
 * - At most one worker of a new generation is not ready.
 * - The old generation is retired only after the new one proved itself; when the new one fails, the old one stays, and the
 *   result and the status say so.
 * - Nobody is handed a connection before it has proved itself, as long as there is somebody else (see `handoff.ts`).
 * - A worker that is told to go is gone at its deadline + 2 s at the latest.
 * - The supervisor ends only when it was told to, when its first worker never got ready, or when every slot was given up.
 */
import { count } from '../core/count.ts'
import { warn } from '../core/thrown.ts'
import { Control } from './control.ts'
import { Crew } from './crew.ts'
import { ClusterError, clusterError } from './errors.ts'
import { Isolation } from './isolation.ts'
import { Logs } from './logs.ts'
import type { Member } from './member.ts'
import type { FromWorker } from './messages.ts'
import { checkWorkers, type Settings } from './options.ts'
import { Recycler } from './recycler.ts'
import { resolveRelease, type Release } from './release.ts'
import { Rollout, type ReloadResult } from './rollout.ts'
import { workersOf, type Status } from './status.ts'
import { narrate, say, type Step } from './step.ts'
import type { System } from './system.ts'
import { Turns, Wait, type Waiting } from './turn.ts'

/** How a supervisor ended. */
export interface StopReport {
  /** clean: every worker left in time, with nothing cut; forced: some did not, or a second signal came; failed: it could not go on. */
  outcome: 'clean' | 'forced' | 'failed'
  /** For the process: 0 clean, 1 forced or failed, 128 + n after a second signal. */
  code: number
  reason: string
  /** Why it failed. */
  error?: ClusterError
  durationMs: number
}

/** What is left of a worker's output when it has ended is waited for this long. */
const OUTPUT_MS = 1_000

/** See {@link supervise}. */
export class Supervisor {
  /** Settles when the first worker is proved and the others have had their chance. Rejects with a {@link ClusterError} when the first one fails. */
  readonly ready: Promise<void>
  /** Settles when every worker has ended. Never rejects. */
  readonly stopped: Promise<StopReport>
  /** Settles after that, when the control socket has gone as well. */
  readonly closed: Promise<void>
  #settings: Settings
  #system: System
  #crew: Crew
  #logs: Logs
  #control: Control | undefined
  #turns = new Turns()
  #isolation: Isolation
  #release: Release
  /** The last one that was tried. */
  #generation = 1
  #state: Status['state'] = 'starting'
  #bornAt: number
  /** One that has not begun. */
  #nextReload: { wait: Wait; result: Promise<ReloadResult> } | undefined
  #listeners = new Set<(step: Step) => void>()
  #beat: (() => void) | undefined
  #ended!: (report: StopReport) => void
  #closed!: () => void
  #stopping: { reason: string; error?: ClusterError; force?: number } | undefined

  /** @internal Use {@link supervise}. @throws {ClusterError} When the script or the env file is not there. */
  constructor(settings: Settings, system: System) {
    this.#settings = settings
    this.#system = system
    this.#bornAt = system.now()
    this.#release = resolveRelease(settings, 1)
    this.#logs = new Logs(settings)
    this.#crew = new Crew(settings, system, {
      step: step => this.#tell(step),
      forked: ({ proc, slot, pid }) => {
        for (const stream of ['stdout', 'stderr'] as const) {
          const readable = proc[stream]
          if (readable) this.#logs.attach(readable, { slot, pid, stream })
        }
      },
      gaveUp: error => void this.#end({ reason: 'every worker died too often', error }, 'SIGTERM'),
      asks: (member, question) => this.#answer(member, question),
      exited: () => {},
    })
    this.#isolation = new Isolation(this.#crew, settings, system, this.#turns)
    this.stopped = new Promise(resolve => {
      this.#ended = resolve
    })
    this.closed = new Promise(resolve => {
      this.#closed = resolve
    })
    this.#startBeat()
    this.ready = this.#start()
    this.ready.catch(() => {})
  }

  /** Path of the control socket, once `ready`. */
  get control(): string | undefined {
    return this.#control?.path
  }

  /** Hears of every step. @returns What stops that. */
  onStep(listener: (step: Step) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  status(): Status {
    return {
      pid: process.pid,
      script: this.#release.exec,
      generation: this.#release.generation,
      state: this.#state,
      wanted: this.#crew.slots.length,
      ready: this.#crew.ready,
      uptimeMs: Math.round(this.#system.now() - this.#bornAt),
      workers: workersOf(this.#crew, this.#system, this.#stopping !== undefined),
    }
  }

  /**
   * Replaces every worker by one of the script as it is now: new first, one at a time.
   * A second call waits for the first one; further ones share what waits. So does it for a worker that is isolated, or recycled, and for `scale()`.
   *
   * @param waiting Hears what it has to wait for, each thing in its turn; undefined when it goes on.
   * @returns What became of it; `rolled-back` with `code` and `reason` is a result, not an error.
   * @throws {ClusterError} `ERR_LAMEDUCK_CLUSTER_STOPPED` when it is stopping, or was told to meanwhile, as a rejection.
   */
  reload(waiting?: Waiting): Promise<ReloadResult> {
    if (this.#stopping) return Promise.reject(new ClusterError('ERR_LAMEDUCK_CLUSTER_STOPPED', 'the supervisor is stopping'))
    // One that waits has not looked at the script yet.
    this.#nextReload ??= this.#planReload()
    this.#nextReload.wait.hear(waiting)
    return this.#nextReload.result
  }

  /**
   * Changes the number of workers: new ones are started one after the other, those that are too many drain.
   * Settles when the new ones are ready, or the old ones gone. Waits for its turn as a reload does.
   *
   * @param waiting As that of {@link reload}.
   * @throws {ClusterError} `ERR_LAMEDUCK_CLUSTER_OPTION` for a number that is none; why a new worker failed (those before it stay);
   *   `ERR_LAMEDUCK_CLUSTER_CRASH_LOOP` when one of those that were to stay has been given up: a reload starts it again.
   */
  async scale(workers: number, waiting?: Waiting): Promise<void> {
    checkWorkers(workers)
    const wait = this.#waits(waiting)
    await this.ready
    await this.#turns.take(`another change of the number of workers goes on, to ${workers}`, async () => {
      say(this.#settings.logger, 'info', `scaling from ${this.#crew.slots.length} to ${workers}`)
      while (this.#crew.slots.length < workers) await this.#grow()
      const given = this.#crew.slots.slice(0, workers).find(({ error, current, next }) => error && !current && !next)?.error
      // Those that go are the last ones: the first may be the ones that nobody is in.
      if (given && this.#crew.slots.length > workers) throw given
      const leaving: Promise<unknown>[] = []
      while (this.#crew.slots.length > workers) leaving.push(...this.#crew.remove('scaled down'))
      await Promise.all(leaving)
    }, wait.tell)
  }

  /** Lets every worker drain, and ends. Idempotent. @param signal SIGINT skips the lame duck. */
  stop(signal: 'SIGTERM' | 'SIGINT' = 'SIGTERM', reason: string = signal): Promise<StopReport> {
    void this.#end({ reason }, signal)
    return this.stopped
  }

  /** Kills every worker, and ends. @param code For the process. */
  kill(reason: string, code = 1): Promise<StopReport> {
    if (this.#stopping) {
      this.#stopping.force = code
      this.#stopping.reason = `${reason} after ${this.#stopping.reason}`
    } else void this.#end({ reason, force: code }, 'SIGTERM')
    for (const member of this.#crew.members) member.kill('SIGKILL', `killed: ${this.#stopping?.reason ?? reason}`)
    return this.stopped
  }

  async #start(): Promise<void> {
    const { workers, control } = this.#settings
    try {
      if (control !== false) {
        this.#control = new Control(this, { script: this.#settings.script, cwd: this.#settings.cwd, path: control })
        await this.#control.listen()
      }
      await this.#crew.open(this.#crew.add(this.#release))
    } catch (caught) {
      const error = clusterError(caught, 'ERR_LAMEDUCK_CLUSTER_DIED')
      void this.#end({ reason: 'it could not start', error }, 'SIGTERM')
      throw error
    }
    // The first one has shown that the script is good; the others need not wait for each other.
    const rest = Array.from({ length: workers - 1 }, () => this.#crew.add(this.#release))
    await Promise.all(rest.map(slot => this.#crew.open(slot).catch((error: unknown) => this.#crew.retry(slot, error))))
    if (this.#state === 'starting') this.#state = 'running'
    // Whoever started us may wait for that (PM2's wait_ready).
    if (!this.#stopping && process.connected) process.send?.('ready', undefined, undefined, () => {})
  }

  #waits(waiting?: Waiting): Wait {
    const wait = new Wait(() => this.#stopping !== undefined)
    wait.hear(waiting)
    if (this.#state === 'starting') wait.tell('the supervisor is starting')
    return wait
  }

  #planReload(): { wait: Wait; result: Promise<ReloadResult> } {
    const wait = this.#waits(why => {
      if (why !== undefined) say(this.#settings.logger, 'info', `a reload waits: ${why}`)
    })
    return { wait, result: this.ready.then(() => this.#turns.take('another reload goes on', () => this.#reload(wait.tell), wait.tell)) }
  }

  async #reload(waiting: Waiting): Promise<ReloadResult> {
    this.#nextReload = undefined
    if (this.#stopping) throw new ClusterError('ERR_LAMEDUCK_CLUSTER_STOPPED', 'the supervisor is stopping')
    this.#state = 'reloading'
    const generation = ++this.#generation
    let release: Release | undefined
    const result = await new Rollout(this.#crew, this.#settings, this.#system, waiting).run(generation, () => {
      release = resolveRelease(this.#settings, generation)
      say(this.#settings.logger, 'info', `reloading: generation ${generation} is ${release.exec}`)
      return release
    })
    if (!this.#stopping) this.#state = 'running'
    if (result.outcome === 'reloaded' && release) this.#release = release
    const cut = result.cut > 0 ? `; ${count(result.cut, 'old worker')} had to be cut` : ''
    const text = `generation ${generation}: ${result.outcome} in ${(result.durationMs / 1_000).toFixed(1)} s${cut}`
    say(this.#settings.logger, result.outcome === 'reloaded' ? 'info' : 'warn', result.reason === undefined ? text : `${text}: ${result.reason}`)
    return result
  }

  async #grow(): Promise<void> {
    const slot = this.#crew.add(this.#release)
    try {
      await this.#crew.open(slot)
    } catch (error) {
      void this.#crew.remove('it did not get ready')
      throw error
    }
  }

  #answer(member: Member, question: FromWorker): void {
    if (question.lameduck === 'isolate') this.#isolation.begin(member)
    if (question.lameduck === 'return') this.#isolation.end(member, question.retire)
    const { ready } = this.#crew
    if (question.lameduck === 'lastReady') member.tell({ lameduck: 'lastReady', ready, last: ready - (member.ready ? 1 : 0) === 0 })
  }

  #startBeat(): void {
    const recycler = new Recycler(this.#crew, this.#settings, this.#system, this.#turns)
    const beat = () => {
      this.#crew.checkBeats()
      recycler.look()
      this.#beat = this.#system.after(this.#settings.heartbeatMs, beat)
    }
    this.#beat = this.#system.after(this.#settings.heartbeatMs, beat)
  }

  async #end(stopping: { reason: string; error?: ClusterError; force?: number }, signal: 'SIGTERM' | 'SIGINT'): Promise<void> {
    if (this.#stopping) return
    this.#stopping = stopping
    this.#state = 'stopping'
    const began = this.#system.now()
    say(this.#settings.logger, 'info', `stopping: ${stopping.reason}`)
    this.#crew.stop()
    // Those that end meanwhile count.
    const members = [...this.#crew.members]
    await this.#system.closeListeners(members.map(({ proc }) => proc))
    const farewells = await Promise.all(members.map(member => member.retire(stopping.reason, signal)))
    this.#beat?.()
    await this.#logs.flushed(OUTPUT_MS)
    this.#logs.close()
    const { error, force } = stopping
    const clean = force === undefined && farewells.every(farewell => farewell.clean)
    const report: StopReport = {
      outcome: error ? 'failed' : clean ? 'clean' : 'forced',
      code: force ?? (error || !clean ? 1 : 0),
      reason: stopping.reason,
      ...(error && { error }),
      durationMs: Math.round(this.#system.now() - began),
    }
    this.#ended(report)
    await this.#control?.close()
    this.#closed()
  }

  #tell(step: Step): void {
    narrate(this.#settings.logger, step)
    for (const listener of [...this.#listeners]) {
      try {
        listener(step)
      } catch (error) {
        warn(error)
      }
    }
  }
}
