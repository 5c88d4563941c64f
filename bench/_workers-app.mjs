// The app of the benches of whole clusters. STOP says how it is stopped: not at all by itself, by what the documentation of pm2 recommends
// ("Graceful Stop", "Graceful start"), or by lameduck.
import http from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

const { PORT, STOP, LAMEDUCK, HANDLER_MS = '5' } = process.env
const ms = Number(HANDLER_MS)

const server = http.createServer(async (req, res) => {
  if (ms > 0) await sleep(ms)
  res.end(`${req.method} ${req.url} from ${process.pid}\n`)
})

if (STOP === 'recipe') {
  process.on('SIGINT', () => {
    server.close(error => process.exit(error ? 1 : 0))
  })
}
if (STOP === 'lameduck') {
  const { wrap } = await import(LAMEDUCK)
  wrap(server)
}

server.listen(Number(PORT), '127.0.0.1', () => process.send?.('ready'))
