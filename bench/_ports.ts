import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'

/** By this process. A port that was just freed may be somebody's next one. */
const given = new Set<number>()

/**
 * Ports that nobody listens on. Below the range from which the kernel takes the near end of outgoing connections (32768 on, on
 * Linux): otherwise a connection could sit on an instance's port while that instance restarts.
 */
export async function freePorts(count: number): Promise<number[]> {
  const holders = []
  while (holders.length < count) {
    const port = 12_000 + Math.floor(Math.random() * 20_000)
    if (given.has(port)) continue
    const holder = createServer().listen({ host: '127.0.0.1', port })
    try {
      await once(holder, 'listening')
      holders.push(holder)
      given.add(port)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    }
  }
  const ports = holders.map((holder) => (holder.address() as AddressInfo).port)
  await Promise.all(holders.map((holder) => once(holder.close(), 'close')))
  return ports
}

/** One of them. Workers of two generations share it by its number. */
export async function freePort(): Promise<number> {
  const [port] = await freePorts(1)
  return port!
}
