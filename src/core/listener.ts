import cluster from 'node:cluster'
import { renameSync, statSync, unlinkSync } from 'node:fs'
import net from 'node:net'
import { AcceptQueue, noteChildren } from './accept-queue.ts'
import { turn } from './turn.ts'

/** Which file is at a path. Undefined when there is none, or it cannot be told (an abstract socket, a folder without access). */
function inode(path: string): number | undefined {
  try {
    return statSync(path).ino
  } catch {
    return undefined
  }
}

/** The listening side of one server: stops listening without touching a connection, and closes the rest of it at the end. */
export class Listener {
  #server: net.Server
  #fault: (where: string, error: unknown) => void
  /** The http-level close is still owed. */
  #owed = false
  /** It is about to listen again, for which a worker asks the primary: what Node calls that, until it is so or something else becomes of it. */
  #returning: number | undefined
  #ended = false
  /** The arguments of `listen()`: a cluster worker that gave its handle up needs them to come back. */
  #listenArgs: unknown[] | undefined
  #restoreListen = () => {}
  /** Of a unix socket: its file. */
  #inode: number | undefined

  constructor(server: net.Server, fault: (where: string, error: unknown) => void) {
    this.#server = server
    this.#fault = fault
    noteChildren()
    if (cluster.isWorker && !server.listening) this.#rememberListen()
    if (server.listening) this.opened()
  }

  /** The server has begun to listen. */
  opened(): void {
    this.#returning = undefined
    const address = this.#server.address()
    // A cluster's worker has no file: the path is the primary's, and not ours to remove or to protect.
    this.#inode = typeof address === 'string' && !this.shared ? inode(address) : undefined
  }

  /** Our close of the listener alone makes Node emit `close` when the last connection ends; ours comes after that, if at all. */
  get holdsClose(): boolean {
    // Who closes the server meanwhile makes another number of it.
    return this.#owed || (this.#returning !== undefined && this.#returning === this.#listeningId)
  }

  /** In a cluster worker the primary holds the listener, and hands what was meant for this worker to the next one. */
  get shared(): boolean {
    return cluster.isWorker && this.#server.listening && !this.#exclusive
  }

  /** A worker's own listener, by the options of `listen()`: nobody takes over. */
  get #exclusive(): boolean {
    const [options] = (this.#listenArgs ?? []) as [{ exclusive?: boolean; reusePort?: boolean } | undefined]
    return Boolean(options?.exclusive || options?.reusePort)
  }

  /** It can be given up for a while: others go on accepting, and `listen()` was seen, so that there is a way back. */
  get returns(): boolean {
    return this.shared && this.#listenArgs !== undefined
  }

  /** False when it was given up for good. */
  get mayComeBack(): boolean {
    return !this.#owed || this.#listenArgs !== undefined
  }

  /** Closes the listener alone. `http.Server#close` would destroy idle sockets, and stop enforcing header and request timeouts. */
  giveUp(): void {
    if (!this.#server.listening) return
    this.#owed = true
    const close = () => net.Server.prototype.close.call(this.#server)
    const address = this.#server.address()
    if (typeof address === 'string') this.#closeUnixSocket(address, close)
    else close()
  }

  /** The path of a unix socket goes first: then nobody comes into the accept queue behind our last look at it, as over TCP somebody may. */
  #removePath(): void {
    // Node goes on to say the path when it listens no more: whose file is there now nobody knows.
    if (!this.#server.listening) return
    const address = this.#server.address()
    if (typeof address !== 'string' || this.#inode === undefined || inode(address) !== this.#inode) return
    try {
      unlinkSync(address)
    } catch {
      // Nor will libuv be able to.
    }
  }

  /** libuv removes the path of a unix socket with it, even when a successor has put its own there: so that one steps aside meanwhile. */
  #closeUnixSocket(path: string, close: () => void): void {
    const found = this.#inode === undefined ? undefined : inode(path)
    if (found === undefined || found === this.#inode) {
      close()
      return
    }
    const aside = `${path}.${process.pid}`
    try {
      renameSync(path, aside)
      close()
      renameSync(aside, path)
    } catch (error) {
      close()
      this.#fault('moving the socket of a successor aside', error)
    }
  }

  /** Listens again, if it was given up. */
  comeBack(): void {
    if (!this.#owed) return
    this.#owed = false
    this.#server.listen(...(this.#listenArgs as [number]))
    this.#returning = this.#listeningId
  }

  /** It could not listen. */
  failed(): void {
    this.#returning = undefined
  }

  get #listeningId(): number | undefined {
    const { _listeningId: id } = this.#server as { _listeningId?: number }
    return id
  }

  /** Accepts what waits, then closes the listener alone. */
  async close(accepted: () => number): Promise<void> {
    this.#removePath()
    const queue = new AcceptQueue(this.#server, accepted, this.#ownsQueue)
    await queue.empty().catch(error => this.#fault('emptying the accept queue', error))
    try {
      this.giveUp()
    } finally {
      queue.unplug()
    }
  }

  /** Bound by this process: what it was given as a file descriptor (by systemd) or a handle (by its parent) others have, too. */
  get #ownsQueue(): boolean {
    const { _connectionKey: key = '' } = this.#server as { _connectionKey?: string }
    return !this.shared && /^[46]:/.test(key)
  }

  /**
   * The http-level close, once no tracked connection is left: clears Node's interval, closes what is idle of connections
   * that nobody saw, and waits for the rest of those. `close` is emitted here, once.
   */
  async end(): Promise<void> {
    if (!this.#owed || this.#ended) return
    this.#ended = true
    // Node's own `close`, for the listener alone, may still be on its way when no connection was left: held back like the others.
    await turn()
    this.#owed = false
    await new Promise<void>(resolve => {
      this.#server.once('close', resolve)
      this.#server.close()
    })
  }

  unwrap(): void {
    this.#restoreListen()
  }

  #rememberListen(): void {
    const server = this.#server
    const listen = server.listen
    server.listen = ((...args: unknown[]) => {
      this.#listenArgs = args.filter(arg => typeof arg !== 'function')
      return listen.apply(server, args as [number])
    }) as typeof listen
    const own = server.listen
    this.#restoreListen = () => {
      if (server.listen === own) delete (server as Partial<net.Server>).listen
    }
  }
}
