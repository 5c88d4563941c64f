/** Statistics of levels at equal distances. */

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] as number : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2
}

/** Kendall's τ against the order: 1 when each level is above all before it, about 0 when nothing moves. */
export function tau(levels: readonly number[]): number {
  let score = 0
  for (let i = 1; i < levels.length; i++) {
    for (let j = 0; j < i; j++) score += Math.sign((levels[i] as number) - (levels[j] as number))
  }
  return score / ((levels.length * (levels.length - 1)) / 2)
}

/** Theil-Sen: the median of the slopes of all pairs, per step. */
export function theilSen(levels: readonly number[]): number {
  const slopes: number[] = []
  for (let i = 1; i < levels.length; i++) {
    for (let j = 0; j < i; j++) slopes.push(((levels[i] as number) - (levels[j] as number)) / (i - j))
  }
  return median(slopes)
}

/** A parabola through levels. */
export interface Fit {
  /** Of the parabola at both ends. */
  start: number
  end: number
  /** The mean slope's distance from zero, in standard errors. */
  z: number
  /** The slope at the end by the slope at the start: 1 of a straight line, e^(-T/τ) of saturating growth. At most 4. */
  pace: number
  /** The standard error of that. */
  paceError: number
}

/**
 * Least squares on orthogonal polynomials. The errors account for autocorrelated residuals by the usual factor (1 + r) / (1 - r) of an
 * AR(1) process (as in von Storch 1995; Hamed and Rao 1998 correct the Mann-Kendall test in the same spirit).
 */
export function parabola(levels: readonly number[]): Fit {
  const n = levels.length
  const x = levels.map((_, i) => (2 * i) / (n - 1) - 1)
  const square = sum(x.map(v => v * v)) / n
  const q = x.map(v => v * v - square)
  const norm = (p: readonly number[]) => sum(p.map(v => v * v))
  const onto = (p: readonly number[]) => sum(p.map((v, i) => v * (levels[i] as number))) / norm(p)
  const [a, b, c] = [sum(levels) / n, onto(x), onto(q)]
  const rest = levels.map((level, i) => level - a - b * (x[i] as number) - c * (q[i] as number))
  const power = norm(rest)
  // Three fitted parameters pull the estimate down by about 4 / n.
  const r = power === 0 ? 0 : Math.min(0.9, Math.max(0, sum(rest.slice(1).map((v, i) => v * (rest[i] as number))) / power + 4 / n))
  const variance = (power / (n - 3)) * ((1 + r) / (1 - r))
  const bent = c / b
  const bentError = Math.sqrt(variance / norm(q) + bent ** 2 * (variance / norm(x))) / Math.abs(b)
  const straight = b - 2 * c > 0
  return {
    start: a - b + c * (1 - square),
    end: a + b + c * (1 - square),
    z: variance === 0 ? Math.sign(b) * Infinity : b / Math.sqrt(variance / norm(x)),
    pace: straight ? Math.min(4, (b + 2 * c) / (b - 2 * c)) : b > 0 ? 4 : 0,
    paceError: straight ? Math.min(4, (4 / (1 - 2 * bent) ** 2) * bentError) : bentError,
  }
}

/** The smallest of the three steps between the medians of the quarters, by their mean: 1 of a straight line, about 0 with one step. */
export function evenness(levels: readonly number[]): number {
  const quarter = (i: number) => median(levels.slice(Math.round((levels.length * i) / 4), Math.round((levels.length * (i + 1)) / 4)))
  const [a, b, c, d] = [quarter(0), quarter(1), quarter(2), quarter(3)]
  return d > a ? Math.min(b - a, c - b, d - c) / ((d - a) / 3) : 0
}

/** The normal distribution function (Abramowitz and Stegun 26.2.17; off by less than 1e-7). */
export function normal(z: number): number {
  if (Math.abs(z) > 8) return z > 0 ? 1 : 0
  const t = 1 / (1 + 0.2316419 * Math.abs(z))
  const tail = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
  const above = (tail * Math.exp(-z * z / 2)) / Math.sqrt(2 * Math.PI)
  return z > 0 ? 1 - above : above
}
