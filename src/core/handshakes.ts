import type { Socket } from 'node:net'
import type { Connection } from './connection.ts'
import type { Tracked } from './tracked.ts'

/** Whom a TCP socket of a TLS server belongs to: the TLS socket that comes out of the handshake has the same peer. Unix sockets have no such name. */
function peer(socket: Socket): string | undefined {
  if (socket.remotePort === undefined) return undefined
  return `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress} ${socket.localPort}`
}

/** One of those whose handshake has begun: for the count, any is as good as another. */
function begunOnUnixSocket(connections: Iterable<Tracked>): Connection | undefined {
  for (const connection of connections) if (connection.nameless && connection.partial) return connection as Connection
  return undefined
}

/** The TLS handshakes under way: which connection a new TLS socket belongs to. */
export class Handshakes {
  #byPeer = new Map<string, Connection>()
  #peers = new WeakMap<Connection, string>()

  began(connection: Connection): void {
    const key = peer(connection.socket)
    if (key === undefined) return
    this.#peers.set(connection, key)
    this.#byPeer.set(key, connection)
  }

  /** @param connections Where to look for one without a name. */
  done(socket: Socket, connections: Iterable<Tracked>): Connection | undefined {
    const key = peer(socket)
    if (key === undefined) return begunOnUnixSocket(connections)
    const connection = this.#byPeer.get(key)
    this.#byPeer.delete(key)
    if (connection) this.#peers.delete(connection)
    return connection
  }

  /** Its connection has ended. */
  forget(connection: Connection): void {
    const key = this.#peers.get(connection)
    if (key !== undefined && this.#byPeer.get(key) === connection) this.#byPeer.delete(key)
  }

  clear(): void {
    this.#byPeer.clear()
  }
}
