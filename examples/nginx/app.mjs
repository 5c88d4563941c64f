import http from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from 'lameduck'
import { WebSocketServer } from 'ws'

const server = http.createServer(async (req, res) => {
  if (req.url === '/events') {
    res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' })
    res.write(`data: hello from ${process.pid}\n\n`)
    return // stays open; lameduck ends it, and the EventSource comes back, to the other instance
  }
  await sleep(5) // some work
  res.end(`${req.method} ${req.url} from ${process.pid}\n`)
})

new WebSocketServer({ server, path: '/ws' }).on('connection', client => client.send(`hello from ${process.pid}`))

// nginx asks nobody whether he is ready: only a refused connection sends it elsewhere. So the listener goes first (no lame duck
// that accepts on), and what is connected may stay until it has been silent for longer than nginx keeps a connection (1 s).
wrap(server, { lameduckMs: 0, quietMs: 2_000, logger: console })

server.keepAliveTimeout = 65_000 // nginx is to be the one who closes: its keepalive_timeout for upstreams is 1 s
server.listen(process.env.PORT ?? 3001, '127.0.0.1')
