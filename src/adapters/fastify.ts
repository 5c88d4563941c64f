import type { IncomingMessage, ServerResponse } from 'node:http'
import net from 'node:net'
import { DEFAULTS, wrap, type Duck, type Logger, type Options, type WrappableServer } from '../core/index.ts'
import { LONGEST_MS } from '../core/options.ts'
import { later } from './later.ts'
import { under, type Mountable } from './mount.ts'
import { Rejection } from './rejection.ts'

/** What a fastify instance (5) has, as far as lameduck uses it. */
export interface FastifyLike {
  server: unknown
  log: unknown
  decorate(property: 'lameduck', value: unknown): unknown
  decorateRequest(property: 'lameduck', value: { getter: () => unknown }): unknown
  addHook(name: string, hook: (...args: never[]) => unknown): unknown
  close(): unknown
}

export type { Mountable }

interface ReplyLike {
  code(status: number): this
  headers(headers: Record<string, string>): this
}

type Close = (callback?: (error?: Error) => void) => Promise<void> | undefined
type AddHook = (this: unknown, name: string, hook: unknown) => unknown
type PreClose = (done?: (error?: unknown) => void) => unknown

/** The instance that `fastify()` made: the others, made by `register`, have it as their prototype. */
function rootOf(fastify: FastifyLike): FastifyLike {
  let root = fastify
  while (!Object.hasOwn(root, 'server')) root = Object.getPrototypeOf(root) as FastifyLike
  return root
}

/**
 * fastify's `preClose` hooks end what would hold the server open, so a drain cannot wait for them until it is over, when it closes
 * fastify. They run as the draining begins, and fastify, when it comes to them, finds them done.
 */
function preCloseEarly(root: FastifyLike, duck: Duck): void {
  const hooks: (() => Promise<unknown>)[] = []
  const addHook = root.addHook as AddHook
  root.addHook = function (this: unknown, name: string, hook: unknown) {
    if (name !== 'preClose' || typeof hook !== 'function') return addHook.call(this, name, hook)
    let result: Promise<unknown> | undefined
    // A hook with a parameter wants a callback, as fastify does it.
    const run = async () => hook.length === 0
      ? (hook as PreClose).call(this)
      : new Promise<void>((resolve, reject) => (hook as PreClose).call(this, error => (error ? reject(error) : resolve())))
    const once = () => (result ??= run())
    hooks.push(once)
    return addHook.call(this, name, Object.defineProperty(once, 'name', { value: hook.name }))
  } as FastifyLike['addHook']
  duck.on('state', async state => {
    if (state !== 'draining') return
    // One after the other, as fastify runs them. What fails, fails again when fastify asks, which is told.
    for (const hook of hooks) await hook().catch(() => {})
  })
}

/** fastify listens on `localhost` with a server for each of its addresses, and shows only the first one. */
function addOthers(root: FastifyLike, duck: Duck): void {
  const lists = Object.getOwnPropertySymbols(root).map(key => (root as unknown as Record<symbol, unknown>)[key])
  for (const other of lists.filter(Array.isArray).flat() as unknown[]) {
    // Drained before the first one: fastify closes them, without a drain, when that one is closed.
    if (other instanceof net.Server && duck.state === 'running') duck.add(other as WrappableServer, { order: -1 })
  }
}

/**
 * fastify answers 503 by itself from the moment of its close() on, and Node's close() destroys idle connections: so it drains
 * first, and a drain closes fastify last. Whichever came first brings the other along, once.
 */
function closeWithDrain(root: FastifyLike, duck: Duck): void {
  const close = root.close.bind(root) as Close
  const connectionsEnded = later()
  let closed: Promise<void> | undefined
  const closeFastify = () => (closed ??= Promise.resolve(close()))
  const drained = async () => {
    const { outcome } = await duck.drain({ reason: 'app.close()' })
    // Closing is for good, whoever wanted it back.
    if (outcome === 'resumed') await duck.drain({ reason: 'app.close()', lameduckMs: 0 })
  }
  root.close = ((callback?: (error?: Error) => void) => {
    // Not for the whole drain: that waits for fastify. Unless it is over without having asked, because it was cut.
    const done = Promise.race([connectionsEnded.promise, drained()]).then(closeFastify)
    if (callback === undefined) return done
    done.then(() => callback(), callback)
    return undefined
  }) as FastifyLike['close']
  duck.onDrain('fastify app.close()', () => {
    connectionsEnded.resolve()
    return closeFastify()
  }, { timeoutMs: LONGEST_MS })
}

/**
 * Wraps the server of a fastify application: `await app.register(lameduck, options)`, options as for `wrap`, before the plugins
 * whose `preClose` hooks end connections.
 *
 * A drain ends with `app.close()`, and `app.close()` begins with a drain: `preClose` hooks run as the draining begins, `onClose`
 * hooks when no connection is left, in either case. The duck is `app.lameduck` and `request.lameduck`. The log goes to `app.log`.
 * With `admit: 'reject'` (or a predicate) the 503 is raised in `onRequest`, for your error handler.
 *
 * @throws {LameduckError} As `wrap`.
 */
export async function lameduck(fastify: FastifyLike, options: Options = {}): Promise<void> {
  const root = rootOf(fastify)
  const server = root.server as WrappableServer
  const rejection = new Rejection(options)
  const duck: Duck = wrap(server, {
    logger: root.log as Logger,
    reject: (req, res) => rejection.handOn(req, res, server),
    ...options,
  })
  root.decorate('lameduck', duck)
  root.decorateRequest('lameduck', { getter: () => duck })
  const { admit = DEFAULTS.admit } = options
  if (admit !== 'serve') {
    root.addHook('onRequest', (request: { raw: IncomingMessage }, reply: ReplyLike, done: (error?: Error) => void) => {
      const error = rejection.of(request.raw)
      // An error handler of yours gets the error, but fastify leaves status and headers to it.
      if (error) reply.code(error.statusCode).headers(error.headers)
      done(error)
    })
  }
  root.addHook('onListen', async () => addOthers(root, duck))
  preCloseEarly(root, duck)
  closeWithDrain(root, duck)
}

/**
 * Puts a maintenance endpoint (`ops({ thread: false, listen: false })` of lameduck/ops) under a path of an application: same checks, same audit.
 * It hangs when the main thread hangs; an endpoint with a listener of its own does not.
 *
 * @param prefix As `/ops`.
 * @throws {LameduckError} `ERR_LAMEDUCK_OPTION`
 */
export function mount(app: Pick<FastifyLike, 'addHook'>, prefix: string, endpoint: Mountable): void {
  const isOurs = under(prefix)
  // Before fastify reads the body; also where no route is.
  app.addHook('onRequest', (request: { raw: IncomingMessage }, reply: { raw: ServerResponse; hijack(): void }, done: () => void) => {
    if (!isOurs(request.raw.url)) return done()
    reply.hijack()
    return endpoint.handle(request.raw, reply.raw, { prefix })
  })
}

// For fastify, what the package fastify-plugin does: the plugin is the application's, not that of a scope of its own.
Object.assign(lameduck, {
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: 'lameduck',
  [Symbol.for('plugin-meta')]: { name: 'lameduck', fastify: '5.x' },
})
