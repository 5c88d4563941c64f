import { createRequire } from 'node:module'
import Koa3 from 'koa'
import { lameduck } from '../src/adapters/koa.ts'
import { conformance } from './_conformance.ts'
import { createServer, exchange, listen, QUICK, siteOf, type Site, type World } from './_world.ts'

// The same package under another name, so without types of its own.
const Koa2 = createRequire(import.meta.url)('koa2') as typeof Koa3

/** A Koa application, made as its users make one. */
function koaWorld(name: string, Koa: typeof Koa3, tls: boolean): World {
  return {
    name,
    tls,
    lacks: [],
    async start(handler, setup = {}) {
      const executed: string[] = []
      const app = new Koa()
      app.silent = true
      const own = tls || setup.server ? { server: createServer(tls, setup.server, (req, res) => void app.callback()(req, res)) } : {}
      const { server, duck } = lameduck(app, { ...QUICK, ...setup.options, ...own })
      app.use(async ctx => {
        const { signal } = ctx.lameduck as typeof duck
        const made = handler(exchange(executed, ctx.req, ctx.res, signal))
        const reply = made instanceof Promise ? await made : made
        if (reply === 'raw') {
          ctx.respond = false
          return
        }
        const { status = 200, headers = {}, body } = reply
        ctx.status = status
        ctx.set(headers)
        if (body !== undefined) ctx.body = body
      })
      let site: Site | undefined
      setup.prepare?.(server, () => site as Site)
      await listen(server, setup.unix)
      site = siteOf(server, duck, executed)
      return site
    },
  }
}

conformance(koaWorld('koa 2', Koa2, false))
conformance(koaWorld('koa 3', Koa3, false))
// TLS below a framework is what it is below Node: not worth its time in every run.
if (process.env.LAMEDUCK_ALL_WORLDS) conformance(koaWorld('koa 3, https', Koa3, true))
