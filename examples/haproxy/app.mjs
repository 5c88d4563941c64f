import http from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from 'lameduck'

const server = http.createServer(async (req, res) => {
  // For `disable-on-404`: HAProxy's third answer beside up and down, "as you were, but nothing new". /readyz says 503, which is down.
  if (req.url === '/in-rotation') {
    res.writeHead(duck.state === 'running' ? 200 : 404).end()
    return
  }
  await sleep(5) // some work
  res.end(`${req.method} ${req.url} from ${process.pid}\n`)
})

// HAProxy learns of the lame duck by its checks: within 2 × 250 ms. 2 000 ms (the default) leave it three times as long.
const duck = wrap(server, { lameduckMs: 2_000, logger: console })

server.keepAliveTimeout = 65_000 // HAProxy is to be the one who closes: its pool-purge-delay is 1 s
server.listen(process.env.PORT ?? 3001, '127.0.0.1')
