import type net from 'node:net'
import type { Readiness as Answer } from '../core/health.ts'
import { textOf } from '../core/thrown.ts'
import { connects, probe } from './probe.ts'
import { duckOf, type Servers } from './worker-servers.ts'

/** How often one that is not ready is asked: its checks may be queries, so ever less often. And how often one that is. */
const EAGER_MS = 50
const PATIENT_MS = 1_000
const CALM_MS = 2_000

/** How many checks that fail are named. */
const NAMED = 5

/** Where an application says it that has no endpoint of `wrap()`, unless told otherwise. */
export const USUAL_PATH = '/readyz'

/** Whether a worker is ready, and why not. */
export interface Verdict {
  ready: boolean
  why: string
}

/** @returns What is wrong, with the checks that say so. */
function describe(path: string, { ready, checks }: Answer): string | undefined {
  if (ready) return undefined
  const failed = Object.entries(checks ?? {}).filter(([, verdict]) => verdict !== 'ok')
  const named = failed.slice(0, NAMED).map(([name, verdict]) => (verdict === 'timeout' ? `${name} (timed out)` : name))
  if (failed.length > NAMED) named.push(`${failed.length - NAMED} more`)
  return `${path} says 503${named.length > 0 ? `: ${named.join(', ')}` : ''}`
}

/** Finds out whether this worker may be counted on: it listens everywhere it wants to, and every wrapped server says that it is ready. */
export class Readiness {
  #servers: Pick<Servers, 'all' | 'state'>
  #path: string | false | undefined
  #tell: (verdict: Verdict) => void
  #said: Verdict | undefined
  #timer: NodeJS.Timeout | undefined
  #asking = false
  #again = false
  /** Since when it is not ready. */
  #unreadySince = performance.now()

  /** @param path Where to ask; undefined: where `wrap()` answers. */
  constructor(servers: Pick<Servers, 'all' | 'state'>, path: string | false | undefined, tell: (verdict: Verdict) => void) {
    this.#servers = servers
    this.#path = path
    this.#tell = tell
  }

  /** Looks now: something has changed. */
  look(): void {
    if (this.#asking) this.#again = true
    else void this.#look()
  }

  async #look(): Promise<void> {
    clearTimeout(this.#timer)
    this.#asking = true
    do {
      this.#again = false
      const verdict = await this.#judge()
      if (this.#said?.ready && !verdict.ready) this.#unreadySince = performance.now()
      if (verdict.ready !== this.#said?.ready || verdict.why !== this.#said.why) this.#tell(verdict)
      this.#said = verdict
    } while (this.#again)
    this.#asking = false
    const patience = Math.min(PATIENT_MS, Math.max(EAGER_MS, (performance.now() - this.#unreadySince) / 10))
    this.#timer = setTimeout(() => this.look(), this.#said?.ready ? CALM_MS : patience)
    this.#timer.unref()
  }

  async #judge(): Promise<Verdict> {
    const servers = [...this.#servers.all]
    const { state } = this.#servers
    if (state !== 'none' && state !== 'running') return { ready: false, why: `it is ${state}` }
    if (servers.length === 0 || !servers.every(({ listening }) => listening)) return { ready: false, why: 'it did not listen' }
    for (const server of servers) {
      const why = await this.#ask(server).catch(textOf)
      if (why !== undefined) return { ready: false, why }
    }
    return { ready: true, why: '' }
  }

  /** @returns What is wrong. */
  async #ask(server: net.Server): Promise<string | undefined> {
    const duck = duckOf(server)
    if (!duck) return (await connects(server)) ? undefined : 'it does not take connections'
    if (this.#path === false) return undefined
    // Without a request where lameduck itself would answer it: one costs some 75 ms of CPU time, and this is done for ever.
    const path = this.#path ?? (duck.readyPath || USUAL_PATH)
    if (duck.readyPath === path) return describe(path, await duck.readiness())
    // Another answer comes from the application: it has no such endpoint.
    const status = await probe(server, path)
    return status === 503 ? `${path} says 503` : undefined
  }
}
