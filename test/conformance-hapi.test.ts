import Hapi from '@hapi/hapi'
import { plugin } from '../src/adapters/hapi.ts'
import type { Duck } from '../src/core/index.ts'
import { conformance } from './_conformance.ts'
import { createServer, exchange, QUICK, siteOf, whereToListen, type Site, type World } from './_world.ts'

/** A hapi server, made as its users make one. */
function hapiWorld(name: string, tls: boolean): World {
  return {
    name,
    tls,
    lacks: [],
    async start(handler, setup = {}) {
      const executed: string[] = []
      const where = whereToListen(setup.unix)
      const at = 'path' in where ? { port: where.path } : where
      const server = Hapi.server({ ...at, tls, listener: createServer(tls, setup.server), debug: false })
      await server.register({ plugin, options: { ...QUICK, ...setup.options } })
      const { duck } = (server.plugins as unknown as { lameduck: { duck: Duck } }).lameduck
      server.route({
        method: '*',
        path: '/{any*}',
        options: { payload: { parse: false, output: 'stream', maxBytes: 2 ** 30 } },
        async handler(request, h) {
          const { signal } = (request as unknown as { lameduck: Duck }).lameduck
          const reply = await handler(exchange(executed, request.raw.req, request.raw.res, signal))
          if (reply === 'raw') return h.abandon
          const { status = 200, headers = {}, body } = reply
          const response = h.response(body).code(status)
          for (const [header, value] of Object.entries(headers)) response.header(header, value)
          return response
        },
      })
      let site: Site | undefined
      setup.prepare?.(server.listener, () => site as Site)
      await server.start()
      site = siteOf(server.listener, duck, executed, () => server.stop({ timeout: 0 }))
      return site
    },
  }
}

conformance(hapiWorld('hapi', false))
// TLS below a framework is what it is below Node: not worth its time in every run.
if (process.env.LAMEDUCK_ALL_WORLDS) conformance(hapiWorld('hapi, https', true))
