import type http from 'node:http'
import fastify from 'fastify'
import { lameduck } from '../src/adapters/fastify.ts'
import type { Duck } from '../src/core/index.ts'
import { conformance } from './_conformance.ts'
import { CERTIFICATE, exchange, QUICK, siteOf, whereToListen, type Site, type World } from './_world.ts'

declare module 'fastify' {
  interface FastifyRequest {
    lameduck: Duck
  }
  interface FastifyInstance {
    lameduck: Duck
  }
}

/** A fastify application, made as its users make one. */
function fastifyWorld(name: string, tls: boolean): World {
  return {
    name,
    tls,
    lacks: [],
    async start(handler, setup = {}) {
      const executed: string[] = []
      const { keepAliveTimeout, requestTimeout, ...server } = setup.server ?? {}
      const app = fastify({
        ...(keepAliveTimeout !== undefined && { keepAliveTimeout }),
        ...(requestTimeout !== undefined && { requestTimeout }),
        ...(tls ? { https: { ...CERTIFICATE, ...server } as unknown as null } : { http: server }),
      })
      await app.register(lameduck, { ...QUICK, ...setup.options })
      // The body is the handler's to read.
      app.removeAllContentTypeParsers()
      app.addContentTypeParser('*', (_request, _payload, done) => done(null))
      app.all('/*', async (request, reply) => {
        const { signal } = request.lameduck
        const answer = await handler(exchange(executed, request.raw, reply.raw, signal))
        if (answer === 'raw') return reply.hijack()
        const { status = 200, headers = {}, body } = answer
        return reply.code(status).headers(headers).send(body)
      })
      let site: Site | undefined
      setup.prepare?.(app.server as http.Server, () => site as Site)
      await app.listen(whereToListen(setup.unix))
      site = siteOf(app.server as http.Server, app.lameduck, executed, () => app.close())
      return site
    },
  }
}

conformance(fastifyWorld('fastify', false))
// TLS below a framework is what it is below Node: not worth its time in every run.
if (process.env.LAMEDUCK_ALL_WORLDS) conformance(fastifyWorld('fastify, https', true))
