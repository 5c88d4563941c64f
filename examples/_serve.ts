/**
 * The child process of `npm start`: the service on a port of its own, and one of three ways to stop it.
 *
 *   node serve.js <variant> <fd>    fd: where the path of each request goes that reaches the application
 */
import { writeSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import express, { type Express } from 'express'
import { isPeer, peer } from '../bench/_peers.ts'
import { lameduck } from '../src/adapters/express.ts'
import { shop } from './_service.ts'

/** What it tells its parent. */
export type Message = { port: number } | { state: string }

// No orphan: whoever started it is gone, by whatever end, or was gone before this line.
process.on('disconnect', () => process.exit(1))
if (!process.connected) process.exit(1)

const [variant = '', journal] = process.argv.slice(2)
const tell = (message: Message) => process.send?.(message)

const app = express()
// Synchronously: what was executed must be known after a SIGKILL, too.
app.use((req, _res, next) => {
  writeSync(Number(journal), `${req.path}\n`)
  next()
})
const listening = variant === 'lameduck' ? withLameduck(app) : await withPeer(app, variant)
app.use(shop())

// What a server behind a proxy or load balancer is told to have: no connection ends by Node's 5 s.
listening.keepAliveTimeout = 65_000
listening.listen(0, '127.0.0.1', () => tell({ port: (listening.address() as AddressInfo).port }))

/** This is all that a service needs: signals, phases and exit code are lameduck's work. */
function withLameduck(app: Express) {
  const { server, duck } = lameduck(app, { logger: console })
  tell({ state: duck.state })
  duck.on('state', (state) => tell({ state: state === 'lameduck' ? 'lame duck' : state }))
  return server
}

/** As the documentation of the library (or of Node) says. */
async function withPeer(app: Express, name: string) {
  if (!isPeer(name)) throw new Error(`no such variant: ${name}`)
  const server = createServer(app)
  const drain = await peer(name).attach(server, {})
  if (drain) process.once('SIGTERM', () => void drain().then(() => process.exit(0)))
  return server
}
