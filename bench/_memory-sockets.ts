/**
 * The child of the cost bench: two servers in one process, one bare, one with a peer, under requests that come over
 * sockets in memory. No kernel, no second process, and slices of a millisecond or two, which mostly fit between two
 * interruptions.
 */
import { createServer, type Server } from 'node:http'
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { parseArgs } from 'node:util'
import { isPeer, peer } from './_peers.ts'
import { quantile } from './_stats.ts'

/** Microseconds per request, of the slices that were disturbed least (the lower quartile). */
export interface Cost {
  bare: number
  again: number
  peer: number
}

const perSlice = 100
const request = Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n')

const { values } = parseArgs({ options: { peer: { type: 'string' }, slices: { type: 'string' } } })
const { peer: name = '', slices = '' } = values
if (!isPeer(name)) throw new Error(`no such peer: ${name}`)

class MemorySocket extends Duplex {
  remoteAddress = '127.0.0.1'
  remotePort = 1
  bytesRead = 0
  answered = () => {}

  ask(): void {
    this.bytesRead += request.length
    this.push(request)
  }

  setTimeout(): this {
    return this
  }

  override _read(): void {}

  override _write(_chunk: Buffer, _encoding: string, callback: () => void): void {
    callback()
    this.answered()
  }

  override _writev(_chunks: unknown, callback: () => void): void {
    callback()
    this.answered()
  }
}

function connect(server: Server): MemorySocket {
  const socket = new MemorySocket()
  server.emit('connection', socket as unknown as Socket)
  return socket
}

/** @returns Microseconds per request of one slice: ten connections, each asks again in the next turn after its answer. */
function slice(sockets: MemorySocket[]): Promise<number> {
  const startedAt = performance.now()
  let left = perSlice - sockets.length
  let busy = sockets.length
  return new Promise((resolve) => {
    const done = () => resolve((performance.now() - startedAt) * 1000 / perSlice)
    for (const socket of sockets) {
      const again = () => socket.ask()
      socket.answered = () => {
        if (left-- > 0) setImmediate(again)
        else if (--busy === 0) done()
      }
      socket.ask()
    }
  })
}

const hello = () => createServer({ keepAliveTimeout: 0 }, (_, res) => { res.end('hello world') })
const attached = hello()
await peer(name).attach(attached, {})

const kinds = { bare: hello(), peer: attached, again: hello() }
const lanes = Object.entries(kinds).map(([kind, server]) => ({
  kind, sockets: Array.from({ length: 10 }, () => connect(server)), micros: [] as number[],
}))
for (let i = 0; i < Number(slices); i++) {
  for (const lane of i % 2 === 0 ? lanes : lanes.toReversed()) lane.micros.push(await slice(lane.sockets))
}
const warm = (micros: number[]) => micros.slice(micros.length / 4)
process.send?.(Object.fromEntries(lanes.map(({ kind, micros }) => [kind, quantile(warm(micros), 0.25)])))
setImmediate(() => process.exit(0))
