import http from 'node:http'
import https from 'node:https'
import net from 'node:net'
import tls from 'node:tls'

/** Our own listeners, which are none of the application's servers. */
export const doors = new WeakSet<net.Server>()

/** Marks our requests, so that they are not counted. */
export const PROBE = 'lameduck-probe'

const PROBE_MS = 2_000
const GRACE_MS = 200

/** Two ends of a connection that no other process is on: the port is open for a moment only, and to none but us. */
async function pair(): Promise<[net.Socket, net.Socket]> {
  const door = net.createServer({ allowHalfOpen: true, noDelay: true })
  doors.add(door)
  try {
    // Exclusive: otherwise the cluster's primary would listen for us.
    await new Promise<void>((resolve, reject) => {
      door.once('error', reject).listen({ port: 0, host: '127.0.0.1', exclusive: true }, resolve)
    })
    const client = net.connect((door.address() as net.AddressInfo).port, '127.0.0.1')
    client.on('error', () => {})
    const connected = new Promise<void>((resolve, reject) => {
      client.once('connect', resolve).once('error', reject)
    })
    const served = new Promise<net.Socket>(resolve => {
      door.on('connection', socket => {
        if (socket.remotePort === client.localPort) resolve(socket)
        else socket.destroy()
      })
    })
    await connected
    return [client, await served]
  } finally {
    door.close()
  }
}

function overHttp1(client: net.Socket, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = { [PROBE]: '1', Connection: 'close' }
    const request = http.request({ createConnection: () => client, host: 'localhost', path, headers }, response => {
      response.resume()
      resolve(response.statusCode ?? 0)
    })
    request.once('error', reject).end()
  })
}

async function overHttp2(client: net.Socket, path: string): Promise<number> {
  // Not before it is needed: of all that this preload would add to each start of a worker it is nearly everything.
  const http2 = await import('node:http2')
  return new Promise((resolve, reject) => {
    const session = http2.connect('http://localhost', { createConnection: () => client })
    session.once('error', reject)
    const stream = session.request({ ':path': path, [PROBE]: '1' }, { endStream: true })
    stream.once('error', reject)
    stream.once('response', headers => {
      resolve(headers[':status'] ?? 0)
      session.destroy()
    })
  })
}

function secured(client: net.Socket, protocol: string): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    // It is ourselves that we talk to: whose name is in the certificate does not matter.
    const socket = tls.connect({ socket: client, rejectUnauthorized: false, ALPNProtocols: [protocol] }, () => resolve(socket))
    socket.once('error', reject)
  })
}

/**
 * Asks a server of this process, past the cluster's listener: with several workers behind one port nobody else can ask a certain one.
 *
 * @returns The status of the answer.
 * @throws When there is none within 2 s.
 */
export async function probe(server: net.Server, path: string): Promise<number> {
  const [client, served] = await pair()
  const isHttp1 = server instanceof http.Server || server instanceof https.Server
  // In two steps: when the event loop was blocked for all that time, the answer has yet to be read.
  let late = setTimeout(() => {
    late = setTimeout(() => client.destroy(new Error('no answer')), GRACE_MS)
  }, PROBE_MS)
  try {
    server.emit('connection', served)
    const socket = server instanceof tls.Server ? await secured(client, isHttp1 ? 'http/1.1' : 'h2') : client
    return await (isHttp1 ? overHttp1(socket, path) : overHttp2(socket, path))
  } finally {
    clearTimeout(late)
    client.destroy()
  }
}

/** Whether the address of a server takes connections. */
export function connects(server: net.Server): Promise<boolean> {
  const address = server.address()
  if (address === null) return Promise.resolve(false)
  const anywhere = typeof address !== 'string' && (address.address === '0.0.0.0' || address.address === '::')
  const target = typeof address === 'string' ? { path: address } : { port: address.port, ...(!anywhere && { host: address.address }) }
  return new Promise(resolve => {
    const socket = net.connect(target)
    const done = (ok: boolean) => {
      clearTimeout(late)
      socket.destroy()
      resolve(ok)
    }
    const late = setTimeout(done, PROBE_MS, false)
    socket.once('connect', () => done(true)).once('error', () => done(false))
  })
}
