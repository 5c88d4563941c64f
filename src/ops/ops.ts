import { EventEmitter } from 'node:events'
import { statSync, unlinkSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import v8 from 'node:v8'
import { LameduckError, type Duck } from '../core/index.ts'
import { lastly } from '../core/lifecycle.ts'
import { messageOf } from '../core/thrown.ts'
import { CustomRoutes, type CustomRoute } from './custom.ts'
import { Heartbeat } from './heartbeat.ts'
import type { Opened, Opening } from './assemble.ts'
import type { Ledger } from './heap/jobs.ts'
import type { AuditEntry } from './http/audit.ts'
import type { Link } from './link.ts'
import { outposts } from './outposts.ts'
import type { OpsOptions, Settings } from './options.ts'
import { settle } from './settle.ts'
import type { RuleInput } from './watch/rule.ts'
import type { RuleReport, RulesLedger } from './watch/rules.ts'
import { startHere, startWorker, type Thread } from './thread.ts'

/** Between two starts of an endpoint that crashed: this, doubled each time up to the longest. */
const SHORTEST_BACKOFF_MS = 100
const LONGEST_BACKOFF_MS = 10_000

/** One that has run for so long begins with the shortest wait again. */
const STABLE_MS = 60_000

/** How long a worker may take to begin. */
const START_MS = 10_000

/** How long answers that are under way get when the endpoint closes. */
const CLOSE_MS = 800

/** Where the endpoint can be reached. */
export interface Address {
  /** `http://127.0.0.1:1234`, or `https://…`; undefined for a unix socket. */
  url?: string
  /** Of the unix socket. */
  path?: string
}

/** Events of an {@link Ops}. */
export interface OpsEvents {
  /** A line of the audit trail. */
  audit: [entry: AuditEntry]
  /** The endpoint's thread has crashed; it is started again. */
  crash: [error: Error]
  closed: []
}

/** The maintenance endpoint of a process. Made by {@link ops}. */
export class Ops {
  #duck: Duck | undefined
  #settings: Settings
  #options: Functions
  #emitter = new EventEmitter()
  #heartbeat = new Heartbeat().start()
  #custom = new CustomRoutes(message => this.#warn(message))
  /** Of the jobs and the rules, as the endpoint's thread told it: kept here, so that its crash loses none and renews no budget. */
  #ledger: Ledger | undefined
  #rules: RulesLedger | undefined
  #thread: Thread | undefined
  #address: Address = {}
  #stopOutposts = () => {}
  #ready: Promise<this>
  #closed: Promise<void> | undefined
  #forget: () => void
  /** Which file the unix socket is. */
  #inode: number | undefined
  #backoffMs = SHORTEST_BACKOFF_MS

  /** @internal Use {@link ops}. */
  constructor(options: OpsOptions) {
    this.#settings = settle(options)
    this.#options = functionsOf(options)
    this.#duck = options.duck
    const onReport = ({ outcome }: { outcome: string }) => {
      if (outcome !== 'resumed') void this.close()
    }
    this.#duck?.on('report', onReport)
    const takeBack = lastly(() => this.close())
    // An exit without a drain, or one that did not wait for the endpoint's thread.
    const onExit = () => {
      const address = this.#thread?.link.unread('address')
      if (address) this.#opened(address as Address)
      this.#unlink()
    }
    process.on('exit', onExit)
    this.#forget = () => {
      process.off('exit', onExit)
      this.#duck?.off('report', onReport)
      takeBack()
    }
    this.#ready = this.#start()
    // Whoever does not wait for it is told all the same.
    this.#ready.catch((error: unknown) => {
      this.#warn(`the maintenance endpoint did not start: ${(error as Error).message}`)
      void this.close()
    })
  }

  /** Settles when the endpoint listens. @throws {LameduckError} Why it cannot, as a rejection. */
  get ready(): Promise<this> {
    return this.#ready
  }

  /** Where it listens, once it does. */
  get address(): Address {
    return this.#address
  }

  get url(): string | undefined {
    return this.#address.url
  }

  /**
   * Takes maintenance work of the application behind the same door.
   *
   * Before the endpoint is open, which paths are its own is not known: one of these is then no error here but a warning, and is not served.
   *
   * @returns What takes it out again.
   * @throws {LameduckError} `ERR_LAMEDUCK_OPTION` for a route that cannot be: a path that is taken or lameduck's own, a parameter in the path that is
   *   not in `params`, what cannot be copied to another thread; and once the endpoint is being closed.
   */
  register(route: CustomRoute): () => void {
    if (this.#closed) throw new LameduckError('ERR_LAMEDUCK_OPTION', 'the endpoint is closed; allowed: to register before that')
    const sign = this.#custom.add(route)
    this.#thread?.link.tell('route', sign)
    return () => {
      this.#custom.remove(sign.id)
      this.#thread?.link.tell('unroute', sign.id)
    }
  }

  /** Rules that take a snapshot or a profile by themselves; see docs/leak-watch.md. They survive a crash of the endpoint's thread. */
  readonly rules = {
    /** @throws {LameduckError} `ERR_LAMEDUCK_OPS_RULE`, `ERR_LAMEDUCK_OPS_RULES_FULL`, as a rejection. */
    arm: (rule: RuleInput): Promise<RuleReport> => this.#ask<RuleReport>('rules.arm', rule),
    /** @returns Whether there was one. */
    disarm: (name: string): Promise<boolean> => this.#ask<boolean>('rules.disarm', name),
    list: (): Promise<RuleReport[]> => this.#ask<RuleReport[]>('rules.list'),
  }

  /**
   * Reads tokens again, from where the options say.
   *
   * @returns How many tokens are in force, and the files that could not be used: what was in them before still counts.
   */
  reload(): Promise<{ tokens: number; failed: string[] }> {
    return this.#ask<{ tokens: number; failed: string[] }>('reload')
  }

  on<E extends keyof OpsEvents>(event: E, listener: (...args: OpsEvents[E]) => void): this {
    this.#emitter.on(event, listener as (...args: unknown[]) => void)
    return this
  }

  off<E extends keyof OpsEvents>(event: E, listener: (...args: OpsEvents[E]) => void): this {
    this.#emitter.off(event, listener as (...args: unknown[]) => void)
    return this
  }

  /**
   * Answers a request of another server, for mounting under a path of the application: same checks, same audit. Needs `thread: false`, and
   * hangs when the main thread hangs.
   *
   * @param prefix The path that it is mounted under, as `/ops`.
   * @throws {LameduckError} `ERR_LAMEDUCK_STATE` with a worker.
   */
  handle(req: IncomingMessage, res: ServerResponse, { prefix = '' }: { prefix?: string } = {}): void {
    const endpoint = this.#thread?.endpoint
    if (!endpoint) throw new LameduckError('ERR_LAMEDUCK_STATE', 'the endpoint is in a thread of its own, or closed; allowed: ops({ thread: false })')
    // The page's own files are beside it.
    if (req.url === prefix && prefix !== '') res.writeHead(308, { Location: `${prefix}/`, 'Content-Length': 0 }).end()
    else endpoint.handle(req, res, { prefix })
  }

  /** Closes it: answers that are under way get a moment. Idempotent. */
  close(): Promise<void> {
    return (this.#closed ??= this.#close())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #ask<T>(name: string, params?: unknown): Promise<T> {
    await this.#ready
    const { link } = this.#thread ?? {}
    if (!link) throw new LameduckError('ERR_LAMEDUCK_STATE', 'the endpoint is closed')
    return link.call<T>(name, params).catch((error: unknown) => {
      throw asLameduck(error)
    })
  }

  async #start(): Promise<this> {
    // Not before those who made it could listen to it.
    await Promise.resolve()
    await this.#open()
    if (isUseless(this.#settings)) this.#warn('the maintenance endpoint listens on TCP, and nobody may do anything there: options.auth has no tokens, file, certificates or authorize')
    return this
  }

  async #open(): Promise<void> {
    const began = performance.now()
    const thread = this.#settings.thread ? startWorker(this.#settings, this.#heartbeat) : startHere(this.#settings, this.#heartbeat)
    this.#thread = thread
    this.#stopOutposts = this.#outposts(thread.link)
    try {
      const opened = await Promise.race([
        thread.link.call<Opened>('open', { custom: this.#custom.signs, heapLimit: v8.getHeapStatistics().heap_size_limit, rules: this.#rules, ledger: this.#ledger } satisfies Opening, { timeoutMs: START_MS }),
        thread.ended.then(error => Promise.reject(error ?? new Error('its thread has ended'))),
      ])
      this.#custom.own = opened.own
    } catch (error) {
      this.#stopOutposts()
      await thread.end()
      throw asLameduck(error)
    }
    // The same port after a crash.
    this.#settings = again(this.#settings, this.#address)
    void thread.ended.then(error => this.#crashed(thread, error, performance.now() - began))
  }

  #outposts(link: Link): () => void {
    link.on('log', (message: string) => this.#warn(message))
    link.on('jobs', (ledger: Ledger) => {
      this.#ledger = ledger
    })
    link.on('rules', (ledger: RulesLedger) => {
      this.#rules = ledger
    })
    // Apart from the answer to `open`: a process that ends while it is loading does not come to that.
    link.on('address', (address: Address) => this.#opened(address))
    link.on('audit', (entry: AuditEntry) => {
      this.#emitter.emit('audit', entry)
      this.#tell(entry)
    })
    const stops = outposts(this.#options, this.#custom).map(outpost => outpost({ duck: this.#duck, link, settings: this.#settings }))
    return () => {
      for (const stop of stops) stop()
    }
  }

  #opened(address: Address): void {
    this.#address = address
    this.#inode = inode(address.path)
  }

  async #crashed(thread: Thread, error: Error | undefined, ranMs: number): Promise<void> {
    if (this.#closed || this.#thread !== thread) return
    const cause = error ?? new Error('its thread has ended')
    this.#stopOutposts()
    this.#emitter.emit('crash', cause)
    this.#warn(`the maintenance endpoint crashed and is started again: ${cause.message}`)
    if (ranMs > STABLE_MS) this.#backoffMs = SHORTEST_BACKOFF_MS
    const waitMs = this.#backoffMs
    this.#backoffMs = Math.min(waitMs * 2, LONGEST_BACKOFF_MS)
    await sleep(waitMs, undefined, { ref: false })
    if (this.#closed) return
    try {
      await this.#open()
      this.#thread?.link.tell('note', { event: 'worker', who: 'lameduck', from: 'process', code: 'ERR_LAMEDUCK_OPS_CRASHED', detail: cause.message })
    } catch (again) {
      this.#thread = thread
      await this.#crashed(thread, again as Error, 0)
    }
  }

  /** The unix socket's file, unless it is a successor's by now. */
  #unlink(): void {
    const { path } = this.#address
    if (path === undefined || this.#inode === undefined || inode(path) !== this.#inode) return
    try {
      unlinkSync(path)
    } catch {
      // It has gone just now.
    }
  }

  async #close(): Promise<void> {
    await this.#ready.catch(() => {})
    await this.#thread?.link.call('close', CLOSE_MS, { timeoutMs: CLOSE_MS + 200 }).catch(() => {})
    this.#stopOutposts()
    await this.#thread?.end()
    this.#thread = undefined
    this.#unlink()
    this.#forget()
    this.#heartbeat.stop()
    this.#emitter.emit('closed')
  }

  #tell(entry: AuditEntry): void {
    try {
      this.#options.onAudit?.(entry)
    } catch (error) {
      this.#warn(`onAudit failed: ${(error as Error).message}`)
    }
  }

  #warn(message: string): void {
    try {
      if (this.#options.logger) this.#options.logger.warn(`lameduck: ${message}`)
      else process.emitWarning(message, { code: 'LAMEDUCK_OPS' })
    } catch {
      // A logger that throws is nobody's reason to stop.
    }
  }
}

/** What of the options is called here. */
type Functions = Pick<OpsOptions, 'auth' | 'lastReady' | 'logger' | 'loggers' | 'metrics' | 'onAudit'>

/** Who `authorize` is called on: not what holds tokens as such, unless it is an instance, of which there is no copy. */
function withoutTokens(auth: NonNullable<OpsOptions['auth']>): NonNullable<OpsOptions['auth']> {
  const isPlain = Object.getPrototypeOf(auth) === Object.prototype
  return isPlain && auth.tokens?.some(entry => 'token' in entry) ? { ...auth, tokens: [] } : auth
}

/** Not the options as they are: a token that was given as such would be in every heap snapshot. */
function functionsOf({ auth, lastReady, logger, loggers, metrics, onAudit }: OpsOptions): Functions {
  return {
    ...(auth?.authorize && { auth: { authorize: auth.authorize.bind(withoutTokens(auth)) } }),
    ...(lastReady && { lastReady }),
    ...(logger && { logger }),
    ...(loggers && { loggers }),
    ...(metrics && { metrics }),
    ...(onAudit && { onAudit }),
  }
}

/** Which file is at a path. */
function inode(path: string | undefined): number | undefined {
  return path === undefined ? undefined : statSync(path, { throwIfNoEntry: false })?.ino
}

/** Whether it is on TCP with nobody who could be authorised: the probes are all that it is good for. */
function isUseless({ listen, auth: { tokens = [], file, certificates = {}, authorize } }: Settings): boolean {
  return listen !== false && !('path' in listen) && tokens.length === 0 && file === undefined && Object.keys(certificates).length === 0 && !authorize
}

/** With the port that it got. */
function again(settings: Settings, { url }: Address): Settings {
  const { listen } = settings
  if (listen === false || 'path' in listen || url === undefined) return settings
  return { ...settings, listen: { ...listen, port: Number(new URL(url).port) } }
}

/** What the other thread threw, as an error of ours. */
function asLameduck(error: unknown): LameduckError {
  if (error instanceof LameduckError) return error
  // Anything may have been thrown; the code of a DOMException is a number.
  const { code } = Object(error) as { code?: unknown }
  const isOurs = typeof code === 'string' && code.startsWith('ERR_LAMEDUCK_')
  return new LameduckError(isOurs ? code as LameduckError['code'] : 'ERR_LAMEDUCK_OPS_START', messageOf(error))
}

/**
 * Opens the maintenance endpoint of this process: private, authorised, in a thread of its own, so that it answers while the main thread hangs.
 *
 * By default on a unix socket that only this user can open. It is part of the duck's lifecycle: reachable throughout a drain, closed last.
 *
 * @param options See {@link OpsOptions}.
 * @throws {LameduckError} `ERR_LAMEDUCK_OPTION`; `ERR_LAMEDUCK_OPS_INSECURE` for an address that strangers can reach without TLS and authorisation;
 *   `ERR_LAMEDUCK_STATE` for a duck whose drain is over.
 */
export function ops(options: OpsOptions = {}): Ops {
  return new Ops(options)
}
