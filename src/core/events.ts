import diagnostics from 'node:diagnostics_channel'
import { EventEmitter } from 'node:events'
import { contain } from './contain.ts'
import { check } from './options.ts'
import type { DrainReport, HookReport, Stats } from './report.ts'
import { warn } from './thrown.ts'

/** What still holds a drain, a second apart. */
export interface Progress {
  elapsedMs: number
  stats: Stats
  /** The name of the hook that runs. */
  hook?: string
}

/** An exception in somebody else's code (a check, a hook, a logger, `admit`, an event listener), contained. */
export interface Fault {
  where: string
  error: unknown
}

/** The events of a duck, with their arguments. */
export interface Events {
  /** The state has changed: to, from. */
  state: [state: Stats['state'], previous: Stats['state']]
  /** Once a second while a drain goes on. */
  progress: [progress: Progress]
  /** A hook has ended. */
  hook: [report: HookReport]
  fault: [fault: Fault]
  /** So many connections were open before `wrap()`: they are seen from their next request on, and not drained before. */
  unknown: [count: number]
  /** What is left is destroyed now, because of `abort()` or a second signal: why, and what that was. */
  abort: [reason: string, stats: Stats]
  /** The drain is over. */
  report: [report: DrainReport]
}

const channels = {
  state: diagnostics.channel('lameduck:state'),
  progress: diagnostics.channel('lameduck:progress'),
  hook: diagnostics.channel('lameduck:hook'),
  fault: diagnostics.channel('lameduck:fault'),
  unknown: diagnostics.channel('lameduck:unknown'),
  abort: diagnostics.channel('lameduck:abort'),
  report: diagnostics.channel('lameduck:report'),
}

/** A name that is misspelt would never be heard of. @throws {LameduckError} `ERR_LAMEDUCK_OPTION` */
function checkListener(event: string, listener: unknown): void {
  check('event', event, Object.hasOwn(channels, event), Object.keys(channels).join(', '))
  check('listener', listener, typeof listener === 'function', 'a function')
}

/** Typed events whose listeners cannot stop a drain; each is published on the diagnostics channel `lameduck:<event>` too. */
export class Emitter {
  #source: object
  #emitter = new EventEmitter()

  /** @param source Goes into each message on a diagnostics channel, beside the event's arguments. */
  constructor(source: object) {
    this.#source = source
  }

  on<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): void {
    checkListener(event, listener)
    this.#emitter.on(event, listener as (...args: unknown[]) => void)
  }

  once<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): void {
    checkListener(event, listener)
    this.#emitter.once(event, listener as (...args: unknown[]) => void)
  }

  off<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): void {
    this.#emitter.off(event, listener as (...args: unknown[]) => void)
  }

  /** Unlike `EventEmitter#emit`: a listener that throws, or rejects, does not keep the others from hearing it, nor the caller from going on. */
  emit<E extends keyof Events>(event: E, ...args: Events[E]): void {
    if (channels[event].hasSubscribers) channels[event].publish({ duck: this.#source, args })
    for (const listener of this.#emitter.rawListeners(event)) {
      contain(() => listener(...args), error => {
        // A fault listener that fails has nobody left to tell but the process.
        if (event === 'fault') warn(error)
        else this.emit('fault', { where: `listener of "${event}"`, error })
      })
    }
  }
}
