import type { Logger } from '../core/options.ts'
import { textOf } from '../core/thrown.ts'

/** One thing that has happened to a worker. */
export interface Step {
  slot: number
  /** Of the process; undefined when there is none yet. */
  pid?: number
  generation: number
  what:
    | 'starting' | 'ready' | 'unready' | 'leaving' | 'stuck' | 'isolated' | 'retiring' | 'exited'
    /** Ended without being told to. */
    | 'crashed'
    /** A start that takes a while, and what it waits for: after 2 s, and then every 10 s. */
    | 'not ready yet'
    /** One that was told to go takes a while, and what holds it: after 5 s, and then every 10 s. */
    | 'not gone yet'
    /** Another one is started, `afterMs` from now. */
    | 'restarting'
    /** Died too often: the slot stays empty. */
    | 'gave up'
    /** Over one of its limits. */
    | 'recycling'
    /** Serves alone for a while. */
    | 'canary'
    /** The new release failed. */
    | 'rolling back'
    | 'failed'
  why?: string
  afterMs?: number
}

const WARNINGS: readonly Step['what'][] = ['crashed', 'stuck', 'gave up', 'rolling back', 'failed']

/** A line for a step. */
export function describeStep({ slot, pid, generation, what, why, afterMs }: Step): string {
  const who = `worker ${slot}${pid === undefined ? '' : ` (pid ${pid})`} of generation ${generation}`
  return `${who}: ${what}${afterMs === undefined ? '' : ` in ${afterMs} ms`}${why === undefined ? '' : `: ${why}`}`
}

/** A logger that throws is nobody's reason to stop. */
export function say(logger: Logger | undefined, level: 'info' | 'warn', message: string): void {
  try {
    logger?.[level](`lameduck: ${message}`)
  } catch (error) {
    process.emitWarning(`lameduck: the logger failed: ${textOf(error)}`)
  }
}

/** Tells a logger. */
export function narrate(logger: Logger | undefined, step: Step): void {
  say(logger, WARNINGS.includes(step.what) ? 'warn' : 'info', describeStep(step))
}
