import cluster from 'node:cluster'
import { goesDown } from '../core/lifecycle.ts'
import { failed, type DrainReport } from '../core/report.ts'
import { turn } from '../core/turn.ts'
import { textOf } from '../core/thrown.ts'
import { isOurs, type DuckState, type FromWorker, type ToWorker, type Vitals, type WorkerSettings } from './messages.ts'
import { Readiness, USUAL_PATH } from './readiness.ts'
import { Responses } from './responses.ts'
import { duckOf, Servers } from './worker-servers.ts'

/** After its deadline an orphan gets so long. */
const LAST_MS = 2_000

// The lifecycle layer of a worker.
// oxlint-disable-next-line unicorn/no-process-exit
const exit = (code: number) => process.exit(code)

/** Tells the supervisor about this process, and does what the supervisor says. */
export class WorkerSide {
  #settings: WorkerSettings
  #servers: Servers
  #readiness: Readiness
  #state: DuckState = 'none'
  #responses: Responses
  #leaving = false

  constructor(settings: WorkerSettings) {
    this.#settings = settings
    // For the maintenance endpoint of this process: it asks for a replacement before a pause.
    Object.defineProperty(globalThis, Symbol.for('lameduck.supervised'), { value: true, configurable: true })
    // After this it is killed: so each drain ends by then, with its report, also one that begins before we are told of it, by a Ctrl-C to the whole
    // group or by the application itself. The application may want less.
    Object.defineProperty(globalThis, Symbol.for('lameduck.supervisedDeadlineMs'), { value: settings.deadlineMs, configurable: true })
    this.#responses = new Responses(path => this.#readyPaths().some(ready => path.split('?', 1)[0] === ready))
    this.#servers = new Servers(() => this.#changed(), server => this.#responses.watch(server))
    this.#readiness = new Readiness(this.#servers, settings.readyPath, verdict => this.#say({ lameduck: 'ready', ...verdict }))
    setInterval(() => void this.#beat(), settings.heartbeatMs).unref()
    process.on('uncaughtExceptionMonitor', error => this.#say({ lameduck: 'crash', message: firstLine(error) }))
    process.on('message', message => {
      if (isOurs(message)) this.#hear(message as ToWorker)
    })
    // Who sends it to the whole group wants the supervisor to reload, and a closed terminal is no reason to cut what is in flight.
    process.on('SIGHUP', () => {})
    // Before Node's own listener, which ends the process at once.
    process.prependListener('disconnect', () => this.#orphaned())
    for (const stream of [process.stdout, process.stderr]) stream.on('error', ignoreBrokenPipe)
  }

  #readyPaths(): string[] {
    const own = [...this.#servers.ducks].map(({ readyPath }) => readyPath)
    return [this.#settings.readyPath ?? USUAL_PATH, ...own].filter(path => path !== false)
  }

  #say(message: FromWorker): void {
    // With a callback an error is not emitted.
    if (process.connected) process.send?.(message, undefined, undefined, () => {})
  }

  #changed(): void {
    const { state } = this.#servers
    if (state !== this.#state) {
      this.#state = state
      this.#say({ lameduck: 'state', state })
    }
    this.#readiness.look()
  }

  async #beat(): Promise<void> {
    const { rss, heapUsed } = process.memoryUsage()
    const { requests, errors } = this.#responses
    const vitals: Vitals = { rss, heapUsed, requests, errors, connections: 0 }
    for (const duck of this.#servers.ducks) {
      const { connections, inFlight } = duck.stats()
      vitals.connections += connections.total
      vitals.inFlight = (vitals.inFlight ?? 0) + inFlight.length
    }
    for (const server of this.#servers.all) {
      if (duckOf(server)) continue
      vitals.connections += await new Promise<number>(resolve => server.getConnections((error, count) => resolve(error ? 0 : count)))
    }
    this.#say({ lameduck: 'beat', vitals })
  }

  #hear(message: ToWorker): void {
    if (message.lameduck === 'drain') {
      this.#say({ lameduck: 'draining' })
      const { reason, signal } = message
      void this.#drain(reason, signal)
    } else if (message.lameduck === 'lameduck') for (const duck of this.#servers.ducks) duck.lameduck()
    else if (message.lameduck === 'resume') for (const duck of this.#servers.ducks) if (duck.state === 'lameduck') duck.resume()
  }

  /**
   * The ducks first, and only then the signal: whatever the application does when it hears one must not cut what is in flight.
   * Nor may a Ctrl-C, which reaches the whole process group, be taken for a second signal.
   */
  async #drain(reason: string, signal: 'SIGTERM' | 'SIGINT'): Promise<void> {
    if (this.#leaving) return
    this.#leaving = true
    const plan = { reason, ...(signal === 'SIGINT' && { lameduckMs: 0 }) }
    const reports = await Promise.all([...this.#servers.ducks].map(duck => duck.drain(plan)))
    // A signal may have come after the message, and begun a drain of its own, which ends with this one: what follows must be no second signal to it.
    await turn()
    if (reports.some(({ outcome }) => outcome === 'resumed')) this.#leaving = false
    else this.#leave(signal, reports)
  }

  #leave(signal: 'SIGTERM' | 'SIGINT', reports: DrainReport[]): void {
    if (reports.length === 0) {
      // Nobody here knows lameduck: as any process manager does it. Nor is our channel to keep one that ends by itself.
      process.kill(process.pid, signal)
      process.channel?.unref()
      return
    }
    // A signal that came beside the message, or a crash: lameduck exits when it has done what comes last.
    if (goesDown()) {
      if (reports.some(failed)) process.exitCode = 1
      // It may be that somebody else is to end the process, and does so by leaving nothing to do.
      process.channel?.unref()
      return
    }
    // The application's own handlers, and lameduck's, which exits with what the drain came to.
    if (process.listenerCount(signal) > 0) process.emit(signal)
    else exit(reports.some(failed) ? 1 : 0)
    // Where nobody exits, the process ends by itself, unless something keeps it.
    if (cluster.worker?.isConnected()) cluster.worker.disconnect()
  }

  /** The supervisor has gone, and with it the listener: what is in flight is answered, then this process goes as well. */
  #orphaned(): void {
    // Otherwise Node's listener, which comes next, exits.
    if (cluster.worker) cluster.worker.exitedAfterDisconnect = true
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), this.#settings.deadlineMs + LAST_MS).unref()
    if (this.#leaving) return
    void this.#drain('the supervisor is gone', 'SIGTERM')
  }
}

/** What it was, without where. */
function firstLine(error: unknown): string {
  return textOf(error).split('\n', 1)[0] ?? ''
}

/** Our output is a pipe to the supervisor. When that is gone nobody reads it: no reason to lose what is in flight. */
function ignoreBrokenPipe(this: NodeJS.WriteStream, error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE' && this.listenerCount('error') === 1) throw error
}
