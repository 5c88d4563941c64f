/**
 * Labelled heap series: what a process's major GCs leave, made from a seed. What the words mean:
 *
 * - A series has a base level B, 40 to 200 MB, and says what each of 600 major GCs left.
 * - A leak of x % adds x % of B per major GC (linear), or x % of what is there, noise aside (proportional), from the first GC on.
 * - Noise of x % has a standard deviation of x % of B: half of the series have normal noise, half exponential noise (upwards, as
 *   floating garbage and requests in flight are). Autocorrelated noise is an AR(1) process with that deviation.
 * - Found by GC n: `suspected` at the n-th sample or before. An alarm on a leak-free series: `suspected` at any of its samples.
 *
 * The thresholds of the leak watch were chosen on the seeds `TUNING`, and never looked at on the seeds `TEST`.
 */
import type { Sample } from '../src/ops/watch/leak-watch.ts'

/** First seeds. A family's series are seed, seed + 1, … */
export const TUNING = 1_000_000
export const TEST = 70_000_000

export const LENGTH = 600

const MB = 2 ** 20

export interface Random {
  /** 0 to 1. */
  unit(): number
  between(low: number, high: number): number
  /** Evenly on a logarithmic scale. */
  scale(low: number, high: number): number
  normal(): number
}

/** Mulberry32, and Box-Muller on top. */
export function random(seed: number): Random {
  let state = seed >>> 0
  const unit = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    unit,
    between: (low, high) => low + (high - low) * unit(),
    scale: (low, high) => low * (high / low) ** unit(),
    normal: () => Math.sqrt(-2 * Math.log(1 - unit())) * Math.cos(2 * Math.PI * unit()),
  }
}

export interface Series {
  family: string
  seed: number
  leaks: boolean
  /** Bytes, after each major GC. */
  values: number[]
}

/** A level over time, and a noise: both as parts of the base level. */
interface Shape {
  level: (n: number) => number
  noise: () => number
}

interface Family {
  leaks: boolean
  /** What it is, for the table. */
  what: string
  shape: (r: Random) => Shape
}

function white(r: Random, part: number): () => number {
  // Exponential noise has its deviation for its mean, too.
  return r.unit() < 0.5 ? () => part * r.normal() : () => -part * Math.log(1 - r.unit())
}

function ar(r: Random, part: number, phi: number): () => number {
  let now = part * r.normal()
  return () => (now = phi * now + Math.sqrt(1 - phi ** 2) * part * r.normal())
}

function diurnal(r: Random, low: number, high: number): (n: number) => number {
  const period = r.scale(48, 288)
  const phase = r.unit()
  const part = r.between(low, high)
  return n => part * Math.sin(2 * Math.PI * (n / period + phase))
}

const leak = (rate: number, noise: [number, number]) => (r: Random): Shape => {
  const proportional = r.unit() < 0.3
  return { level: n => proportional ? (1 + rate) ** n : 1 + rate * n, noise: white(r, r.between(...noise)) }
}

function bursts(r: Random): (n: number) => number {
  let left = 0
  let height = 0
  return () => {
    if (left > 0) left--
    else if (r.unit() < 0.03) {
      left = Math.round(r.between(1, 12))
      height = r.between(0.2, 1.5)
    } else height = 0
    return 1 + height
  }
}

export const FAMILIES: Record<string, Family> = {
  noise: {
    leaks: false, what: 'flat, noise of 2 to 8 %',
    shape: r => ({ level: () => 1, noise: white(r, r.between(0.02, 0.08)) }),
  },
  autocorrelated: {
    leaks: false, what: 'flat, AR(1) noise of 2 to 8 %, φ 0.5 to 0.9',
    shape: r => ({ level: () => 1, noise: ar(r, r.between(0.02, 0.08), r.between(0.5, 0.9)) }),
  },
  diurnal: {
    leaks: false, what: 'a daily wave of ±5 to 25 %, 48 to 288 GCs long',
    shape: r => {
      const wave = diurnal(r, 0.05, 0.25)
      return { level: n => 1 + wave(n), noise: white(r, r.between(0.02, 0.05)) }
    },
  },
  step: {
    leaks: false, what: 'one step up of 20 to 150 %',
    shape: r => {
      const [at, height] = [r.between(30, 450), r.between(0.2, 1.5)]
      return { level: n => n < at ? 1 : 1 + height, noise: white(r, r.between(0.02, 0.08)) }
    },
  },
  sawtooth: {
    leaks: false, what: 'a sawtooth: 10 to 80 GCs up by 10 to 60 %, then down',
    shape: r => {
      const [period, height] = [r.scale(10, 80), r.between(0.1, 0.6)]
      return { level: n => 1 + height * ((n / period) % 1), noise: white(r, r.between(0.02, 0.05)) }
    },
  },
  bursty: {
    leaks: false, what: 'bursts of 20 to 150 %, 1 to 12 GCs long',
    shape: r => ({ level: bursts(r), noise: white(r, r.between(0.02, 0.05)) }),
  },
  'warm-up fast': {
    leaks: false, what: 'saturating growth by 50 to 800 %, time constant 5 to 20 GCs',
    shape: r => {
      const [tau, height] = [r.scale(5, 20), r.scale(0.5, 8)]
      return { level: n => 1 + height * (1 - Math.exp(-n / tau)), noise: white(r, r.between(0.02, 0.08)) }
    },
  },
  'warm-up slow': {
    leaks: false, what: 'saturating growth by 50 to 800 %, time constant 20 to 400 GCs',
    shape: r => {
      const [tau, height] = [r.scale(20, 400), r.scale(0.5, 8)]
      return { level: n => 1 + height * (1 - Math.exp(-n / tau)), noise: white(r, r.between(0.02, 0.08)) }
    },
  },
  'warm-up linear': {
    leaks: false, what: 'a bounded cache: 20 to 150 GCs of linear growth by 50 to 150 %, then none',
    shape: r => {
      const [full, height] = [r.scale(20, 150), r.between(0.5, 1.5)]
      return { level: n => 1 + height * Math.min(1, n / full), noise: white(r, r.between(0.02, 0.08)) }
    },
  },
  'warm-up linear, long': {
    leaks: false, what: 'the same over 150 to 400 GCs',
    shape: r => {
      const [full, height] = [r.scale(150, 400), r.between(0.5, 1.5)]
      return { level: n => 1 + height * Math.min(1, n / full), noise: white(r, r.between(0.02, 0.08)) }
    },
  },
  'leak 2 %': { leaks: true, what: '2 % per GC, noise of 2 to 8 %', shape: leak(0.02, [0.02, 0.08]) },
  'leak 1 %': { leaks: true, what: '1 % per GC, noise of 2 to 8 %', shape: leak(0.01, [0.02, 0.08]) },
  'leak 0.5 %': { leaks: true, what: '0.5 % per GC, noise of 2 to 8 %', shape: leak(0.005, [0.02, 0.08]) },
  'leak 0.2 %': { leaks: true, what: '0.2 % per GC, noise of 2 %', shape: leak(0.002, [0.02, 0.02]) },
  'leak 0.2 %, noisy': { leaks: true, what: '0.2 % per GC, noise of 2 to 8 %', shape: leak(0.002, [0.02, 0.08]) },
  'leak 1 %, autocorrelated': {
    leaks: true, what: '1 % per GC, AR(1) noise of 2 to 8 %, φ 0.5 to 0.9',
    shape: r => ({ level: n => 1 + 0.01 * n, noise: ar(r, r.between(0.02, 0.08), r.between(0.5, 0.9)) }),
  },
  'leak 1 %, diurnal': {
    leaks: true, what: '1 % per GC on a daily wave of ±5 to 25 %',
    shape: r => {
      const wave = diurnal(r, 0.05, 0.25)
      return { level: n => 1 + 0.01 * n + wave(n), noise: white(r, r.between(0.02, 0.05)) }
    },
  },
  'leak 1 %, late': {
    leaks: true, what: '1 % per GC from GC 300 on, after a fast warm-up',
    shape: r => {
      const [tau, height] = [r.scale(5, 20), r.between(0.2, 1)]
      const level = (n: number) => 1 + height * (1 - Math.exp(-n / tau)) + 0.01 * Math.max(0, n - 300)
      return { level, noise: white(r, r.between(0.02, 0.08)) }
    },
  },
}

/** One series of a family. */
export function series(family: string, seed: number): Series {
  const { leaks, shape } = FAMILIES[family] as Family
  // Each family draws from numbers of its own, also where the seeds are the same.
  const r = random(seed + Buffer.from(family).reduce((sum, letter) => (Math.imul(sum, 31) + letter) | 0, 7))
  const base = r.scale(40, 200) * MB
  const { level, noise } = shape(r)
  return { family, seed, leaks, values: Array.from({ length: LENGTH }, (_, n) => Math.max(MB, Math.round(base * (level(n) + noise())))) }
}

/** As the watch gets it: a major GC about every 30 seconds. */
export function samples(values: readonly number[]): Sample[] {
  return values.map((usedHeap, n) => ({
    at: 1_700_000_000_000 + n * 30_000, usedHeap, external: 2 * MB, arrayBuffers: MB / 2, rss: 1_000 * MB, forced: false,
  }))
}
