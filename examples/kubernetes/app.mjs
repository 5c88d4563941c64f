import http from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from 'lameduck'

const server = http.createServer(async (req, res) => {
  await sleep(req.url === '/slow' ? 60_000 : 5) // some work
  res.end(`${req.method} ${req.url} from ${process.env.HOSTNAME ?? process.pid}\n`)
})

// /livez and /readyz are answered by lameduck, on this very port. deployment.yaml computes its grace period from DEADLINE_MS.
wrap(server, { deadlineMs: Number(process.env.DEADLINE_MS ?? 25_000), logger: console })

server.listen(process.env.PORT ?? 3000)
