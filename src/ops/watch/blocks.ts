/** What a few major GCs in a row left. */
export interface Block {
  /** Bytes. */
  level: number
  /** The number of the last of these GCs, and its time in milliseconds. */
  gc: number
  at: number
}

/** Major GCs in a block of the finest scale. */
export const BLOCK = 5

/** Blocks that each scale keeps. */
const KEPT = 64

/** Scales: the finest keeps the last 320 GCs, the coarsest the last 10,240. */
const SCALES = 6

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length

/**
 * The history of one series in bounded memory: the last 64 blocks of 5 GCs, the last 64 of 10, of 20, … A block's level is the mean
 * of the lowest three of five: what a GC leaves is sometimes far too much (a burst, requests in flight), and never too little.
 */
export class Blocks {
  #scales: Block[][] = Array.from({ length: SCALES }, () => [])
  #odd: (Block | undefined)[] = []
  #five: number[] = []
  #gc = 0

  /** GCs so far. */
  get gc(): number {
    return this.#gc
  }

  /** @returns The number of scales, from the finest on, that have a new block now. */
  add(level: number, at: number): number {
    this.#gc++
    if (this.#five.push(level) < BLOCK) return 0
    const low = this.#five.sort((a, b) => a - b).slice(0, 3)
    this.#five = []
    let block: Block = { level: mean(low), gc: this.#gc, at }
    for (let scale = 0; scale < SCALES; scale++) {
      const kept = this.#scales[scale] as Block[]
      if (kept.push(block) > KEPT) kept.shift()
      const before = this.#odd[scale]
      this.#odd[scale] = before ? undefined : block
      if (!before) return scale + 1
      block = { ...block, level: (before.level + block.level) / 2 }
    }
    return SCALES
  }

  /** The last blocks of a scale, the newest last. */
  of(scale: number): readonly Block[] {
    return this.#scales[scale] ?? []
  }

  /** The highest level before a GC; the longer ago, the coarser. */
  highest(before: number, scale: number): number {
    const old = this.#scales.slice(scale).flatMap(blocks => blocks.filter(({ gc }) => gc <= before))
    return Math.max(0, ...old.map(({ level }) => level))
  }
}
