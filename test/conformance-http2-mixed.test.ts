import http2 from 'node:http2'
import type http from 'node:http'
import { wrap } from '../src/core/index.ts'
import { conformance } from './_conformance.ts'
import { CERTIFICATE, exchange, listen, QUICK, sendRaw, siteOf, type Site, type World } from './_world.ts'

/** An HTTP/2 server that takes HTTP/1, too (`allowHTTP1`): its HTTP/1 clients see what those of an https server see. */
const mixed: World = {
  name: 'http2 secure, allowHTTP1',
  tls: true,
  lacks: ['catch'],
  async start(app, setup = {}) {
    const executed: string[] = []
    const listener = (req: http.IncomingMessage, res: http.ServerResponse) => {
      const reply = app(exchange(executed, req, res, duck.signal))
      if (reply instanceof Promise) reply.then(value => sendRaw(res, value), () => res.destroy())
      else sendRaw(res, reply)
    }
    // For the suite, which needs no more than it has in common with those, it is an http.Server.
    const server = http2.createSecureServer({ ...CERTIFICATE, ...setup.server, allowHTTP1: true } as http2.SecureServerOptions) as unknown as http.Server
    // Node 20 has these as properties only.
    Object.assign(server, setup.server)
    server.on('request', listener)
    let site: Site | undefined
    setup.prepare?.(server, () => site as Site)
    const duck = wrap(server, { ...QUICK, ...setup.options })
    await listen(server, setup.unix)
    site = siteOf(server, duck, executed)
    return site
  },
}

conformance(mixed)
