import type { Duplex } from 'node:stream'
import type { ConnectionState } from './connection.ts'
import { Lingering, type Lingerer } from './lingering.ts'
import type { Settings } from './options.ts'
import { Spread } from './spread.ts'
import type { InFlight } from './report.ts'
import type { Tracked } from './tracked.ts'
import { wireOf, type Leaver, type WebSocketWire } from './websocket.ts'

/**
 * Ends an upgraded socket in the way of its protocol. The signal is aborted when the socket has closed, by itself or because
 * its time was over; the code is the option `websocketCode`.
 */
export type Close = (signal: AbortSignal, code: number) => unknown

/** Options of `track`. */
export interface TrackOptions {
  /** Called once, in the draining phase; may return a promise. The socket has `upgradedMs` from its end, as it has from its beginning. */
  close: Close
}

/** What may have left HTTP: a connection of HTTP/1, or a CONNECT stream of an HTTP/2 session. */
export interface Upgraded {
  readonly socket: Duplex
  readonly state: ConnectionState
  /** The connection that it is, or is on. */
  readonly carrier: Tracked
  /** The request that it began with, as far as it was seen. */
  inFlight(): InFlight[]
  /** Ends it by a FIN, and waits for the peer's. */
  close(): void
  /** Ends it now, whatever is unsent, and says so in the report. */
  destroy(why: 'upgraded'): void
}

const OWNER = Symbol('lameduck.owner')

type OwnedSocket = Duplex & { [OWNER]?: TrackOptions | undefined }

/** How long to wait for a moment without a write, at most, in times of `quietMs`. */
const PATIENCE = 10

type Limits = Pick<Settings, 'quietMs' | 'spreadMs' | 'upgradedMs' | 'websocketCode'>

/** The upgraded sockets of a server that drains: each is asked to go at its moment, and destroyed when its time is over. */
export class Partings {
  readonly limits: Limits
  readonly closeFrame: Uint8Array
  readonly fault: (where: string, error: unknown) => void
  /** Those that have been told, and those whom nobody can tell. */
  readonly leaving: Lingering
  /** Those whose application may be in the middle of something. */
  readonly busy: Lingering
  /** Once the draining has begun. */
  #spread: Spread<Parting> | undefined
  #partings = new WeakMap<Upgraded, Parting>()

  constructor(limits: Limits, fault: (where: string, error: unknown) => void) {
    const { quietMs, upgradedMs, websocketCode } = limits
    this.limits = limits
    this.fault = fault
    // FIN and opcode 8, then a length of two, not masked (RFC 6455 §5.5.1).
    this.closeFrame = Uint8Array.of(0x88, 2, websocketCode >> 8, websocketCode & 0xff)
    this.leaving = new Lingering(upgradedMs, fault)
    this.busy = new Lingering(Math.min(quietMs, upgradedMs / 2), fault)
  }

  /** Asks those of the upgraded ones to go that can be asked, spread over an interval that leaves them their time before the deadline. */
  start(upgraded: Iterable<Upgraded>, leftMs: number): void {
    const { spreadMs, upgradedMs } = this.limits
    const asked: Parting[] = []
    for (const one of upgraded) {
      const parting = this.#of(one)
      if (parting.answers) asked.push(parting)
      else parting.limit()
    }
    this.#spread = new Spread(asked, Math.min(spreadMs, Math.max(leftMs - upgradedMs, leftMs / 2)), parting => parting.ask(), error => this.fault('asking an upgraded socket to go', error))
  }

  /** @returns What gives the socket back. */
  track(one: Upgraded, owner: TrackOptions): () => void {
    const socket = one.socket as OwnedSocket
    socket[OWNER] = owner
    this.late(one)
    return () => {
      if (socket[OWNER] === owner) socket[OWNER] = undefined
    }
  }

  /** One of whom there was nobody to ask when the others were. */
  late(one: Upgraded): void {
    if (this.#spread && one.state === 'upgraded') this.#of(one).ask()
  }

  stop(): void {
    this.#spread?.stop()
    this.leaving.stop()
    this.busy.stop()
  }

  #of(one: Upgraded): Parting {
    const parting = this.#partings.get(one) ?? new Parting(one, this)
    this.#partings.set(one, parting)
    return parting
  }
}

/** One upgraded socket that is to go. */
class Parting implements Leaver, Lingerer {
  #upgraded: Upgraded
  #partings: Partings
  /** How many times it was given its time: the last one counts. */
  #times = 0
  #asked = false
  /** Who has been asked. */
  #owner: TrackOptions | undefined
  #patientUntil = 0

  constructor(upgraded: Upgraded, partings: Partings) {
    this.#upgraded = upgraded
    this.#partings = partings
  }

  get closeFrame(): Uint8Array {
    return this.#partings.closeFrame
  }

  /** Somebody is there to be asked. */
  get answers(): boolean {
    const { socket } = this.#upgraded
    return (socket as OwnedSocket)[OWNER] !== undefined || wireOf(socket) !== undefined
  }

  /** Asks the owner, each once, or else says goodbye to a WebSocket. */
  ask(): void {
    const { socket } = this.#upgraded
    const owner = (socket as OwnedSocket)[OWNER]
    if (socket.destroyed || (this.#asked && owner === this.#owner)) return
    const wire = wireOf(socket)
    this.limit()
    if (!this.#asked) wire?.accompany(this)
    this.#asked = true
    this.#owner = owner
    if (owner) void this.#askOwner(owner)
    else if (wire) {
      const { quietMs, upgradedMs } = this.#partings.limits
      // Half of its time at most: the rest is for the answer.
      const patienceMs = wire.sound() ? Infinity : quietMs * PATIENCE
      this.#patientUntil = performance.now() + Math.min(patienceMs, upgradedMs / 2)
      this.#whenQuiet(wire)
    }
  }

  /** From now on it has its time. */
  limit(): void {
    this.#times++
    this.#partings.leaving.add(this)
  }

  giveUp(): void {
    if (--this.#times === 0) this.#upgraded.destroy('upgraded')
  }

  said(): void {
    this.limit()
  }

  parted(): void {
    this.#upgraded.close()
  }

  async #askOwner({ close }: TrackOptions): Promise<void> {
    const { socket } = this.#upgraded
    const controller = new AbortController()
    socket.once('close', () => controller.abort())
    try {
      await close(controller.signal, this.#partings.limits.websocketCode)
    } catch (error) {
      const request = this.#upgraded.inFlight().at(-1)
      this.#partings.fault(`close of ${request ? `${request.method} ${request.path}` : 'a tracked socket'}`, error)
    }
    if (!socket.destroyed) this.limit()
  }

  /**
   * After a moment without a message, the application is likely to have written all that it was about to. Who never stops
   * is not waited for.
   */
  #whenQuiet(wire: WebSocketWire): void {
    this.#partings.busy.add({
      giveUp: () => {
        if (this.#owner) return
        if (performance.now() >= this.#patientUntil || (wire.quiet() && !wire.sound())) wire.goodbye()
        else this.#whenQuiet(wire)
      },
    })
  }
}
