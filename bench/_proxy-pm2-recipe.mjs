// The same app with what the documentation of pm2 recommends ("Graceful Stop", "Graceful start"): stop on SIGINT, say `ready`.
import http from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

const server = http.createServer(async (req, res) => {
  await sleep(5)
  res.end(`${req.method} ${req.url} from ${process.pid}\n`)
})

process.on('SIGINT', () => {
  server.close(error => process.exit(error ? 1 : 0))
})

server.listen(process.env.PORT ?? 3000, () => process.send?.('ready'))
