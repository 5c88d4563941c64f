import Hapi from '@hapi/hapi'
import { plugin } from 'lameduck/hapi'
import { database } from './database.mjs'

const server = Hapi.server({ port: process.env.PORT ?? 3000 })
await server.register({
  plugin,
  options: { logger: console, health: { checks: { database: () => database.ping() } } },
})
// hapi's own hook: a drain ends with `server.stop()`, whoever began it.
server.ext('onPostStop', () => database.close())

server.route({ method: 'GET', path: '/', handler: () => 'hello\n' })
server.route({
  method: 'POST',
  path: '/orders',
  handler: async (request, h) => h.response(`order ${await database.insert(request.payload)}\n`).code(201),
})
await server.start()
