import { Connection } from './connection.ts'
import { idleOf } from './tracked-socket.ts'

/**
 * Marks the idle connections on which half a head has come. While in rotation their bytes are counted up to 20 ms after an
 * answer, so Node's parser is asked: only for a server whose sockets are all held.
 */
export function findHalves(connections: Iterable<object>, server: object): void {
  const idle = idleOf(server)
  for (const one of connections) {
    if (one instanceof Connection && one.state === 'idle') one.foundIdle(idle.has(one))
  }
}
