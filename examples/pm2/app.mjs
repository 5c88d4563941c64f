import http from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from 'lameduck'

const server = http.createServer(async (req, res) => {
  await sleep(5) // some work
  res.end(`${req.method} ${req.url} from ${process.pid}\n`)
})

wrap(server, { deadlineMs: 25_000, logger: console })

// `wait_ready`: pm2 retires the old process only after this.
server.listen(process.env.PORT ?? 3000, () => process.send?.('ready'))
