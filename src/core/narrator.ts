import { contain } from './contain.ts'
import { count } from './count.ts'
import type { Emitter, Fault, Progress } from './events.ts'
import type { DrainOptions, Logger } from './options.ts'
import type { DrainReport, HookReport, Stats } from './report.ts'
import { messageOf, warn } from './thrown.ts'

/** How many of the requests that hold a drain are named in one line. */
const NAMED = 3

const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`

/** Who is holding the drain: the oldest requests by name, all else by number. */
function describe({ connections, inFlight }: Stats): string {
  const named = inFlight.slice(0, NAMED).map(({ method, path, ageMs }) => `${method} ${path} ${seconds(ageMs)}`)
  if (inFlight.length > NAMED) named.push(`${inFlight.length - NAMED} more in flight`)
  for (const state of ['idle', 'fresh', 'handshake', 'upgraded', 'closing'] as const) {
    if (connections[state] > 0) named.push(`${connections[state]} ${state}`)
  }
  return named.join(', ') || 'no connection'
}

/** Tells a logger about a drain: a line for each phase, and one a second of what is still holding it. */
export class Narrator {
  #logger: Logger

  constructor(logger: Logger, events: Emitter, stats: () => Stats, plan: () => Required<DrainOptions> | undefined) {
    this.#logger = logger
    events.on('state', (state, previous) => {
      const { reason = 'lameduck()', lameduckMs = Infinity } = plan() ?? {}
      if (state === 'running') this.#say('info', `back in rotation from ${previous}`)
      if (state === 'lameduck' && lameduckMs > 0) {
        const limit = lameduckMs === Infinity ? 'until resume() or drain()' : `for up to ${seconds(lameduckMs)}`
        this.#say('info', `${reason}: out of rotation, serving on ${limit}; open: ${describe(stats())}`)
      }
      if (state === 'draining') this.#say('info', `${reason}: draining, closing the listener and what is idle; open: ${describe(stats())}`)
    })
    events.on('abort', (reason, left) => this.#say('warn', `${reason}: destroying what is left: ${describe(left)}`))
    events.on('progress', progress => this.#progress(progress))
    events.on('hook', report => this.#hook(report))
    events.on('fault', fault => this.#fault(fault))
    events.on('unknown', n => {
      this.#say('warn', `${count(n, 'connection')} opened before wrap(): seen from their next request on`)
    })
    events.on('report', report => this.#report(report))
  }

  /** A logger that throws is nobody's reason to stop. */
  #say(level: 'info' | 'warn', message: string): void {
    contain(() => this.#logger[level](`lameduck: ${message}`), error => warn(`lameduck: the logger failed: ${messageOf(error)}`))
  }

  #progress({ elapsedMs, stats, hook }: Progress): void {
    const running = hook === undefined ? '' : `; hook ${hook} runs`
    this.#say('info', `${stats.state === 'lameduck' ? 'lame duck' : 'draining'} for ${seconds(elapsedMs)}; open: ${describe(stats)}${running}`)
  }

  #hook({ name, outcome, durationMs, error }: HookReport): void {
    if (outcome === 'ok') this.#say('info', `hook ${name} done in ${seconds(durationMs)}`)
    else this.#say('warn', `hook ${name}: ${outcome} after ${seconds(durationMs)}${error === undefined ? '' : `: ${messageOf(error)}`}`)
  }

  #fault({ where, error }: Fault): void {
    this.#say('warn', `${where} failed: ${messageOf(error)}`)
  }

  #report({ outcome, durationMs, served, rejected, destroyed, forcedBy, hooks }: DrainReport): void {
    if (outcome === 'resumed') return
    const cut = outcome === 'forced' ? ` (forced by ${forcedBy})` : ''
    const numbers = [`served ${served}`, `rejected ${rejected}`, `destroyed ${destroyed.length}`]
    const bad = hooks.filter(hook => hook.outcome !== 'ok').map(({ name }) => name)
    if (bad.length > 0) numbers.push(`hooks that failed: ${bad.join(', ')}`)
    this.#say(cut || bad.length > 0 ? 'warn' : 'info', `drained${cut} in ${seconds(durationMs)}: ${numbers.join(', ')}`)
    for (const { why, method, path, ageMs, remote, unsentBytes } of destroyed.slice(0, 10)) {
      const what = method === undefined ? 'connection' : `${method} ${path}`
      this.#say('warn', `destroyed by ${why}: ${what} of ${remote ?? 'a unix socket'}, ${seconds(ageMs)}, ${count(unsentBytes, 'byte')} unsent`)
    }
    if (destroyed.length > 10) this.#say('warn', `and ${destroyed.length - 10} more destroyed`)
  }
}
