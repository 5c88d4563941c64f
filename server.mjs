// A custom server of Next.js, as its documentation has it, with two lines of lameduck.
import { writeSync } from 'node:fs'
import { createServer } from 'node:http'
import { wrap } from 'lameduck'
import next from 'next'

const executed = []
const app = next({ dev: false, dir: import.meta.dirname })
const handle = app.getRequestHandler()
await app.prepare()

const server = createServer((req, res) => {
  executed.push(String(req.headers['x-id']))
  void handle(req, res)
})
const duck = wrap(server, { lameduckMs: 300 })
duck.onDrain('Next.js', () => app.close())
server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`))

process.on('exit', () => writeSync(1, `executed ${JSON.stringify(executed)}\n`))
