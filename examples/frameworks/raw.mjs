import http from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from 'lameduck'
import { database } from './database.mjs'

const server = http.createServer(async (req, res) => {
  const { pathname } = new URL(req.url, 'http://localhost')
  if (req.method === 'POST' && pathname === '/orders') {
    const number = await database.insert(pathname)
    res.writeHead(201).end(`order ${number}\n`)
  } else if (pathname === '/news') {
    // A long poll: its signal is aborted as the drain begins, or when the client goes away.
    const news = await sleep(30_000, 'nothing new', { signal: duck.signalFor(res) }).catch(() => 'ask again')
    res.end(`${news}\n`)
  } else {
    res.end('hello\n')
  }
})

const duck = wrap(server, {
  logger: console,
  health: { checks: { database: () => database.ping() } }, // /readyz answers before the application does
})
// After the last answer, within the same deadline.
duck.onDrain('database', () => database.close())
server.listen(process.env.PORT ?? 3000)
