// Connections that a server does not accept itself: they are handed to it by `emit('connection', …)`.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import https from 'node:https'
import net, { type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { test } from 'node:test'
import tls from 'node:tls'
import { wrap, type Duck } from '../src/core/index.ts'
import { turns } from './_scenario.ts'
import { until } from './_until.ts'
import { addressOf, CERTIFICATE, listen } from './_world.ts'

const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'

/** Two ends of a stream that is no socket. */
function pair(): [Duplex, Duplex] {
  const make = (other: () => Duplex) => new Duplex({
    read() {},
    write(chunk, _, done) {
      other().push(chunk)
      done()
    },
    final(done) {
      other().push(null)
      done()
    },
  })
  const one: Duplex = make(() => two)
  const two: Duplex = make(() => one)
  return [one, two]
}

for (const when of ['in rotation', 'after resume()', 'in a drain']) test(`a request with Connection: close on a stream that is no socket, ${when}: it is answered, and the stream ends`, async () => {
  const server = http.createServer((_, res) => setImmediate(() => res.end('hello')))
  const duck = wrap(server, { signals: false, lameduckMs: 0 })
  await listen(server)
  if (when === 'after resume()') {
    duck.lameduck()
    duck.resume()
  }
  const [ours, theirs] = pair()
  server.emit('connection', theirs)
  ours.write(GET.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'))
  await turns(1)
  const drained = when === 'in a drain' ? duck.drain() : undefined
  let text = ''
  for await (const chunk of ours) text += String(chunk)
  assert.match(text, /^HTTP\/1\.1 200 [^]*hello/)
  ours.end()
  await (drained ?? duck.drain())
})

/** How the second server comes to its lifecycle; the tunnel's server itself may be it. */
const seconds: Record<string, (first: http.Server, duck: Duck) => http.Server> = {
  'the same server': first => first,
  'another one of the same lifecycle': (_, duck) => {
    const second = http.createServer((_req, res) => res.end('second'))
    duck.add(second)
    return second
  },
  'another one with a lifecycle of its own': () => {
    const second = http.createServer((_req, res) => res.end('second'))
    wrap(second, { signals: false, lameduckMs: 0 })
    return second
  },
}

for (const [to, secondOf] of Object.entries(seconds)) test(`a tunnel that is handed to ${to}: nothing of it is left when its client has gone, and a drain does not wait for it`, async () => {
  const first = http.createServer((_, res) => res.end('first'))
  const duck = wrap(first, { signals: false, lameduckMs: 0, deadlineMs: 20_000 })
  const second = secondOf(first, duck)
  first.on('connect', (_, socket: Socket) => {
    socket.write('HTTP/1.1 200 OK\r\n\r\n')
    second.emit('connection', socket)
  })
  await listen(first)
  const tunnel = async () => {
    const client = net.connect(addressOf(first) as net.NetConnectOpts)
    client.write('CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\n')
    assert.equal(String((await once(client, 'data') as [Buffer])[0]), 'HTTP/1.1 200 OK\r\n\r\n')
    client.write(GET)
    assert.match(String((await once(client, 'data') as [Buffer])[0]), /first|second/)
    return client
  }
  const gone = await tunnel()
  gone.destroy()
  while (await new Promise(resolve => first.getConnections((_, count) => resolve(count))) as number > 0) await turns(1)
  await turns()
  assert.equal(duck.stats().connections.total, 0)
  const open = await tunnel()
  const ducks = new Set([duck, wrap(second)])
  const ended = once(open, 'end')
  const reports = await Promise.all([...ducks].map(one => one.drain()))
  for (const { outcome, durationMs, destroyed } of reports) assert.deepEqual([outcome, destroyed, durationMs < 4_000], ['clean', [], true])
  await ended
})

test('a TLS connection that is handed to another server once it is secure: nothing of it is left when its client has gone, and a drain answers what is in flight', async () => {
  const first = https.createServer(CERTIFICATE, (_, res) => res.end('first'))
  const second = https.createServer(CERTIFICATE, (_, res) => setTimeout(() => res.end('second'), 100))
  const [answers] = first.listeners('secureConnection')
  first.off('secureConnection', answers as () => void)
  const duck = wrap(first, { signals: false, lameduckMs: 0, deadlineMs: 20_000 })
  duck.add(second)
  first.on('secureConnection', (socket: Socket) => second.emit('secureConnection', socket))
  await listen(first)
  const open = async () => {
    const client = tls.connect({ ...addressOf(first) as net.NetConnectOpts, rejectUnauthorized: false })
    client.on('error', () => {})
    client.write(GET)
    assert.match(String((await once(client, 'data') as [Buffer])[0]), /second/)
    return client
  }
  ;(await open()).destroy()
  await until(() => duck.stats().connections.total === 0, 'no connection is known')
  const client = await open()
  assert.equal(duck.stats().connections.total, 1)
  client.write(GET)
  await until(() => duck.stats().inFlight.length === 1, 'the second request is in flight')
  const [answer, { outcome, destroyed }] = await Promise.all([once(client, 'data') as Promise<[Buffer]>, duck.drain()])
  assert.match(String(answer[0]), /second/)
  assert.deepEqual([outcome, destroyed], ['clean', []])
  client.destroy()
})

test('connections that are announced once more, as behind a PROXY header: each is there once', async () => {
  const server = http.createServer((_, res) => res.end('hello'))
  const duck = wrap(server, { signals: false, lameduckMs: 0 })
  const [parse] = server.listeners('connection') as ((socket: Socket) => void)[]
  server.off('connection', parse!)
  // As the packages for that do: they take the header first, and Node's own listener sees what is behind.
  server.on('connection', function proxied(this: http.Server, socket: Socket & { header?: true }) {
    if (socket.header) return parse!.call(this, socket)
    socket.once('readable', () => {
      socket.read('PROXY\r\n'.length)
      socket.header = true
      server.emit('connection', socket)
    })
  })
  await listen(server)
  const client = net.connect(addressOf(server) as net.NetConnectOpts)
  client.write(`PROXY\r\n${GET}`)
  const [answer] = await once(client, 'data') as [Buffer]
  assert.match(String(answer), /hello/)
  assert.deepEqual([duck.stats().connections.total, duck.stats().counters.served], [1, 1])
  const { outcome, closed } = await duck.drain()
  assert.deepEqual([outcome, closed], ['clean', 1])
  client.destroy()
})
