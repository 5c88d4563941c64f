import { setMaxListeners } from 'node:events'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { connectionOf } from './connection.ts'
import { Drain } from './drain.ts'
import { LameduckError } from './errors.ts'
import { Emitter, type Events } from './events.ts'
import { Health, type Readiness } from './health.ts'
import type { TrackerHost } from './host.ts'
import { Hooks, type Hook, type HookOptions } from './hooks.ts'
import { join } from './lifecycle.ts'
import { Narrator } from './narrator.ts'
import { check, checkKeys, checkDuration, plan, type DrainOptions, type QuietOptions, type Settings } from './options.ts'
import type { TrackOptions } from './partings.ts'
import type { DrainReport, Stats } from './report.ts'
import { requestSignal, type Answer } from './request-signal.ts'
import { Tracker } from './tracker.ts'
import { tunnelOf } from './tunnel.ts'
import { checkServer, type WrappableServer } from './wrappable.ts'

/** Options of {@link Duck.add}. */
export interface AddOptions {
  /** Servers of a lower order drain first, those of the same order together. The first one has 0. Default 0. */
  order?: number
}

/** As many listeners as there are requests in flight are no leak. */
function controller(): AbortController {
  const made = new AbortController()
  setMaxListeners(0, made.signal)
  return made
}

/** The duck of a server, for every copy of this package that is loaded. */
const DUCK = Symbol.for('lameduck.duck')

/** The duck of a server that is wrapped already. */
export function duckOf(server: object): Duck | undefined {
  return (server as { [DUCK]?: Duck })[DUCK]
}

/** Wrapped servers with one lifecycle: their state, what is on them, and the drain. Made by {@link wrap}. */
export class Duck {
  #settings: Settings
  #events: Emitter
  #hooks = new Hooks()
  #trackers: Tracker[] = []
  #host: TrackerHost
  #leave: () => void
  #state: Stats['state'] = 'running'
  #controller = controller()
  #drain: Drain | undefined
  #report: DrainReport | undefined

  /** @internal Use {@link wrap}. */
  constructor(settings: Settings) {
    this.#settings = settings
    this.#events = new Emitter(this)
    const { signals, exit, drainOnCrash, health, logger, lameduckMs } = settings
    const fault = (where: string, error: unknown) => this.#events.emit('fault', { where, error })
    this.#host = {
      health: health === false ? undefined : new Health(health, () => this.#state, fault),
      emptied: () => this.#drain?.emptied(),
      destroyed: (entry, isConnection) => this.#drain?.destroyed(entry, isConnection),
      fault,
    }
    if (logger) void new Narrator(logger, this.#events, () => this.stats(), () => this.#drain?.plan)
    this.#leave = signals || drainOnCrash ? join(this, { signals: signals || [], exit, drainOnCrash, lameduckMs }) : () => {}
  }

  get state(): Stats['state'] {
    return this.#state
  }

  /** Aborted as a drain begins: for event streams, long polls, consumers. After `resume()` there is a fresh one. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /**
   * A signal for one request, for long polls and other answers that take their time: aborted as a drain begins, or when the
   * client goes away; at once, if a drain has begun already.
   *
   * @param res The request's response, or its stream of HTTP/2.
   */
  signalFor(res: Answer): AbortSignal {
    return requestSignal(res, this.signal)
  }

  /** The last drain's report, once there is one. */
  get report(): DrainReport | undefined {
    return this.#report
  }

  /** The servers of this lifecycle. */
  get servers(): WrappableServer[] {
    return this.#trackers.map(({ server }) => server)
  }

  /**
   * Takes another server into this lifecycle: one state, one signal, one deadline, one report.
   *
   * @returns This duck.
   * @throws {LameduckError} `ERR_LAMEDUCK_SERVER` for something that is no server, or belongs to another duck;
   *   `ERR_LAMEDUCK_STATE` once a drain has begun; `ERR_LAMEDUCK_OPTION`.
   */
  add(server: WrappableServer, options: AddOptions = {}): this {
    checkServer(server)
    checkKeys('options', options, { order: 0 })
    const { order = 0 } = options
    check('options.order', order, Number.isFinite(order), 'a finite number')
    const owner = duckOf(server)
    if (owner === this) return this
    if (owner) throw new LameduckError('ERR_LAMEDUCK_SERVER', 'the server is wrapped by another duck; allowed: unwrap() it first')
    if (this.#state !== 'running') throw this.#wrongState('add()', 'running')
    const tracker = new Tracker(server, order, this.#settings, this.#host)
    Object.defineProperty(server, DUCK, { value: this, configurable: true })
    this.#trackers.push(tracker)
    if (server.listening) void this.#warnOfUnknown(tracker)
    return this
  }

  /** What is on the servers at this moment. Costs a walk over all connections. */
  stats(): Stats {
    const connections = { total: 0, handshake: 0, fresh: 0, active: 0, idle: 0, upgraded: 0, closing: 0 }
    const counters = { accepted: 0, served: 0, rejected: 0, refused: 0 }
    const inFlight: Stats['inFlight'] = []
    for (const tracker of this.#trackers) {
      const counted = tracker.count()
      for (const key of Object.keys(counters) as (keyof typeof counters)[]) counters[key] += counted[key]
      for (const connection of tracker.connections) {
        connections.total++
        const { state } = connection
        connections[state]++
        if (state === 'active') inFlight.push(...connection.inFlight())
      }
    }
    inFlight.sort((a, b) => b.ageMs - a.ageMs)
    return { state: this.#state, connections, inFlight, counters }
  }

  /** The option `deadlineMs`, in milliseconds; undefined when it was not given: then a supervisor's holds, or the default. */
  get deadlineMs(): number | undefined {
    return this.#settings.ownDeadlineMs
  }

  /** Path of the readiness endpoint, which is answered before the application; false for none. */
  get readyPath(): string | false {
    return this.#host.health?.path ?? false
  }

  /** Names of the checks of the `health` option. */
  get checks(): string[] {
    return this.#host.health?.checks ?? []
  }

  /** What the readiness endpoint says, for one of your own: runs the checks of the `health` option. With `health: false` there are none. */
  async readiness(): Promise<Readiness> {
    return this.#host.health?.readiness() ?? { ready: this.#state === 'running', state: this.#state, checks: {} }
  }

  /**
   * Stops accepting, lets in-flight requests finish, and closes every connection at the moment that loses nothing.
   * Does not wait for upgraded sockets beyond `upgradedMs`. Idempotent: later calls return the first one's promise.
   *
   * @returns A report; `outcome: 'forced'` with what was destroyed if the deadline passed. Never rejects.
   * @throws {LameduckError} `ERR_LAMEDUCK_OPTION`, as a rejection.
   * @see RFC 9112 §9.6 (tear-down), RFC 9110 §15.6.4 (503)
   */
  drain(options: DrainOptions = {}): Promise<DrainReport> {
    if (this.#drain) return this.#drain.report
    try {
      return this.#begin(plan(options, this.#settings))
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * Out of rotation: readiness fails and responses say `Connection: close`, while everything is served on; until `resume()`
   * or `drain()`. Does nothing unless running.
   */
  lameduck(): void {
    if (this.#state !== 'running') return
    for (const tracker of this.#trackers) {
      tracker.lameduck()
      if (tracker.listener.returns) tracker.listener.giveUp()
    }
    this.#enter('lameduck')
  }

  /**
   * In the lame duck, before a pause: closes the connections that are idle as a drain does, and goes on to do so until
   * `resume()`, while what still comes is served. HTTP/2 sessions get GOAWAY; WebSockets and other upgraded sockets stay.
   *
   * @param options See {@link QuietOptions}.
   * @returns What is left, as `stats()` counts it: once the connections have ended that were open at the call, but for upgraded
   *   ones; or else when the time is over, or the lame duck.
   * @throws {LameduckError} `ERR_LAMEDUCK_STATE` in any other state, `ERR_LAMEDUCK_OPTION`; as rejections.
   */
  async quiet(options: QuietOptions = {}): Promise<Stats> {
    checkKeys('options', options, { timeoutMs: 0 })
    const { timeoutMs = this.#settings.deadlineMs } = options
    checkDuration('options.timeoutMs', timeoutMs)
    if (this.#state !== 'lameduck') throw this.#wrongState('quiet()', 'lameduck')
    let settle = () => {}
    const over = new Promise<void>(resolve => {
      settle = resolve
    })
    const timer = setTimeout(settle, timeoutMs)
    this.#events.once('state', settle)
    await Promise.race([over, Promise.all(this.#trackers.map(({ clearing }) => clearing.clear()))])
    clearTimeout(timer)
    this.#events.off('state', settle)
    return this.stats()
  }

  /**
   * Back into rotation, from lame duck only. A drain under way ends with `outcome: 'resumed'`.
   *
   * @throws {LameduckError} `ERR_LAMEDUCK_STATE` in any other state, and in a cluster worker that gave up its listening
   *   handle but was wrapped after `listen()`, so that there is no way back.
   */
  resume(): void {
    if (this.#state !== 'lameduck') throw this.#wrongState('resume()', 'lameduck')
    if (!this.#trackers.every(({ listener }) => listener.mayComeBack)) {
      throw new LameduckError('ERR_LAMEDUCK_STATE', 'this worker has given up its listening handle; allowed: wrap() before listen()')
    }
    for (const tracker of this.#trackers) tracker.resume()
    if (this.#controller.signal.aborted) this.#controller = controller()
    const drain = this.#drain
    this.#drain = undefined
    this.#enter('running')
    drain?.resume()
  }

  /** Destroys every connection at once and skips the hooks that have not begun. @returns The report, `outcome: 'forced'`. */
  abort(reason = 'abort()'): Promise<DrainReport> {
    if (this.#state !== 'drained' && this.#state !== 'aborted') this.#events.emit('abort', reason, this.stats())
    if (!this.#drain) return this.#begin(plan({ reason, lameduckMs: 0 }, this.#settings), 'abort')
    this.#drain.abort('abort')
    return this.#drain.report
  }

  /**
   * Registers work of the application that belongs to a drain, such as closing a database. Hooks run one after the other in
   * the order of their registration; one that throws or hangs is reported and does not stop the rest.
   *
   * @returns What removes it.
   * @throws {LameduckError} `ERR_LAMEDUCK_OPTION`
   */
  onDrain(name: string, hook: Hook, options?: HookOptions): () => void {
    return this.#hooks.add(name, hook, options)
  }

  /**
   * Lets the owner of an upgraded socket (a CONNECT tunnel, a protocol of your own, a WebSocket) end it in its own way: its
   * `close` is called in the draining phase, spread over `spreadMs` when there are many. Without it such a socket just stays
   * for `upgradedMs`, and a WebSocket gets a close frame from lameduck. Works before, in and after the `upgrade` (or `connect`) listener.
   *
   * @param socket The socket of the request; the stream, for CONNECT over HTTP/2. One that has ended already is left alone.
   * @param options.close See {@link TrackOptions}. What it throws is a `fault` event.
   * @returns What takes it back, as long as it has not been called.
   * @throws {LameduckError} `ERR_LAMEDUCK_OPTION`, also for a socket that is on none of this duck's servers.
   */
  track(socket: Duplex, options: TrackOptions): () => void {
    checkKeys('options', options, { close: 0 })
    check('options.close', options.close, typeof options.close === 'function', 'a function')
    const upgraded = connectionOf(socket as Socket) ?? tunnelOf(socket)
    const tracker = upgraded && this.#trackers.find(({ connections }) => connections.has(upgraded.carrier))
    if (tracker) return tracker.partings.track(upgraded, options)
    check('socket', socket, (socket as Duplex | undefined)?.destroyed === true, 'the socket of a request to a server of this duck, or the stream of a CONNECT over HTTP/2')
    return () => {}
  }

  /** Adds a listener of an event; see {@link Events}. @throws {LameduckError} `ERR_LAMEDUCK_OPTION` for another event. */
  on<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): this {
    this.#events.on(event, listener)
    return this
  }

  /** Adds a listener that hears an event once. */
  once<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): this {
    this.#events.once(event, listener)
    return this
  }

  /** Removes a listener. */
  off<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): this {
    this.#events.off(event, listener)
    return this
  }

  /**
   * Removes everything that `wrap` added to the servers, their sockets and the process.
   *
   * @throws {LameduckError} `ERR_LAMEDUCK_STATE` while out of rotation: `resume()` or wait for the drain first.
   */
  unwrap(): void {
    if (this.#state === 'lameduck' || this.#state === 'draining') throw this.#wrongState('unwrap()', 'running, drained or aborted')
    this.#leave()
    for (const tracker of this.#trackers) {
      tracker.unwrap()
      delete (tracker.server as { [DUCK]?: Duck })[DUCK]
    }
    this.#trackers = []
  }

  /** `await using duck = wrap(server)`: drains without a lame duck, then unwraps. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.drain({ lameduckMs: 0 })
    this.unwrap()
  }

  #begin(how: Required<DrainOptions>, abort?: 'abort'): Promise<DrainReport> {
    const drain = new Drain(how, {
      trackers: this.#trackers,
      hooks: this.#hooks,
      enter: state => {
        this.#enter(state)
        // Not before: what is answered because of it is to say `close`. A listener may have resumed.
        if (this.#state === state) this.#controller.abort(new DOMException(`the server is draining: ${how.reason}`, 'AbortError'))
      },
      progress: progress => this.#events.emit('progress', progress),
      hook: report => this.#events.emit('hook', report),
      stats: () => this.stats(),
      fault: this.#host.fault,
    })
    this.#drain = drain
    if (abort) drain.abort(abort)
    drain.start()
    void drain.report.then(report => {
      this.#report = report
      this.#events.emit('report', report)
    })
    return drain.report
  }

  #enter(state: Stats['state']): void {
    const previous = this.#state
    if (state === previous) return
    this.#state = state
    this.#events.emit('state', state, previous)
  }

  /** Sockets from before `wrap()` cannot be listed: each shows itself with its next request. */
  async #warnOfUnknown(tracker: Tracker): Promise<void> {
    const unknown = await tracker.unknown()
    if (unknown > 0) this.#events.emit('unknown', unknown)
  }

  #wrongState(what: string, allowed: string): LameduckError {
    return new LameduckError('ERR_LAMEDUCK_STATE', `${what} while ${this.#state}; allowed: ${allowed}`)
  }
}
