// Loaded before an app (`node --import`): notes each request that reaches the application, in the file $JOURNAL. Behind
// lameduck, that is: what lameduck answers or refuses itself never comes to this listener.
import { openSync, writeSync } from 'node:fs'
import http from 'node:http'
import { syncBuiltinESMExports } from 'node:module'

const { createServer } = http
http.createServer = (...args) => {
  const app = args.pop()
  // Not before: pm2 fills the environment just before it loads the app.
  const fd = openSync(process.env.JOURNAL, 'a')
  return createServer(...args, (req, res) => {
    writeSync(fd, `${req.method} ${req.url}\n`)
    app(req, res)
  })
}
syncBuiltinESMExports()
