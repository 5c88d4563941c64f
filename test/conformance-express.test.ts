import { createRequire } from 'node:module'
import express5 from 'express'
import { lameduck } from '../src/adapters/express.ts'
import { conformance } from './_conformance.ts'
import { createServer, exchange, listen, QUICK, siteOf, type Reply, type Site, type World } from './_world.ts'

// The same package under another name, so without types of its own.
const express4 = createRequire(import.meta.url)('express4') as typeof express5

function send(res: express5.Response, reply: Reply | 'raw'): void {
  if (reply === 'raw') return
  const { status = 200, headers = {}, body } = reply
  res.status(status).set(headers)
  if (body === undefined || typeof body === 'string' || Buffer.isBuffer(body)) res.send(body)
  else body.pipe(res)
}

/** An Express application, made as its users make one. */
function expressWorld(name: string, express: typeof express5, tls: boolean): World {
  return {
    name,
    tls,
    // It has set `X-Powered-By`: Node takes no list of pairs after that.
    lacks: ['pairs'],
    async start(handler, setup = {}) {
      const executed: string[] = []
      const app = express()
      app.set('env', 'test')
      const own = tls || setup.server ? { server: createServer(tls, setup.server, app) } : {}
      const { server, duck } = lameduck(app, { ...QUICK, ...setup.options, ...own })
      app.use(async (req, res, next) => {
        try {
          const reply = handler(exchange(executed, req, res, req.lameduck.signal))
          send(res, reply instanceof Promise ? await reply : reply)
        } catch (error) {
          next(error)
        }
      })
      let site: Site | undefined
      setup.prepare?.(server, () => site as Site)
      await listen(server, setup.unix)
      site = siteOf(server, duck, executed)
      return site
    },
  }
}

conformance(expressWorld('express 4', express4, false))
conformance(expressWorld('express 5', express5, false))
// TLS below a framework is what it is below Node: not worth its time in every run.
if (process.env.LAMEDUCK_ALL_WORLDS) conformance(expressWorld('express 5, https', express5, true))
