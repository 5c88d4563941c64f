import { Connection } from './connection.ts'
import { idleOf } from './tracked-socket.ts'

/** Whether this is a connection that ended a request a moment ago, and nobody has looked since whether another has begun. */
export function isUnsure(one: object): one is Connection {
  return one instanceof Connection && one.unsure
}

/** Has half a head come on one of these by now? Node's parser is asked: only for a server whose sockets are all held. */
export function makeSure(unsure: readonly Connection[], server: object): void {
  const idle = idleOf(server)
  for (const connection of unsure) connection.sure(idle.has(connection))
}
