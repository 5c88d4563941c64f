import { once } from 'node:events'
import { createServer } from 'node:net'

/**
 * Ports that nobody listens on. Below the range from which the kernel takes the near end of outgoing connections (32768 on, on
 * Linux): otherwise a connection could sit on an instance's port while that instance restarts.
 */
export async function freePorts(count: number): Promise<number[]> {
  const holders = []
  while (holders.length < count) {
    const holder = createServer().listen({ host: '127.0.0.1', port: 12_000 + Math.floor(Math.random() * 20_000) })
    try {
      await once(holder, 'listening')
      holders.push(holder)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    }
  }
  const ports = holders.map((holder) => (holder.address() as { port: number }).port)
  await Promise.all(holders.map((holder) => once(holder.close(), 'close')))
  return ports
}
