import type { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import type { ConnectionState } from './connection.ts'
import type { Upgraded } from './partings.ts'
import type { Destroyed, InFlight } from './report.ts'

/** A connection as those see it who lead its drain: with HTTP/1 on it, or an HTTP/2 session. */
export interface Tracked {
  /** What its protocol runs on: the TLS socket, where there is one. */
  readonly socket: Socket
  readonly state: ConnectionState
  /** When it came into that state, on the clock of `performance.now()`. */
  readonly since: number
  /** Since when it has been waiting for a request, and so may be closed once that has been quiet; Infinity if it is not to be closed. */
  readonly quietSince: number
  /** Half a head (or half a handshake) was received and waits for its rest. */
  readonly partial: boolean
  /** There is no telling which connection will come out of this handshake. */
  readonly nameless: boolean
  /** The requests in flight, oldest first. */
  inFlight(): InFlight[]
  /** The server leaves rotation. */
  lameduck(): void
  /** The responses that are event streams, as far as their heads are out. */
  eventStreams(): Writable[]
  /** What has left HTTP: itself, or CONNECT streams. */
  tunnels(): Upgraded[]
  /** Says goodbye; nothing that comes later is executed. */
  finish(): void
  /** After `finish()`: waits for the peer's FIN, for a bounded time. */
  linger(): void
  /** What was half received has not become whole in time. */
  expire(): void
  /** Ends it now, whatever is unsent, and says so in the report. */
  destroy(why: Destroyed['why']): void
  /** Leaves everything as it was found. */
  release(): void
}
