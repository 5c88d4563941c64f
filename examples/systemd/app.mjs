import { execFile } from 'node:child_process'
import http from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from 'lameduck'

const server = http.createServer(async (req, res) => {
  await sleep(5) // some work
  res.end(`${req.method} ${req.url} from ${process.pid}\n`)
})

wrap(server, { deadlineMs: 25_000, logger: console })

// app.socket: systemd holds the listening socket and hands it over as descriptor 3. While this process is replaced, connections
// wait in the kernel for the next one. Without it: a port of its own.
const inherited = Number(process.env.LISTEN_PID) === process.pid && process.env.LISTEN_FDS === '1'
server.listen(inherited ? { fd: 3 } : { port: process.env.PORT ?? 3000 }, ready)

// Type=notify wants a datagram on a unix socket. Node has no such sockets, systemd's own helper has.
function ready() {
  if (process.env.NOTIFY_SOCKET) execFile('systemd-notify', ['--ready'], error => error && console.error(error))
}
