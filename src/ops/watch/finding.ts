import { BLOCK, type Block } from './blocks.ts'
import { evenness, median, normal, parabola, tau, theilSen, type Fit } from './trend.ts'

/** What speaks for a verdict, and against it. */
export interface Evidence {
  /** Times (ms since 1970) and levels (bytes): what the window consists of. A level is the mean of the lowest three of every five GCs. */
  points: [at: number, bytes: number][]
  /** Kendall's τ over the window: 1 is growth from point to point. */
  tau: number
  /** The mean slope's distance from zero in standard errors, autocorrelation allowed for. */
  z: number
  /** The slope at the window's end by that at its beginning: about 1 of a leak, falling of a cache that fills up. 0 to 4. */
  pace: number
  /** The standard error of that. */
  paceError: number
  /** The smallest of the steps between the window's quarters by the mean step: about 0 when it was one step. */
  evenness: number
  /** By how much it grew over the window, as a part of its level at the beginning … */
  growth: number
  /** … and how much makes a suspect. */
  growthNeeded: number
  /** The highest level before the window, bytes. */
  highest: number
}

/** A window, measured. */
export interface Finding {
  evidence: Evidence
  /** Theil-Sen slope, bytes. */
  perGc: number
  perHour: number
  /** 0 to 1: that it grows and does not slow down. */
  confidence: number
  gcs: number
}

/** Every threshold there is. Chosen on the tuning seeds (docs/leak-watch.md). */
export const RULE = {
  /** Less than this, in bytes, is nobody's leak. */
  floor: 16 * 2 ** 20,
  /** Worth a look: growth over the last 12 blocks, by so much of their first, with τ of at least this. */
  watch: { blocks: 12, growth: 0.08, tau: 0.6 },
  /** Windows in blocks, on each scale. */
  windows: [24, 26, 28, 30, 40, 48, 56, 64],
  /** In so many evaluations in a row. */
  confirmed: 2,
  /** It slows down when its pace is surely below 0.7, or below 0.9 and significantly (by so many errors) below 1. */
  pace: { least: 0.7, sure: 0.2, straight: 0.9, errors: 3 },
  evenness: 0.3,
  z: 4,
  /**
   * By how much a window of up to `short` GCs must have grown, one of `long` or more, and one `between` them. What grows fast is told
   * soon. What grows slowly has time to show whether it stops, as a cache does that is full: until it has lasted, or grown by a lot.
   * A wave of ±25 % grows by 67 % itself.
   */
  growth: { short: 150, long: 500, high: 1, between: 1.5, low: 0.75 },
  /** On the way into the limit: so many GCs in which it has quadrupled, every one above the one before, up to half of the limit. */
  steep: { gcs: [8, 12], times: 4, tau: 0.9, limit: 0.5 },
  /** Suspicion ends when so many blocks show less than a part of the slope, or when the level falls by half of the growth. */
  calm: { blocks: 12, slope: 0.25 },
} as const

/** Where a window lies. */
export interface Place {
  blocks: readonly Block[]
  /** GCs of a block. */
  gcs: number
  /** What the series cannot exceed, bytes: half of the way there is growth enough. */
  limit: number
  highest: () => number
}

function grown({ blocks, gcs, limit }: Place, { start, end }: Fit): { growth: number; growthNeeded: number } {
  const { short, long, high, between, low } = RULE.growth
  const length = blocks.length * gcs
  const usual = length >= long ? low : length > short ? between : high
  // A negative start is the parabola's, of something that began near nothing.
  const from = Math.max(start, 2 ** 20)
  return { growth: (end - start) / from, growthNeeded: Math.min(usual, Math.max(RULE.watch.growth, (limit - from) / 2 / from)) }
}

function slows({ pace, paceError }: Fit): boolean {
  const { least, sure, straight, errors } = RULE.pace
  return pace < Math.max(least + sure * paceError, Math.min(straight, 1 - errors * paceError))
}

const levelsOf = (blocks: readonly Block[]) => blocks.map(({ level }) => level)

/** The second stage's tests, the cheap ones first. @returns Why it is no suspect, or undefined. */
export function doubt(place: Place): string | undefined {
  const levels = levelsOf(place.blocks)
  const fit = parabola(levels)
  const { growth, growthNeeded } = grown(place, fit)
  const percent = (part: number) => `${Math.round(part * 100)} %`
  if (fit.z < RULE.z) return 'does not grow beyond its own noise'
  if (fit.end - fit.start < RULE.floor) return 'has grown by less than 16 MB'
  if (slows(fit)) return `grows, and slows down: at the end at ${percent(Math.max(0, fit.pace))} of its pace at the beginning`
  if (growth < growthNeeded) return `grows, by ${percent(growth)} so far; ${percent(growthNeeded)} in a window of this length make a suspect`
  if (evenness(levels) < RULE.evenness) return 'has grown in a step'
  if (median(levels.slice(-3)) <= place.highest()) return 'grows, and was higher before'
  return undefined
}

/** Theil-Sen slopes, bytes. @param gcs GCs of a block. */
export function pace(blocks: readonly Block[], gcs: number): Pick<Finding, 'perGc' | 'perHour'> {
  const perBlock = theilSen(levelsOf(blocks))
  const [first, last] = [blocks[0] as Block, blocks.at(-1) as Block]
  const hours = (last.at - first.at) / 3_600_000
  return { perGc: Math.round(perBlock / gcs), perHour: hours > 0 ? Math.round((perBlock * (blocks.length - 1)) / hours) : 0 }
}

export function measure(place: Place): Finding {
  const { blocks, gcs } = place
  const levels = levelsOf(blocks)
  const fit = parabola(levels)
  const rises = Math.max(0, 2 * normal(fit.z) - 1)
  return {
    gcs: blocks.length * gcs,
    ...pace(blocks, gcs),
    confidence: rises * normal((fit.pace - RULE.pace.least) / Math.max(fit.paceError, 0.01)),
    evidence: {
      points: blocks.map(({ at, level }) => [at, Math.round(level)]),
      tau: tau(levels), z: fit.z, pace: fit.pace, paceError: fit.paceError, evenness: evenness(levels),
      ...grown(place, fit), highest: Math.round(place.highest()),
    },
  }
}

/** The first stage: the rule of the design, on the last 12 blocks. */
export function grows({ blocks, highest }: Place): boolean {
  const { growth, tau: least, blocks: length } = RULE.watch
  if (blocks.length < length) return false
  const levels = levelsOf(blocks)
  if (Math.max(...levels.slice(-3)) - Math.min(...levels) < RULE.floor) return false
  const gain = theilSen(levels) * (length - 1)
  return gain >= Math.max(RULE.floor, growth * median(levels.slice(0, 3))) && tau(levels) >= least && median(levels.slice(-3)) > highest()
}

/**
 * The shortcut, on single GCs: V8 collects ever more rarely what grows fast, so that a big leak is at the limit after a dozen major GCs.
 */
export function steep({ blocks, limit }: Place): boolean {
  const levels = levelsOf(blocks)
  const [from = 0, to = 0] = [levels[0], levels.at(-1)]
  return to >= RULE.steep.limit * limit && to - from >= RULE.floor && to >= RULE.steep.times * from && tau(levels) >= RULE.steep.tau
}

/** A block of one GC has this many of them; of the finest scale, BLOCK; doubled from scale to scale. */
export const gcsOf = (scale: number): number => scale < 0 ? 1 : BLOCK * 2 ** scale
