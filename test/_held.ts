import net from 'node:net'
import { Duplex } from 'node:stream'
import tls from 'node:tls'
import { Client, type Address } from './_client.ts'

/** A TLS client whose ClientHello stops after a few bytes, until `release()`. */
export async function heldHandshake({ ca, ...where }: Address): Promise<{ client: Client, release: () => void }> {
  const raw = net.connect(where as net.NetConnectOpts)
  await new Promise(resolve => raw.once('connect', resolve))
  let held: Buffer[] | undefined = []
  const stream = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      if (held) {
        raw.write(chunk.subarray(0, 20))
        held.push(chunk.subarray(20))
      } else raw.write(chunk)
      done()
    },
    final(done) {
      raw.end(done)
    },
    destroy(error, done) {
      raw.destroy()
      done(error)
    },
  })
  raw.on('data', chunk => stream.push(chunk))
  raw.on('end', () => stream.push(null))
  raw.on('error', error => stream.destroy(error))
  const client = new Client(tls.connect({ socket: stream, ...(ca !== undefined && { ca }), servername: 'localhost' }))
  const release = () => {
    for (const bytes of held ?? []) raw.write(bytes)
    held = undefined
  }
  return { client, release }
}
