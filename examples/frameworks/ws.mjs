import http from 'node:http'
import { wrap } from 'lameduck'
import { drainWebSockets } from 'lameduck/ws'
import { WebSocketServer } from 'ws'
import { database } from './database.mjs'

const server = http.createServer(async (req, res) => {
  if (req.method === 'POST') res.writeHead(201).end(`order ${await database.insert(req.url)}\n`)
  else res.end('hello\n')
})
const sockets = new WebSocketServer({ server, path: '/orders' })
sockets.on('connection', client => {
  client.on('message', async order => client.send(`order ${await database.insert(order)}`))
})

const duck = wrap(server, { logger: console, health: { checks: { database: () => database.ping() } } })
// Each client gets a close frame (1001, "going away") and comes back to the next instance.
drainWebSockets(sockets, duck)
duck.onDrain('database', () => database.close())
server.listen(process.env.PORT ?? 3000)
