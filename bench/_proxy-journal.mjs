// Loaded before an app (`node --import`): notes each request that reaches the application, in the file $JOURNAL. Behind
// lameduck, that is: what lameduck answers or refuses itself never comes to this listener. And, in the file $LIVES, since when
// this process serves (`+ pid time`), and until when: its listener is closed, or it says itself that it is leaving.
import diagnostics from 'node:diagnostics_channel'
import { openSync, writeSync } from 'node:fs'
import http from 'node:http'
import { syncBuiltinESMExports } from 'node:module'

const { createServer } = http
http.createServer = (...args) => {
  const app = args.pop()
  // Not before: pm2 fills the environment just before it loads the app.
  const { JOURNAL, LIVES } = process.env
  const fd = openSync(JOURNAL, 'a')
  const server = createServer(...args, (req, res) => {
    writeSync(fd, `${req.method} ${req.url}\n`)
    app(req, res)
  })
  if (LIVES) noteLife(server, openSync(LIVES, 'a'))
  return server
}
syncBuiltinESMExports()

function noteLife(server, fd) {
  const note = what => writeSync(fd, `${what} ${process.pid} ${performance.timeOrigin + performance.now()}\n`)
  const { close } = server
  server.close = function (...args) {
    note('-')
    return close.apply(this, args)
  }
  server.once('listening', () => note('+'))
  diagnostics.subscribe('lameduck:state', ({ duck }) => {
    if (duck.state !== 'running') note('-')
  })
}
