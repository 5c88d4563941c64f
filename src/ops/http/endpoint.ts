import { ServerResponse, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { printable } from '../../core/printable.ts'
import { messageOf } from '../../core/thrown.ts'
import type { Settings } from '../options.ts'
import type { Audit } from './audit.ts'
import { readJson } from './body.ts'
import { Calls } from './calls.ts'
import { Doorkeeper, neighbourhood, type Authorize } from './doorkeeper.ts'
import { checkExpectation, Guard, targetOf, type Target } from './guard.ts'
import { openListener, type Listener, type Refuse } from './listener.ts'
import { maskedPath } from './masked-path.ts'
import { openApiRoute } from './openapi.ts'
import { Problem } from './problem.ts'
import { Refusals } from './refusals.ts'
import { secure, sendProblem } from './respond.ts'
import type { Principal, Route } from './route.ts'
import { entryFor, Router, type Entry, type Match } from './router.ts'

export interface EndpointOptions {
  settings: Settings
  /** What it offers. `GET /openapi.json` comes on top. */
  routes: readonly Route[]
  audit: Audit
  /** The application's own, if `settings.auth.authorize` says that there is one; over the link when it lives on another thread. */
  authorize?: Authorize
  /** One line each, control characters made visible; a failed handler's comes with its stack. */
  log: (message: string) => void
}

/** How an application that the endpoint is mounted in hands a request over. */
export interface Handover {
  /** What of the path is the application's: `/ops`. */
  prefix?: string
  /** The body, when somebody has read and parsed it already. */
  body?: unknown
}

/** The endpoint's HTTP side, with or without a listener of its own. */
export interface Endpoint {
  /** Answers a request, whatever it is. Never rejects; resolves when the answer is done or the client has gone. */
  handle(req: IncomingMessage, res: ServerResponse, handover?: Handover): Promise<void>
  /** The same for what a server's `upgrade` event brings. A refusal is a whole HTTP answer. */
  upgrade(req: IncomingMessage, socket: Duplex, head: Buffer, handover?: Handover): Promise<void>
  /**
   * Opens the listener of `settings.listen`.
   *
   * @returns `url` for requests; with `path`, over that unix socket.
   * @throws {LameduckError} `ERR_LAMEDUCK_OPS_FOLDER`, `ERR_LAMEDUCK_OPS_IN_USE`, `ERR_LAMEDUCK_OPS_INSECURE`; the system's error for an address
   *   that cannot be had.
   */
  listen(): Promise<{ url: string; path?: string }>
  /** Adds routes while it runs. @returns What takes them out again. @throws {LameduckError} `ERR_LAMEDUCK_OPTION` */
  add(routes: readonly Route[]): () => void
  /** Reads the token files again; what lasts and was begun with a token that is no longer in force ends. @returns How many tokens are in force, and the files that could not be used: what was in them before still counts. */
  reload(): { tokens: number; failed: string[] }
  /** Stops listening, tells every call that its time is over, and ends the connections: those that still get an answer within 500 ms. Idempotent. */
  close(): Promise<void>
}

/** An answer's way through the checks: as far as it is known. */
interface Visit {
  target?: Target
  match?: Match | undefined
  who?: Principal
}

function checkScope({ scope }: Route, { scopes, name }: Principal): void {
  if (scope === null || scopes.has(scope)) return
  throw new Problem(403, 'ERR_LAMEDUCK_OPS_SCOPE', `this needs the scope ${scope}, which ${printable(name)} does not have`, { scope })
}

const CLOSED = new Problem(503, 'ERR_LAMEDUCK_OPS_CLOSED', 'the endpoint is closing')

/** Where an application hands over, the connections are its own. */
const atOnce: Refuse = send => send()

class Door implements Endpoint {
  #settings: Settings
  #log: (message: string) => void
  #guard: Guard
  #keeper: Doorkeeper
  #router = new Router()
  #refusals: Refusals
  #calls: Calls
  #listener: Promise<Listener> | undefined
  #closed: Promise<void> | undefined
  /** Requests whose client waits to be told to go on. */
  #expecting = new WeakSet<IncomingMessage>()
  /** Upgraded connections that were let in: whether they still may is looked at by what lets them last. */
  #lasting = new WeakSet<Socket>()

  constructor({ settings, routes, audit, authorize, log }: EndpointOptions) {
    this.#settings = settings
    // One line whatever is in it: an error's message may quote what a client sent.
    this.#log = message => log(printable(message.replaceAll('\n', ' | '), 8_192))
    this.#guard = new Guard(settings.hosts)
    const note = (what: Record<string, unknown>) => void audit.write({ event: 'auth', who: '-', from: '-', ...what }).catch(() => {})
    this.#keeper = new Doorkeeper(settings, settings.auth.authorize ? authorize : undefined, note, this.#log)
    this.#refusals = new Refusals(audit)
    this.#calls = new Calls(audit, this.#log)
    for (const route of [...routes, openApiRoute(() => this.#router.routes())]) this.#router.add(route)
  }

  handle(req: IncomingMessage, res: ServerResponse, handover: Handover = {}): Promise<void> {
    return this.#handle(req, res, handover, atOnce)
  }

  upgrade(req: IncomingMessage, duplex: Duplex, head: Buffer, handover: Handover = {}): Promise<void> {
    return this.#upgrade(req, duplex as Socket, head, handover, atOnce)
  }

  async #handle(req: IncomingMessage, res: ServerResponse, handover: Handover, refuse: Refuse): Promise<void> {
    const visit: Visit = {}
    try {
      secure(res)
      const { route, checked } = await this.#check(req, handover, visit)
      const { target, match, who } = visit as Required<Visit>
      const body = await this.#body(req, res, route, handover)
      const params = checked({ path: match?.values ?? {}, query: target.query, body })
      // It may have gone, or we may be going, by now.
      if (res.destroyed) return
      const lasts = route.success.types.includes('text/event-stream')
      const admit = lasts && route.scope !== null ? this.#admitAgain(req, route, target) : undefined
      if (req.method === 'HEAD' && lasts) this.#headOfStream(res, route)
      else await this.#calls.run({ route, path: target.path, params, who, req, res, admit })
    } catch (error) {
      const problem = this.#problemOf(error)
      this.#note(req, problem, visit)
      if (res.headersSent) return void res.destroy()
      refuse(() => {
        if (!res.destroyed) sendProblem(req, res, problem)
      })
    }
  }

  async #upgrade(req: IncomingMessage, socket: Socket, head: Buffer, handover: Handover, refuse: Refuse): Promise<void> {
    const visit: Visit = {}
    // Node has taken its own listeners off: an error would be the process's.
    socket.on('error', () => {})
    socket.setTimeout(0)
    const res = new ServerResponse(req)
    res.shouldKeepAlive = false
    try {
      secure(res)
      const { route, checked } = await this.#check(req, handover, visit)
      const { target, match, who } = visit as Required<Visit>
      if (!route.upgrade) throw new Problem(400, 'ERR_LAMEDUCK_OPS_UPGRADE', 'this takes no upgrade')
      if (req.headers.upgrade?.toLowerCase() !== 'websocket') throw new Problem(426, 'ERR_LAMEDUCK_OPS_UPGRADE', 'this upgrades to a WebSocket only')
      const params = checked({ path: match?.values ?? {}, query: target.query, body: undefined })
      const admit = this.#admitAgain(req, route, target)
      this.#lasting.add(socket)
      await this.#calls.upgrade({ route, path: target.path, params, who, req, res, admit }, head)
    } catch (error) {
      this.#lasting.delete(socket)
      const problem = this.#problemOf(error)
      this.#note(req, problem, visit)
      refuse(() => this.#refuseUpgrade(req, res, socket, problem))
    }
  }

  async listen(): Promise<{ url: string; path?: string }> {
    if (this.#closed) throw CLOSED
    this.#listener ??= openListener(this.#settings, {
      request: (req, res, expects, refuse) => {
        if (expects) this.#expecting.add(req)
        void this.#handle(req, res, {}, refuse)
      },
      upgrade: (req, socket, head, refuse) => void this.#upgrade(req, socket as Socket, head, {}, refuse),
      insider: socket => this.#keeper.insider(socket),
      known: socket => this.#lasting.has(socket) || this.#keeper.knows(socket),
      isAnybodys: req => this.#keeper.isAnybodys(req),
      refused: (socket, status, code) => {
        this.#refusals.count({ who: '-', from: socket ? neighbourhood(socket) : '-', status, code })
      },
    })
    const { url, path } = await this.#listener
    return { url, ...(path === undefined ? {} : { path }) }
  }

  add(routes: readonly Route[]): () => void {
    const undo: (() => void)[] = []
    const remove = () => {
      for (const take of undo.splice(0)) take()
    }
    try {
      for (const route of routes) undo.push(this.#router.add(route))
    } catch (error) {
      remove()
      throw error
    }
    return remove
  }

  reload(): { tokens: number; failed: string[] } {
    const read = this.#keeper.reload()
    this.#calls.look()
    return read
  }

  close(): Promise<void> {
    return this.#closed ??= this.#close()
  }

  async #close(): Promise<void> {
    this.#calls.abort()
    const listener = await this.#listener?.catch(() => undefined)
    await listener?.close()
    // The caller may close the audit next.
    await this.#calls.ended()
    this.#refusals.close()
    this.#keeper.close()
  }

  /**
   * Everything before parameters and body. Who has no token gets the same answer, after the same steps, whatever the path.
   *
   * @throws {Problem}
   */
  async #check(req: IncomingMessage, { prefix }: Handover, visit: Visit): Promise<Entry> {
    if (this.#closed) throw CLOSED
    this.#guard.check(req)
    const target = visit.target = targetOf(req.url ?? '', prefix)
    const match = visit.match = this.#router.match(target.segments)
    const method = req.method === 'HEAD' ? 'GET' : req.method ?? ''
    if (match?.entries.get(method)?.route.scope === null) visit.who = this.#keeper.anybody(req)
    else visit.who = await this.#keeper.admit(req, target.path)
    const entry = entryFor(match, method)
    checkScope(entry.route, visit.who)
    checkExpectation(req)
    return entry
  }

  /** For a call that outlives this check. */
  #admitAgain(req: IncomingMessage, route: Route, { path }: Target): () => Promise<void> {
    return async () => checkScope(route, await this.#keeper.admit(req, path, true))
  }

  async #body(req: IncomingMessage, res: ServerResponse, { method }: Route, { body }: Handover): Promise<Record<string, unknown> | undefined> {
    if (body !== undefined) {
      if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as Record<string, unknown>
      throw new Problem(400, 'ERR_LAMEDUCK_OPS_BODY', 'the body is no JSON object')
    }
    const read = await readJson(req, this.#settings.limits, () => {
      if (!this.#expecting.has(req)) return
      res.writeContinue()
      delete req.headers.expect
    })
    if (read && method === 'GET') throw new Problem(400, 'ERR_LAMEDUCK_OPS_BODY', 'a GET takes no body')
    return read
  }

  /** An event stream has no end that a HEAD could wait for. */
  #headOfStream(res: ServerResponse, { success }: Route): void {
    res.setHeader('Content-Type', success.types[0] as string)
    res.statusCode = success.status
    res.end()
  }

  #problemOf(error: unknown): Problem {
    if (error instanceof Problem) return error
    this.#log(`a request failed: ${error instanceof Error && error.stack ? error.stack : messageOf(error)}`)
    return new Problem(500, 'ERR_LAMEDUCK_OPS_FAILED', 'this failed; the log says why')
  }

  /** Into the audit. What a stranger asked for may hold a token that went astray. */
  #note(req: IncomingMessage, { status, code }: Problem, { who, target }: Visit): void {
    const path = target ? { path: maskedPath(target.path) } : {}
    this.#refusals.count({ who: who?.name ?? '-', from: neighbourhood(req.socket), method: printable(req.method ?? ''), ...path, status, code })
  }

  #refuseUpgrade(req: IncomingMessage, res: ServerResponse, socket: Socket, problem: Problem): void {
    if (socket.destroyed) return
    try {
      res.assignSocket(socket)
    } catch {
      // An answer to a request before it is still on its way, as of a client that did not wait for it.
      socket.destroy()
      return
    }
    res.once('finish', () => {
      res.detachSocket(socket)
      socket.end()
      // What the client has sent on is not to turn the answer into a reset.
      socket.resume()
      setTimeout(() => socket.destroy(), 500).unref()
    })
    sendProblem(req, res, problem)
  }
}

/**
 * Makes the endpoint's HTTP side out of routes: every check before them, every answer after them.
 *
 * @throws {LameduckError} `ERR_LAMEDUCK_OPTION` for a route that cannot be, or a token file that cannot be used.
 */
export function createEndpoint(options: EndpointOptions): Endpoint {
  return new Door(options)
}
