import Koa from 'koa'
import { lameduck } from 'lameduck/koa'
import { database } from './database.mjs'

const app = new Koa()
const { server, duck } = lameduck(app, {
  logger: console,
  health: { checks: { database: () => database.ping() } },
})
duck.onDrain('database', () => database.close())

app.use(async ctx => {
  if (ctx.method === 'POST' && ctx.path === '/orders') {
    ctx.body = `order ${await database.insert(ctx.path)}\n`
    ctx.status = 201
  } else {
    ctx.body = 'hello\n'
  }
})
server.listen(process.env.PORT ?? 3000)
