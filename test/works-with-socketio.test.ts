import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import net, { type AddressInfo, type Socket as NetSocket } from 'node:net'
import { after, test } from 'node:test'
import { runInThisContext } from 'node:vm'
import { Server, type ServerOptions, type Socket } from 'socket.io'
import { io } from 'socket.io-client'
import { wrap, type Duck } from '../src/core/index.ts'
import { endLeftovers, leftover } from './_leftovers.ts'
import { turns } from './_scenario.ts'
import { readPage } from './_snippets.ts'
import { addressOf, listen, QUICK } from './_world.ts'

after(endLeftovers)

const OPTIONS = { ...QUICK, lameduckMs: 300, deadlineMs: 20_000, lingerMs: 10_000, upgradedMs: 10_000 }

interface Instance {
  name: string
  port: number
  duck: Duck
  sio: Server
  sockets: Socket[]
}

/** One instance of a service: socket.io on a wrapped server, and nothing else. */
async function instance(name: string, options: Partial<ServerOptions> = {}): Promise<Instance> {
  const server = http.createServer()
  const sio = new Server(server, { pingInterval: 25_000, ...options })
  const duck = wrap(server, OPTIONS)
  const sockets: Socket[] = []
  sio.on('connection', socket => {
    sockets.push(socket)
    socket.emit('from', name)
    socket.on('double', (x: number, answer: (y: number) => void) => answer(2 * x))
  })
  await listen(server)
  return { name, port: addressOf(server).port!, duck, sio, sockets }
}

/** What stands before the instances, as clients see it: one address; new connections go to the one that is in rotation. */
async function balancer(first: Instance): Promise<{ url: string, to(next: Instance): void, close(): void }> {
  let { port } = first
  const open = new Set<NetSocket>()
  const server = net.createServer(client => {
    const upstream = net.connect(port, '127.0.0.1')
    for (const [one, other] of [[client, upstream], [upstream, client]] as const) {
      open.add(one)
      one.on('error', () => other.destroy())
      one.on('close', () => open.delete(one))
      one.pipe(other)
    }
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const close = () => {
    server.close()
    for (const socket of open) socket.destroy()
  }
  leftover(close)
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    to(next) {
      port = next.port
    },
    close,
  }
}

/** What a socket.io application needs for clients that poll, as the README has it. */
const recipe = readPage('README.md').snippets.find(({ mark }) => mark === 'recipe')?.code ?? 'no recipe'

function endPolls({ sio, duck }: Instance): void {
  (runInThisContext(`(duck, io) => {${recipe}}`) as (duck: Duck, io: Server) => void)(duck, sio)
}

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  test(`socket.io, ${transports.join(' then ')}: every message that was sent arrives, and the client goes on with the next instance`, async () => {
    const [a, b] = [await instance('a'), await instance('b')]
    endPolls(a)
    endPolls(b)
    const front = await balancer(a)
    const client = io(front.url, { transports, reconnectionDelay: 20, reconnectionDelayMax: 100, forceNew: true })
    leftover(() => client.close())
    const [messages, instances, ends]: [number[], string[], string[]] = [[], [], []]
    client.on('message', (n: number) => messages.push(n))
    client.on('disconnect', reason => ends.push(reason))
    const came = (name: string) => new Promise<void>(resolve => client.on('from', (from: string) => {
      instances.push(from)
      if (from === name) resolve()
    }))
    await came('a')
    const { engine } = client.io
    // That may have been before the first message came.
    if (engine.transport.name !== transports.at(-1)) await new Promise(resolve => engine.once('upgrade', resolve))
    const [onServer] = a.sockets
    for (let n = 0; n < 50; n++) onServer!.emit('message', n)
    const answer = client.timeout(15_000).emitWithAck('double', 21) as Promise<number>
    const moved = came('b')
    // Not before: who polls needs to come back to the same instance.
    a.duck.on('state', state => state === 'draining' && front.to(b))
    const report = await a.duck.drain()
    await moved
    assert.equal(await answer, 42)
    assert.deepEqual(messages, Array.from({ length: 50 }, (_, n) => n))
    assert.deepEqual(ends, ['transport close'])
    assert.equal(report.outcome, 'clean')
    assert.deepEqual(report.destroyed, [])
    assert.equal(await client.timeout(15_000).emitWithAck('double', 4), 8)
    // Not before b knows: engine.io gives a poll that will not come 30 s.
    const left = new Promise(resolve => b.sockets[0]!.once('disconnect', resolve))
    client.close()
    await left
    await b.duck.drain({ lameduckMs: 0 })
    front.close()
  })
}

test('socket.io with perMessageDeflate: what waits behind a message that is being compressed arrives, too', async () => {
  const { duck, sockets, port } = await instance('a', { perMessageDeflate: { threshold: 0 } })
  const client = io(`http://127.0.0.1:${port}`, { transports: ['websocket'], reconnection: false, forceNew: true })
  leftover(() => client.close())
  const messages: string[] = []
  client.on('message', (text: string) => messages.push(text))
  await new Promise(resolve => client.once('from', resolve))
  const ended = new Promise(resolve => client.once('disconnect', resolve))
  const text = randomBytes(150_000).toString('hex')
  // socket.io gives `ws` the first, and the others when that is out.
  for (let n = 0; n < 10; n++) {
    sockets[0]!.emit('message', `${n} ${text}`)
    await turns(1)
  }
  const report = await duck.drain({ lameduckMs: 0 })
  await ended
  assert.deepEqual(messages.map(message => message.split(' ')[0]), Array.from({ length: 10 }, (_, n) => String(n)))
  assert.equal(report.outcome, 'clean')
})
