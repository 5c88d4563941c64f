import type { ServerHttp2Stream } from 'node:http2'
import type { Duplex } from 'node:stream'
import { answerField, whenAnswered } from './answered.ts'
import type { Tracking } from './connection.ts'
import type { Upgraded } from './partings.ts'
import { obituary, type InFlight } from './report.ts'
import type { Tracked } from './tracked.ts'
import { wireOf, WebSocketWire } from './websocket.ts'

/** RFC 9113 §7 */
const CANCEL = 8

const TUNNEL = Symbol('lameduck.tunnel')

type TunnelStream = Duplex & { [TUNNEL]?: Tunnel }

export function tunnelOf(stream: Duplex): Tunnel | undefined {
  return (stream as TunnelStream | null | undefined)?.[TUNNEL]
}

/** A CONNECT stream of an HTTP/2 session: a tunnel (RFC 9113 §8.5), or a WebSocket (RFC 8441). It ends, and the session's other streams go on. */
export class Tunnel implements Upgraded {
  readonly state = 'upgraded'
  readonly socket: ServerHttp2Stream
  readonly carrier: Tracked
  readonly since: number
  readonly inFlight: () => InFlight[]
  #tracking: Tracking
  #unfollow: (() => void) | undefined

  constructor(stream: ServerHttp2Stream, carrier: Tracked, since: number, inFlight: () => InFlight[], tracking: Tracking) {
    this.socket = stream
    this.carrier = carrier
    this.since = since
    this.inFlight = inFlight
    this.#tracking = tracking
    ;(stream as TunnelStream)[TUNNEL] = this
  }

  /** A WebSocket that is accepted from now on speaks in frames, and may be said goodbye to. */
  follow(): void {
    const { socket: stream } = this
    this.#unfollow = whenAnswered(stream, () => {
      // What has passed by then, nobody has followed.
      if (tunnelOf(stream) !== this || stream.writableLength + stream.readableLength > 0 || answerField(stream, ':status') !== '200') return
      void new WebSocketWire(stream, undefined, answerField(stream, 'sec-websocket-extensions'))
      this.#tracking.partings.late(this)
    })
  }

  /** END_STREAM is its FIN. For the peer's it waits as long as it has, `upgradedMs`. */
  close(): void {
    this.socket.end()
  }

  destroy(): void {
    const { socket: stream } = this
    if (stream.destroyed) return
    this.#tracking.destroyed(obituary(this, 'upgraded', stream.writableLength), false)
    // Over on both sides, and unread: to Node there is nothing left to close.
    if (stream.closed) stream.destroy()
    else stream.close(CANCEL)
  }

  release(): void {
    delete (this.socket as TunnelStream)[TUNNEL]
    this.#unfollow?.()
    wireOf(this.socket)?.restore()
  }
}
