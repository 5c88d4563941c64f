import type http from 'node:http'
import { Readable } from 'node:stream'
import { StreamableFile } from '@nestjs/common'
import { conformance } from './_conformance.ts'
import { nest, type Platform, type Route } from './_nest.ts'
import { CERTIFICATE, exchange, QUICK, siteOf, whereToListen, type Site, type World } from './_world.ts'

function nestWorld(name: string, platform: Platform, tls: boolean): World {
  return {
    name,
    tls,
    lacks: platform === 'express' ? ['pairs'] : [],
    async start(handler, setup = {}) {
      const executed: string[] = []
      const all: Route = async (req, res) => {
        const reply = await handler(exchange(executed, req.raw ?? req, (res.raw ?? res) as http.ServerResponse, duck.signal))
        if (reply === 'raw') return
        const { status = 200, headers = {}, body } = reply
        for (const [header, value] of Object.entries(headers)) res.header(header, value)
        // What Nest itself calls with what a handler returns. With such a handler it would answer `raw`, too.
        app.getHttpAdapter().reply(res, Buffer.isBuffer(body) || body instanceof Readable ? new StreamableFile(body as Buffer) : body, status)
      }
      const { app, duck } = await nest(platform, {
        options: { ...QUICK, ...setup.options },
        // Each platform has its own way to write it.
        routes: { [platform === 'express' ? '{*any}' : '*']: all },
        answerThemselves: true,
        fastify: (tls ? { https: { ...CERTIFICATE, ...setup.server } } : { http: setup.server ?? {} }) as object,
        app: tls ? { httpsOptions: CERTIFICATE } : {},
      })
      const server = app.getHttpServer() as http.Server
      // Of these, Nest and fastify set some after the server was made.
      Object.assign(server, setup.server)
      let site: Site | undefined
      setup.prepare?.(server, () => site as Site)
      const where = whereToListen(setup.unix)
      if ('path' in where) await app.listen(where.path)
      else await app.listen(where.port, where.host)
      site = siteOf(server, duck, executed, () => app.close())
      return site
    },
  }
}

conformance(nestWorld('NestJS on Express', 'express', false))
conformance(nestWorld('NestJS on fastify', 'fastify', false))
// TLS below a framework is what it is below Node: not worth its time in every run.
if (process.env.LAMEDUCK_ALL_WORLDS) conformance(nestWorld('NestJS on Express, https', 'express', true))
