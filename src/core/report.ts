import type { Socket } from 'node:net'
import type { ConnectionState } from './connection.ts'
import type { Tracked } from './tracked.ts'

/** A request in flight: its head was received and its response has not closed. */
export interface InFlight {
  method: string
  /** The request's path; the query is left out, it may hold secrets. */
  path: string
  /** Milliseconds since the connection became active. */
  ageMs: number
  /** `address:port` of the peer; not for unix sockets. */
  remote?: string
  /** Bytes that its connection has carried, both ways, since it was opened. */
  bytesRead: number
  bytesWritten: number
}

/** The carrier of a request. */
export function carrierOf({ remoteAddress, remotePort, bytesRead, bytesWritten }: Socket): Omit<InFlight, 'method' | 'path' | 'ageMs'> {
  return {
    ...(remoteAddress !== undefined && { remote: `${remoteAddress}:${remotePort}` }),
    bytesRead: bytesRead ?? 0,
    bytesWritten: bytesWritten ?? 0,
  }
}

/** A connection that lameduck, or a limit of Node's server, ended the hard way, and why. */
export interface Destroyed {
  /**
   * deadline, abort: all that was left; linger: the peer did not answer our FIN in time; head, handshake: half of it never
   * became whole; timeout: Node's `requestTimeout` or `timeout` was over for a request in flight; protocol: Node gave up an HTTP/2
   * session with one, as for a flood; upgraded: the socket's time was over; unknown: opened before `wrap()`
   * and silent since.
   */
  why: 'deadline' | 'abort' | 'linger' | 'head' | 'handshake' | 'timeout' | 'protocol' | 'upgraded' | 'unknown'
  state: ConnectionState
  /** Milliseconds since the connection came into that state. */
  ageMs: number
  /** Of the oldest request in flight, if any. */
  method?: string
  path?: string
  /** `address:port` of the peer; not for unix sockets. */
  remote?: string
  /** Bytes that the application had written and the kernel had not taken. */
  unsentBytes: number
}

/** How one hook ended. */
export interface HookReport {
  name: string
  at: 'begin' | 'end'
  /** aborted: the drain was aborted, or resumed, while it ran; skipped: so before it began, or no time was left. */
  outcome: 'ok' | 'failed' | 'timeout' | 'aborted' | 'skipped'
  durationMs: number
  /** What it threw. */
  error?: unknown
}

/** What a drain did. */
export interface DrainReport {
  /** clean: all that was in flight was answered; forced: something was cut; resumed: back in rotation before it began in earnest. */
  outcome: 'clean' | 'forced' | 'resumed'
  /** What started it: a signal's name, `drain()`, … */
  reason: string
  /** Only when forced: the deadline, `abort()` or a second signal, or a request, unflushed data or an unknown state on a connection that reached its own limit. */
  forcedBy?: 'deadline' | 'abort' | 'data'
  durationMs: number
  /** Responses of the application that were finished in the drain. */
  served: number
  /** Requests that were answered 503. */
  rejected: number
  /** Requests that came after our FIN, or after a response with `Connection: close`: not executed, so safe to retry. */
  refused: number
  /** Connections that ended in the drain and are not among the destroyed. */
  closed: number
  destroyed: Destroyed[]
  hooks: HookReport[]
  /** Connections that were opened before `wrap()` and carried no request since: destroyed after `upgradedMs`. */
  unknown: number
}

/** Numbers since `wrap()`. */
export interface Counters {
  accepted: number
  served: number
  rejected: number
  refused: number
}

/** A moment of a wrapped server. */
export interface Stats {
  state: 'running' | 'lameduck' | 'draining' | 'drained' | 'aborted'
  connections: Record<ConnectionState | 'total', number>
  /** Oldest first. */
  inFlight: InFlight[]
  counters: Counters
}

/** Whether the process is to say so by its exit code. */
export function failed({ outcome, hooks }: DrainReport): boolean {
  return outcome === 'forced' || hooks.some(hook => hook.outcome !== 'ok')
}

/** The path of a request; the query is left out, it may hold secrets. */
export function pathOf(url = ''): string {
  const query = url.indexOf('?')
  return query === -1 ? url : url.slice(0, query)
}

/** How long ago something was, on the clock of `performance.now()`, in whole milliseconds. */
export function ageOf(since: number): number {
  return Math.max(0, Math.round(performance.now() - since))
}

/** What the report says of a connection that is about to be destroyed. */
export function obituary(connection: Pick<Tracked, 'state' | 'since' | 'inFlight'> & { socket: unknown }, why: Destroyed['why'], unsentBytes: number): Destroyed {
  const [request] = connection.inFlight()
  const { remote } = request ?? carrierOf(connection.socket as Socket)
  return {
    why,
    state: connection.state,
    ageMs: ageOf(connection.since),
    ...(request && { method: request.method, path: request.path }),
    ...(remote !== undefined && { remote }),
    unsentBytes,
  }
}
