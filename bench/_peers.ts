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
    async attach(server) {
      const { default: stoppable } = await import('stoppable')
      const stopped = stoppable(server)
      return () => new Promise((resolve) => stopped.stop(resolve))
    },
  },
  'terminus': {
    package: '@godaddy/terminus',
    async attach(server) {
      const { createTerminus } = await import('@godaddy/terminus')
      // useExit0, because a process that dies by its own signal cannot tell the bench a last word.
      createTerminus(server, { healthChecks: { '/healthcheck': async () => {} }, useExit0: true })
      return undefined
    },
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
    async attach(server) {
      const { createHttpTerminator } = await import('http-terminator')
      const { terminate } = createHttpTerminator({ server })
      return terminate
    },
  },
  'http-graceful-shutdown': {
    package: 'http-graceful-shutdown',
    async attach(server) {
      const { default: gracefulShutdown } = await import('http-graceful-shutdown')
      gracefulShutdown(server)
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
