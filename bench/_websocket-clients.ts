/** The clients of the WebSocket bench, on bare sockets: each answers a close frame with the same one, and notes its code and its time. */
import net from 'node:net'

export interface Seen {
  /** How many clients saw which code. */
  codes: Record<string, number>
  /** Between the first and the last close frame. */
  spreadMs: number
  /** The most close frames in any tenth of a second. */
  mostPer100Ms: number
}

const [port = 0, count = 0] = process.argv.slice(2).map(Number)
const upgrade = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n'
const codes: Record<string, number> = {}
const at: number[] = []
let closed = 0

function seen(): Seen {
  at.sort((a, b) => a - b)
  let most = 0
  for (let first = 0, next = 0; next < at.length; next++) {
    while ((at[next] ?? 0) - (at[first] ?? 0) > 100) first++
    most = Math.max(most, next - first + 1)
  }
  return { codes, spreadMs: (at.at(-1) ?? 0) - (at[0] ?? 0), mostPer100Ms: most }
}

function connect(): Promise<void> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.write(upgrade))
    let upgraded = false
    socket.on('error', () => {})
    socket.on('data', (data) => {
      if (!upgraded) {
        upgraded = true
        resolve()
      } else if (data[0] === 0x88) {
        const code = data.readUInt16BE(2)
        codes[code] = (codes[code] ?? 0) + 1
        at.push(performance.now())
        // Masked with zeros (RFC 6455 §5.3).
        socket.write(Buffer.concat([Buffer.of(0x88, 0x82, 0, 0, 0, 0), data.subarray(2, 4)]))
      }
    })
    socket.on('close', () => {
      if (++closed < count) return
      process.send?.(seen())
      process.disconnect()
    })
  })
}

for (let i = 0; i < count; i++) await connect()
process.send?.('connected')
