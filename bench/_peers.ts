/**
 * How each library drains a server: one row each, with the settings that its documentation recommends.
 * Every row loads its own library only, so that no other one is in its memory.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'

/** Ends the server; the child exits afterwards. */
export type Drain = () => Promise<unknown>

export interface Settings {
  /** Only for lameduck; its default otherwise. */
  lameduckMs?: number | undefined
  /** What the library calls its timeout or its grace; its default otherwise. */
  graceMs?: number | undefined
  /** Whether a library that listens to signals and ends the process may do so. Otherwise it drains when told, like the others. */
  ownsProcess?: boolean | undefined
}

interface Peer {
  /** The package whose version is reported. */
  package?: string
  /** While nothing drains it is the same as another row. */
  onlyDrains?: boolean
  /** Attaches the library before listen(). Undefined: the library itself listens to SIGTERM and ends the process. */
  attach(server: Server, settings: Settings): Promise<Drain | undefined>
}

const close = (server: Server) => new Promise<void>((resolve) => { server.close(() => resolve()) })

export const peers = {
  'process.exit': {
    onlyDrains: true,
    attach: async () => async () => {},
  },
  'server.close()': {
    attach: async (server) => () => close(server),
  },
  'stoppable': {
    package: 'stoppable',
    async attach(server, { graceMs }) {
      const { default: stoppable } = await import('stoppable')
      const stopped = stoppable(server, graceMs)
      return () => new Promise((resolve) => stopped.stop(resolve))
    },
  },
  'terminus': {
    package: '@godaddy/terminus',
    attach: terminus,
  },
  'http-shutdown': {
    package: 'http-shutdown',
    async attach(server) {
      const { default: httpShutdown } = await import('http-shutdown')
      const shuttable = httpShutdown(server)
      return () => new Promise((resolve) => shuttable.shutdown(resolve))
    },
  },
  '503 flag + close': {
    attach: async (server) => flagAndClose(server),
  },
  'http-terminator': {
    package: 'http-terminator',
    async attach(server, { graceMs }) {
      const { createHttpTerminator } = await import('http-terminator')
      const { terminate } = createHttpTerminator({ server, ...graceMs !== undefined && { gracefulTerminationTimeout: graceMs } })
      return terminate
    },
  },
  'http-graceful-shutdown': {
    package: 'http-graceful-shutdown',
    async attach(server, { graceMs, ownsProcess = true }) {
      const { default: gracefulShutdown } = await import('http-graceful-shutdown')
      const timeout = graceMs === undefined ? {} : { timeout: graceMs }
      if (!ownsProcess) return gracefulShutdown(server, { ...timeout, signals: '', forceExit: false })
      gracefulShutdown(server, timeout)
      return undefined
    },
  },
  'lameduck': {
    package: 'lameduck',
    attach: lameduck,
  },
  'lameduck, lameduckMs: 0': {
    package: 'lameduck',
    onlyDrains: true,
    attach: (server) => lameduck(server, { lameduckMs: 0 }),
  },
} satisfies Record<string, Peer>

export type PeerName = keyof typeof peers
export const peerNames = Object.keys(peers) as PeerName[]

/** The control row: a server with nothing attached. */
export const bare: PeerName = 'server.close()'

export function isPeer(name: string): name is PeerName {
  return Object.hasOwn(peers, name)
}

export function peer(name: PeerName): Peer {
  return peers[name]
}

/** What shall be measured is what users run: the build, when the bench has made one (see _build.ts). */
async function lameduck(server: Server, { lameduckMs }: Settings): Promise<undefined> {
  const core = process.env['BENCH_CORE'] ?? '../src/core/index.ts'
  const { wrap } = await import(core) as typeof import('../src/core/index.ts')
  wrap(server, lameduckMs === undefined ? {} : { lameduckMs })
  return undefined
}

async function terminus(server: Server, { graceMs, ownsProcess = true }: Settings): Promise<Drain | undefined> {
  const { createTerminus } = await import('@godaddy/terminus')
  const options = { healthChecks: { '/healthcheck': async () => {} }, ...graceMs !== undefined && { timeout: graceMs } }
  if (ownsProcess) {
    // useExit0, because a process that dies by its own signal cannot tell the bench a last word.
    createTerminus(server, { ...options, useExit0: true })
    return undefined
  }
  // It knows no other start than a signal, and no other end than that of the process: its listener is taken from the process
  // and called, and the hook that it calls just before the exit never returns.
  const before = new Set(process.listeners('SIGTERM'))
  let done = () => {}
  let failed = (_error: Error) => {}
  createTerminus(server, {
    ...options,
    onShutdown: () => new Promise(() => { done() }),
    // It logs an error just before it exits with 1.
    logger(message, error) {
      failed(new Error(message, { cause: error }))
      throw error
    },
  })
  const [own] = process.listeners('SIGTERM').filter((listener) => !before.has(listener))
  if (!own) throw new Error('terminus listens to no SIGTERM')
  process.off('SIGTERM', own)
  return () => new Promise<void>((resolve, reject) => {
    done = resolve
    failed = reject
    const cleanup = own as (signal: string) => Promise<void>
    cleanup('SIGTERM').catch(reject)
  })
}

/** The well-known article: a middleware in front that answers 503 with `Connection: close`, and server.close(). */
function flagAndClose(server: Server): Drain {
  const app = server.listeners('request') as ((req: IncomingMessage, res: ServerResponse) => void)[]
  let stopping = false
  server.removeAllListeners('request')
  server.on('request', (req, res) => {
    if (stopping) {
      res.writeHead(503, { Connection: 'close', 'Content-Length': 0 }).end()
      return
    }
    for (const listener of app) listener.call(server, req, res)
  })
  return () => {
    stopping = true
    return close(server)
  }
}
