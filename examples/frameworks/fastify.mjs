import fastify from 'fastify'
import { lameduck } from 'lameduck/fastify'
import { database } from './database.mjs'

const app = fastify()
await app.register(lameduck, { logger: console, health: { checks: { database: () => database.ping() } } })
// fastify's own hook: a drain ends with `app.close()`, whoever began it.
app.addHook('onClose', () => database.close())

app.get('/', async () => 'hello\n')
app.post('/orders', async (request, reply) => {
  reply.code(201)
  return `order ${await database.insert(request.body)}\n`
})
await app.listen({ port: process.env.PORT ?? 3000 })
