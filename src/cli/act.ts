import type { Command } from 'commander'
import { Desk, type Common } from './desk.ts'
import type { Io } from './io.ts'
import { parseDuration } from './format.ts'
import { usage } from './failure.ts'

/** What a command does, given its desk, its options (with those of the commands above it) and its arguments. */
export type Act<O> = (desk: Desk, options: O & Common, ...args: string[]) => Promise<void>

/** Fits an act to commander, which passes arguments, options and the command. */
export function act<O = object>(io: Io, run: Act<O>): (...all: unknown[]) => Promise<void> {
  return async (...all) => {
    const options = (all.at(-1) as Command).optsWithGlobals<O & Common>()
    await run(new Desk(io, options), options, ...all.slice(0, -2) as string[])
  }
}

/** For options with a number. */
export function number(name: string, { least = 0, most = Number.MAX_SAFE_INTEGER, whole = false } = {}): (text: string) => number {
  return text => {
    const value = /^-?\d+(?:\.\d+)?$/.test(text) ? Number(text) : NaN
    if (!(value >= least && value <= most) || (whole && !Number.isInteger(value))) {
      throw usage(`${name} is '${text}'; allowed: ${whole ? 'a whole number' : 'a number'} from ${least} to ${most}`)
    }
    return value
  }
}

/** For options with a time. */
export function span(name: string): (text: string) => number {
  return text => {
    const ms = parseDuration(text)
    if (ms === undefined) throw usage(`${name} is '${text}'; allowed: a time such as 500ms, 30s, 10m, 2h`)
    return ms
  }
}
