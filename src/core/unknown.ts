import type { Destroyed } from './report.ts'
import type { Tracked } from './tracked.ts'
import { sparing } from './tracked-socket.ts'
import { closeAllConnections, type WrappableServer } from './wrappable.ts'

/** Connections that Node counts and nobody tracks: opened before `wrap()`, and silent since. */
export class Unknown {
  #server: WrappableServer
  #tracked: ReadonlySet<Tracked>
  #excluded: boolean
  #patched = false

  constructor(server: WrappableServer, tracked: ReadonlySet<Tracked>) {
    this.#server = server
    this.#tracked = tracked
    this.#excluded = !server.listening
  }

  /** Every socket is held: none was there before, none was patched by somebody else. */
  get excluded(): boolean {
    return this.#excluded
  }

  /** One of them was patched by somebody else. */
  patched(): void {
    this.#patched = true
    this.#excluded = false
  }

  async count(): Promise<number> {
    const all = await new Promise<number>(resolve => this.#server.getConnections((error, count) => resolve(error ? 0 : count)))
    // The rule, and cheap: Node counts a socket no longer once it is destroyed, we do until it has closed.
    let known = this.#tracked.size
    if (all < known) for (const { socket } of this.#tracked) if (socket.destroyed) known--
    if (all <= known && !this.#patched) this.#excluded = true
    return Math.max(0, all - known)
  }

  /** Nobody can tell what they are waiting for, so they get what an upgraded socket gets. */
  async destroy(ageMs: number, destroyed: (entry: Destroyed) => void): Promise<void> {
    const count = await this.count()
    // Somebody's patch of a socket would not spare that.
    if (count === 0) return
    for (let i = 0; i < count; i++) destroyed({ why: 'unknown', state: 'fresh', ageMs, unsentBytes: 0 })
    // One that has shown itself by now has a request of its own.
    sparing(() => closeAllConnections(this.#server))
  }
}
