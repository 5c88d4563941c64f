import http from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from 'lameduck'

const server = http.createServer(async (req, res) => {
  await sleep(5) // some work
  res.end(`${req.method} ${req.url} from ${process.pid}\n`)
})

wrap(server, { deadlineMs: 25_000, signals: ['SIGTERM'], logger: console })

// pm2 stops with SIGINT, which for lameduck is somebody's Ctrl-C: no lame duck. Here it is a stop like any other.
process.once('SIGINT', () => process.kill(process.pid, 'SIGTERM'))

// `wait_ready`: pm2 retires the old process only after this.
server.listen(process.env.PORT ?? 3000, () => process.send?.('ready'))
