import type { Server } from 'node:http'
import type { Socket } from 'node:net'

/** Who has a socket, and hears of its end. */
export interface Holder {
  /** Its server is out of rotation: the socket is to end with care. */
  readonly leaving: boolean
  /** Ends it by a FIN with a linger. */
  close(): void
  /** It is about to be destroyed, with what it has not sent. */
  ending?(): void
  /** It has closed. */
  closed(): void
  /** Node's parser, asked by `askIdle`, has seen no byte of another request on it. */
  foundIdle?(): void
}

/** Where a socket keeps its holder: a property costs less than a map, and goes with the socket. */
const HOLDER = Symbol('lameduck.holder')

type TrackedSocket = Socket & { [HOLDER]?: Holder | undefined }

/** A socket's own methods, if it has any, or else those of its class. */
function inherited(socket: Socket): Socket {
  return Object.getPrototypeOf(socket) as Socket
}

// Shared by all sockets: a closure for each would be felt, and a listener of `close` more so. That would be the one too many
// for Node's list of them, which doubles, and then costs as much as all the rest of the tracking.

function onClose(this: Socket): void {
  holderOf(this)?.closed()
}

/** While Node destroys sockets of a server in one go, and those that are held are not meant: they are asked for, or spared. */
let held: 'asked' | 'spared' | undefined

/** In place of `destroy()`, by which every socket ends: now is the time to listen for its `close`. */
function destroy(this: Socket, error?: Error): Socket {
  const holder = holderOf(this)
  if (holder && held) {
    if (held === 'asked') holder.foundIdle?.()
    return this
  }
  if (holder && !this.destroyed) {
    holder.ending?.()
    this.on('close', onClose)
  }
  return inherited(this).destroy.call(this, error)
}

/**
 * In place of `destroySoon()`, which Node calls after a response that said `Connection: close`: it would close the socket
 * with unread bytes in it (pipelined requests, the rest of an upload), and the RST that follows overtakes the response.
 */
function destroySoon(this: Socket): void {
  const holder = holderOf(this)
  if (holder?.leaving) return holder.close()
  // As Node does with a stream that is no socket, which has none of its own.
  const { destroySoon: own } = inherited(this) as Partial<Socket>
  if (own) own.call(this)
  else this.end()
}

export function holderOf(socket: Socket | null): Holder | undefined {
  return (socket as TrackedSocket | null)?.[HOLDER]
}

/**
 * Takes a socket, until it has closed or is let go; or takes it over from another one.
 *
 * @returns Whether `askIdle` may ask for it.
 */
export function hold(socket: TrackedSocket, holder: Holder): boolean {
  const takenOver = socket[HOLDER] !== undefined
  socket[HOLDER] = holder
  if (takenOver) return true
  // A socket with a `destroy` of its own, by somebody's patch: theirs stays.
  const patched = Object.hasOwn(socket, 'destroy')
  if (patched) socket.on('close', onClose)
  else socket.destroy = destroy
  if (!Object.hasOwn(socket, 'destroySoon')) socket.destroySoon = destroySoon
  return !patched
}

/**
 * Tells those of a server's connections on which not a byte of another request has come. Node's parser knows, and tells nobody; but
 * `closeIdleConnections` destroys just those, and what `destroy()` does is ours to say. Only for a server whose sockets are all held.
 *
 * @returns When that was, in whole milliseconds on the clock of `performance.now()`, as those are at which a connection has become idle.
 */
export function askIdle(server: object): number {
  held = 'asked'
  try {
    ;(server as Partial<Server>).closeIdleConnections?.()
    return Math.ceil(performance.now())
  } finally {
    held = undefined
  }
}

/** Leaves those alone that are held, while `run` destroys the others. */
export function sparing(run: () => void): void {
  held = 'spared'
  try {
    run()
  } finally {
    held = undefined
  }
}

/** Lets a socket go; what was put on it stays, and only passes on. */
export function letGo(socket: TrackedSocket): void {
  // Not `delete`: that would turn the socket into a slow and larger dictionary.
  socket[HOLDER] = undefined
}

/** Lets a socket go as it was found. */
export function restore(socket: TrackedSocket): void {
  letGo(socket)
  socket.off('close', onClose)
  if (socket.destroy === destroy) delete (socket as Partial<Socket>).destroy
  if (socket.destroySoon === destroySoon) delete (socket as Partial<Socket>).destroySoon
}
