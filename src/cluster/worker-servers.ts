import diagnostics from 'node:diagnostics_channel'
import type net from 'node:net'
import type { Duck } from '../core/duck.ts'
import type { DuckState } from './messages.ts'
import { doors } from './probe.ts'

/** Where `wrap()` leaves its duck, for every copy of the package. */
const DUCK = Symbol.for('lameduck.duck')

/** From "not on its way out" to "gone". */
const STATES = ['none', 'running', 'lameduck', 'draining', 'drained', 'aborted'] as const

/** The servers of a worker, and their ducks. Learnt from Node's diagnostics channel of `listen()`, and from lameduck's own. */
export class Servers {
  readonly all = new Set<net.Server>()
  #ducks = new Set<Duck>()
  /** One may be closed, and listen again. */
  #known = new WeakSet<net.Server>()

  #added: (server: net.Server) => void

  /**
   * @param changed A server has begun to listen, or a duck is in another state.
   * @param added A server that is going to listen.
   */
  constructor(changed: () => void, added: (server: net.Server) => void) {
    this.#added = added
    diagnostics.subscribe('tracing:net.server.listen:asyncStart', message => this.#add((message as { server: net.Server }).server))
    diagnostics.subscribe('tracing:net.server.listen:asyncEnd', message => {
      const { server } = message as { server: net.Server }
      // Each look at whether this worker is ready opens one: it would be the reason for the next look, for ever.
      if (doors.has(server)) return
      this.#add(server)
      setImmediate(changed)
    })
    diagnostics.subscribe('tracing:net.server.listen:error', message => {
      this.all.delete((message as { server: net.Server }).server)
    })
    diagnostics.subscribe('lameduck:state', message => {
      this.#ducks.add((message as { duck: Duck }).duck)
      changed()
    })
  }

  /** Of the servers that listen or are going to. Those that were wrapped by now. */
  get ducks(): Set<Duck> {
    for (const server of this.all) {
      const duck = duckOf(server)
      if (duck) this.#ducks.add(duck)
    }
    return this.#ducks
  }

  /** The one furthest on its way out. */
  get state(): DuckState {
    let state: DuckState = 'none'
    for (const duck of this.ducks) if (STATES.indexOf(duck.state) > STATES.indexOf(state)) state = duck.state
    return state
  }

  #add(server: net.Server): void {
    if (doors.has(server) || this.all.has(server)) return
    this.all.add(server)
    if (!this.#known.has(server)) this.#added(server)
    this.#known.add(server)
    server.once('close', () => this.all.delete(server))
  }
}

/** The duck of a server, if it is wrapped. */
export function duckOf(server: net.Server): Duck | undefined {
  return (server as { [DUCK]?: Duck })[DUCK]
}
