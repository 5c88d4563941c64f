import { subscribe } from 'node:diagnostics_channel'
import net from 'node:net'
import { turn } from './turn.ts'

/**
 * At most this long, and this many accepts, when connections arrive without end. What waited when the drain began is within
 * that: Node's backlog is 511 by default, the kernel's limit 4,096.
 */
const LONGEST_MS = 5_000
const MOST_TURNS = 4_096

/** Who still comes after so long is kept out, if he finds the queue full. */
const CROWDED_MS = 100

/** Attempts to fill the queue ourselves: somebody else may be faster, or no connection to ourselves be possible. */
const MOST_ATTEMPTS = 20

/** Node's own backlog for `listen()`. */
const BACKLOG = 511

/** With 0 some kernels take each SYN for a flood, and say so in their log. */
const NARROW = 1

/** This process has, or had, a child. */
let children: boolean | undefined

/**
 * To be called early: of those who are there before, the ones that are not waited for (`unref()`) are no active resources.
 * And once there are ten thousand connections, the list of those takes milliseconds.
 */
export function noteChildren(): void {
  if (children !== undefined) return
  children = process.getActiveResourcesInfo().includes('ProcessWrap')
  subscribe('child_process', () => {
    children = true
  })
}

/** What Node's public API lacks. Where a method is missing, or finds nothing, the queue stays as long as it was. */
interface Handle {
  /** Is close(2), at once. */
  close?(...args: unknown[]): void
  /** Is listen(2). */
  listen?(backlog: number): number
  /** @returns 0, or an error code: ENOTCONN before the peer's SYN-ACK. */
  getpeername?(out: object): number
}

function handleOf(of: net.Server | net.Socket): Handle | null | undefined {
  const { _handle: handle } = of as { _handle?: Handle | null }
  return handle
}

/**
 * The accept queue of one server at its end: handshakes that the kernel completed get a RST when the listener closes.
 *
 * Node accepts one connection per loop iteration, so it is empty when two iterations brought nothing new. Who connects behind that last look
 * would get the RST, and his request with him. On Linux he cannot: a further listen(2) on the same socket makes the queue
 * short (listen(2), Notes), and connections of our own then take the places in it. The kernel drops the SYN of who comes while a queue is
 * full: he has sent nothing, and is refused when he asks again, a second later.
 */
export class AcceptQueue {
  readonly #server: net.Server
  readonly #accepted: () => number
  readonly #narrows: boolean
  #plugs: net.Socket[] = []

  /** @param narrows False where the queue waits for another process, and for a unix socket, whose path is removed instead. */
  constructor(server: net.Server, accepted: () => number, narrows: boolean) {
    this.#server = server
    this.#accepted = accepted
    this.#narrows = narrows && process.platform === 'linux'
  }

  /** Accepts what waits. Whoever closes the listener in the same tick then closes it on nobody, but for a crowd that comes without end. */
  async empty(): Promise<void> {
    const began = performance.now()
    const past = (ms: number) => performance.now() - began > ms
    if (this.#narrows) this.#widenAtClose()
    for (let calm = 0, attempts = 0, turns = 0; turns < MOST_TURNS && !past(LONGEST_MS); turns++) {
      const before = this.#accepted()
      await turn()
      if (!this.#server.listening) return
      calm = this.#accepted() === before ? calm + 1 : 0
      if (this.#narrows && past(CROWDED_MS)) this.#limit(NARROW)
      if (calm < 2) continue
      if (!this.#narrows || await this.#plug(attempts) || ++attempts === MOST_ATTEMPTS) return
      if (!past(CROWDED_MS)) this.#limit(BACKLOG)
      calm = 0
    }
  }

  /** After the listener's close. */
  unplug(): void {
    for (const plug of this.#plugs.splice(0)) plug.destroy()
  }

  /**
   * A child may have been sent the socket, and goes on with it. Between this and the close there is room again: hence right before close(2),
   * and not before Node's way there, and not in a process that has no child.
   */
  #widenAtClose(): void {
    const handle = handleOf(this.#server)
    const close = handle?.close
    if (!handle || !close || !children) return
    handle.close = (...args) => {
      handle.listen?.(BACKLOG)
      close.apply(handle, args)
    }
  }

  /** @returns Whether the queue is full, and of our own connections only. If not, somebody else is in it. */
  async #plug(attempt: number): Promise<boolean> {
    const { address, port } = this.#server.address() as net.AddressInfo
    // `::` may be without IPv4 (`ipv6Only`), and a container's loopback without IPv6.
    const hosts = { '::': ['::1', '127.0.0.1'], '0.0.0.0': ['127.0.0.1'] }[address] ?? [address]
    const host = hosts[attempt % hosts.length] as string
    this.#limit(NARROW)
    // One more than the limit makes a queue full.
    this.#plugs = Array.from({ length: NARROW + 1 }, () => net.connect({ host, port }).on('error', () => {}))
    // The handshake is over when connect(2) returns, which Node calls in its next tick. The loop has polled nothing meanwhile.
    await new Promise(resolve => process.nextTick(resolve))
    if (this.#plugs.every(plug => handleOf(plug)?.getpeername?.({}) === 0)) return true
    this.unplug()
    return false
  }

  #limit(backlog: number): void {
    handleOf(this.#server)?.listen?.(backlog)
  }
}
