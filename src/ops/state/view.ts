import type { Heartbeat } from '../heartbeat.ts'
import type { Link } from '../link.ts'
import type { Pause, Snapshot, State } from './report.ts'

/** How long a main thread that is busy, and comes to its timers all the same, may take to answer. */
const ASK_MS = 1_000

/** How often to look whether it has stopped coming to them: then it is not waited for. */
const LOOK_MS = 10

/** What the endpoint knows of the main thread: asked for when that answers, else the last it said. */
export class View {
  readonly #main: Link
  readonly #heartbeat: Heartbeat
  #last: Snapshot | undefined
  #pause: Pause | undefined
  #asking: Promise<void> | undefined

  constructor(main: Link, heartbeat: Heartbeat) {
    this.#main = main
    this.#heartbeat = heartbeat
    main.on('state', (snapshot: Snapshot) => {
      this.#last = snapshot
    })
    main.on('pause', (pause: { what: string; untilMs: number } | null) => {
      this.#pause = pause === null ? undefined : { ...pause, since: Date.now() }
    })
  }

  /** A pause of our own making that is under way, and not longer than it said. */
  get pause(): Pause | undefined {
    return this.#pause && Date.now() < this.#pause.untilMs ? this.#pause : undefined
  }

  get blockedMs(): number {
    return this.#heartbeat.blockedMs
  }

  /** The state of this moment, or, from a blocked main thread, the last one. */
  async state(): Promise<State> {
    // A main thread that has missed a beat is not worth waiting for.
    if (this.blockedMs === 0) await this.#ask()
    const snapshot = this.#last
    return { snapshot, ageMs: snapshot ? Math.max(0, Date.now() - snapshot.at) : 0, blockedMs: this.blockedMs, pause: this.pause }
  }

  /** Settles when it has answered, or there is no use in waiting: what it said before will do then. */
  #ask(): Promise<unknown> {
    this.#asking ??= this.#main.call<Snapshot>('state', undefined, { timeoutMs: ASK_MS }).then(snapshot => {
      this.#last = snapshot
    }, () => {}).finally(() => {
      this.#asking = undefined
    })
    return this.unless(() => this.blockedMs > 0, this.#asking)
  }

  /** What the main thread answers; undefined as soon as there is no use in waiting, or when it fails. */
  unless<T>(inVain: () => boolean, answer: Promise<T>): Promise<T | undefined> {
    return new Promise(resolve => {
      const done = (value?: T) => {
        clearInterval(look)
        resolve(value)
      }
      const look = setInterval(() => {
        if (inVain()) done()
      }, LOOK_MS)
      answer.then(done, () => done())
    })
  }
}
