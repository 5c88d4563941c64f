import type http from 'node:http'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { peer, type PeerName } from '../bench/_peers.ts'
import { createHttp2, isHttp2, type Kind } from './_http2.ts'
import { addressOf, createServer, exchange, listen, QUICK, sendRaw, type Setup, type Site, type World } from './_world.ts'

/** How long after its own limit a drain is given up. */
const HUNG_MS = 1_000

/**
 * The limit that another library is given. Each has one for all, so in a scenario about tunnels, which has a shorter limit for
 * them, it is that one: no library is to fail for a limit that it was never told.
 */
function graceOf({ options = {} }: Setup): number {
  return Math.min(options.deadlineMs ?? QUICK.deadlineMs, options.upgradedMs ?? Infinity)
}

/** A drain that does not end is a failure at its limit, not a hanging test. */
function bounded(drained: Promise<unknown>, graceMs: number): Promise<undefined> {
  let timer: NodeJS.Timeout | undefined
  const hung = new Promise<never>((_, reject) => {
    const fail = () => reject(new Error(`the drain did not end within ${graceMs + HUNG_MS} ms, with a limit of ${graceMs} ms`))
    timer = setTimeout(fail, graceMs + HUNG_MS)
  })
  const all = Promise.race([drained, hung]).then(() => undefined).finally(() => clearTimeout(timer))
  // Not every scenario waits for it, and a failed one may never.
  all.catch(() => {})
  return all
}

/** A server of Node, drained by another library. */
export function peerWorld(name: PeerName, over: Kind | 'http' | 'https'): World {
  return {
    name: `${name}, ${over}`,
    tls: over === 'https' || over === 'h2',
    lacks: ['catch', 'duck', 'signal', 'admit', 'health'],
    async start(app, setup = {}) {
      const executed: string[] = []
      const sockets = new Set<Socket>()
      const server = isHttp2(over) ? createHttp2(over, executed) as unknown as http.Server : createServer(over === 'https', setup.server, (req, res) => {
        const reply = app(exchange(executed, req, res, undefined))
        if (reply instanceof Promise) reply.then(value => sendRaw(res, value), () => res.destroy())
        else sendRaw(res, reply)
      })
      server.on('connection', socket => {
        sockets.add(socket)
        socket.once('close', () => sockets.delete(socket))
      })
      let site: Site | undefined
      setup.prepare?.(server, () => site as Site)
      const graceMs = graceOf(setup)
      const drain = await peer(name).attach(server, { graceMs, ownsProcess: false })
      if (!drain) throw new Error(`${name} cannot be drained by a call`)
      await listen(server, setup.unix)
      site = {
        address: addressOf(server),
        server,
        duck: undefined,
        executed,
        drain: () => bounded(drain(), graceMs),
        async close() {
          if (server.listening) server.close()
          for (const socket of sockets) socket.destroy()
          // The clients of a scenario that failed see their end before the next one begins.
          await sleep(50)
        },
      }
      return site
    },
  }
}
