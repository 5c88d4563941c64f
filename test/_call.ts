import net from 'node:net'

/** What became of one request on a connection of its own: `cut` is one that ended without an answer. */
export type Called = 'ok' | 'cut' | 'refused' | 'hung'

/** Connects, asks, and goes. @param hangMs One that hangs, hangs for ever: when that is taken for granted. */
export function call(port: number, hangMs: number): Promise<Called> {
  return new Promise(resolve => {
    const socket = net.connect({ host: '127.0.0.1', port })
    let text = ''
    const end = (how: Called) => {
      clearTimeout(late)
      socket.removeAllListeners().on('error', () => {}).destroy()
      resolve(how)
    }
    const late = setTimeout(end, hangMs, 'hung')
    socket.once('connect', () => socket.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'))
    socket.on('data', chunk => {
      text += chunk.toString()
    })
    socket.once('end', () => end(text.includes('\r\n\r\n') ? 'ok' : 'cut'))
    socket.once('error', (error: NodeJS.ErrnoException) => end(error.code === 'ECONNREFUSED' ? 'refused' : 'cut'))
  })
}
