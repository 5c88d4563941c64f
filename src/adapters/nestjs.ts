import type { IncomingMessage, ServerResponse } from 'node:http'
import { Duck } from '../core/duck.ts'
import { DEFAULTS, LameduckError, type DrainReport, type Options, type WrappableServer } from '../core/index.ts'
import { join, type Member } from '../core/lifecycle.ts'
import { settle, type Settings } from '../core/options.ts'
import { later } from './later.ts'
import { Rejection } from './rejection.ts'

/** What an HTTP adapter of Nest (12) has, as far as lameduck uses it. */
interface HttpAdapterLike {
  getHttpServer(): unknown
  use(middleware: (req: IncomingMessage, res: ServerResponse, next: (error?: unknown) => void) => void): unknown
  beforeClose?(): unknown
  close(): unknown
}

/** A dynamic module, for the `imports` of one of yours. */
export interface DynamicModuleLike {
  module: new () => object
  global: true
  providers: { provide: symbol; useFactory: (...args: never[]) => Duck; inject: (new () => object)[] }[]
  exports: symbol[]
}

/** The duck for Nest's injector: `@Inject(LAMEDUCK) duck: Duck`, `app.get<Duck>(LAMEDUCK)`. */
export const LAMEDUCK: symbol = Symbol.for('lameduck.nestjs')

const failed = ({ outcome, hooks }: DrainReport) => outcome === 'forced' || hooks.some(hook => hook.outcome !== 'ok')

/** The shutdown of one Nest application: begun by either side, Nest's `close()` or a drain, it brings the other along where it can. */
class Shutdown {
  readonly duck: Duck
  #settings: Settings
  #rejection: Rejection
  #draining = later()
  #connectionsEnded = later()
  /** Nest has begun to close. */
  #closing = false
  /** What Nest was sent, once it has told its hooks. */
  #signal: string | undefined
  /** Nest has come to its last hooks. */
  #last = false
  #leave = () => {}

  constructor(options: Options) {
    this.#rejection = new Rejection(options)
    const reject: Options['reject'] = (req, res) => this.#rejection.handOn(req, res, this.duck.servers[0] as WrappableServer)
    this.#settings = settle({ reject, ...options })
    // The process's side is not the duck's alone: see #drain().
    this.duck = new Duck({ ...this.#settings, signals: false, drainOnCrash: false })
    this.duck.on('state', state => {
      if (state !== 'lameduck' && state !== 'running') this.#draining.resolve()
    })
    this.duck.onDrain('Nest connections ended', this.#connectionsEnded.resolve, { timeoutMs: DEFAULTS.deadlineMs })
  }

  /** Nest has an HTTP server by now; it does not listen yet. */
  attach(adapter: HttpAdapterLike): void {
    const { admit, drainOnCrash, exit, lameduckMs, signals } = this.#settings
    this.duck.add(adapter.getHttpServer() as WrappableServer)
    if (admit !== 'serve') adapter.use((req, res, next) => next(this.#rejectionOf(req, res)))
    const beforeClose = adapter.beforeClose?.bind(adapter)
    const close = adapter.close.bind(adapter)
    // What Nest does first of all when it closes, and waits for: its hooks come after the lame duck, while the connections end.
    adapter.beforeClose = async () => {
      this.#closing = true
      await Promise.race([this.#draining.promise, this.#drainForGood()])
      await beforeClose?.()
    }
    // What it does between `beforeApplicationShutdown` and `onApplicationShutdown`.
    adapter.close = async () => {
      await Promise.race([this.#connectionsEnded.promise, this.#drainForGood()])
      await close()
      // By a signal Nest ends the process when it is done: not before the hooks of `duck.onDrain` are.
      if (this.#signal !== undefined) await this.duck.drain()
    }
    const member: Member = { drain: how => this.#drain(how), abort: reason => this.#abort(reason) }
    if (signals || drainOnCrash) this.#leave = join(member, { signals: signals || [], exit, drainOnCrash, lameduckMs })
  }

  /** Nest tells its hooks. */
  beforeApplicationShutdown(signal: string | undefined): void {
    this.#signal = signal
  }

  /** Nest tells its last hooks. Those of global modules, such as this, come after all others. */
  onApplicationShutdown(): void {
    this.#last = true
    // No signal for Nest: `app.close()`, and the process is its caller's.
    if (this.#signal === undefined) this.#leave()
  }

  #rejectionOf(req: IncomingMessage, res: ServerResponse): Error | undefined {
    const error = this.#rejection.of(req)
    // Nest's filters take the status and the message of such an error, not its headers.
    for (const [name, value] of Object.entries(error?.headers ?? {})) res.setHeader(name, value)
    return error
  }

  async #drainForGood(): Promise<void> {
    const { outcome } = await this.duck.drain({ reason: 'app.close()' })
    // Closing is for good, whoever wanted it back.
    if (outcome === 'resumed') await this.duck.drain({ reason: 'app.close()', lameduckMs: 0 })
  }

  /** Asked for by a signal. If Nest is closing as well (`enableShutdownHooks`), it has hooks to run after the drain, and ends the process. */
  async #drain(how: { reason: string; lameduckMs?: number }): Promise<DrainReport> {
    const report = await this.duck.drain(how)
    if (!this.#closing || !this.#settings.exit) return report
    // With `useProcessExit` Nest says 0 in any case.
    if (failed(report)) process.on('exit', () => (process.exitCode = 1))
    return new Promise(() => {})
  }

  /** Another signal. When Nest is done it is Nest's: it sends itself again what it got, to die of it. */
  #abort(reason: string): Promise<DrainReport> {
    const { report } = this.duck
    if (this.#last && report && this.#settings.exit) process.exit(failed(report) ? 1 : 0)
    return this.duck.abort(reason)
  }
}

/**
 * Wraps the HTTP server of a Nest application, on Express or fastify: `imports: [LameduckModule.forRoot(options)]`, options as for
 * `wrap`, in one module of it. The module is global; the duck is injected by {@link LAMEDUCK}.
 *
 * `app.close()` begins with a drain. In this order: lame duck, `onModuleDestroy`, `beforeApplicationShutdown`, the last
 * connection ends, `onApplicationShutdown`. A signal runs those hooks if `app.enableShutdownHooks()` was called, as without
 * lameduck; the process then ends when all of them are done, with 0, or 1 if the drain was forced. Without it a signal drains and exits.
 * With `admit: 'reject'` (or a predicate) the 503 goes through Nest's exception filters.
 */
export const LameduckModule = {
  /** @throws {LameduckError} `ERR_LAMEDUCK_OPTION`; as the application starts, `ERR_LAMEDUCK_SERVER`. */
  forRoot(options: Options = {}): DynamicModuleLike {
    settle(options)
    // A class for each call, so that Nest makes the instance, for each application, and nothing has to be injected into it.
    class LameduckModule {
      readonly shutdown = new Shutdown(options)

      /** Nest calls it with its middleware builder as it starts: that one knows the HTTP adapter. */
      configure(consumer: { getHttpAdapter?: () => HttpAdapterLike }): void {
        const adapter = consumer.getHttpAdapter?.()
        if (!adapter) throw new LameduckError('ERR_LAMEDUCK_SERVER', 'this version of Nest does not show its HTTP adapter; allowed: Nest 12')
        this.shutdown.attach(adapter)
      }

      beforeApplicationShutdown(signal?: string): void {
        this.shutdown.beforeApplicationShutdown(signal)
      }

      onApplicationShutdown(): void {
        this.shutdown.onApplicationShutdown()
      }
    }
    const duck = { provide: LAMEDUCK, useFactory: ({ shutdown }: LameduckModule) => shutdown.duck, inject: [LameduckModule] }
    return { module: LameduckModule, global: true, providers: [duck], exports: [LAMEDUCK] }
  },
}
