// The service of bench/ops.ts whose memory is looked at: plain Node on the built package, since a TypeScript loader has a memory of its own.
import { randomBytes } from 'node:crypto'
import http from 'node:http'

const built = name => import(new URL(`../dist/${name}.js`, import.meta.url).href)
const { wrap } = await built('index')
const server = http.createServer((_req, res) => res.end('hello world'))
const duck = wrap(server)
await new Promise(resolve => {
  server.listen(0, '127.0.0.1', resolve)
})
if (process.argv[2] === 'ops') {
  const { ops } = await built('ops')
  const { onGC } = await built('gc')
  const token = randomBytes(32).toString('base64url')
  await ops({ duck, listen: { port: 0 }, audit: false, auth: { tokens: [{ name: 'bench', scopes: ['read'], token }] } }).ready
  onGC(() => {})
}
process.on('message', () => process.send(process.memoryUsage.rss()))
process.on('disconnect', () => process.exit(1))
process.send(server.address().port)
