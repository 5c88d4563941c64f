/** So many at once, and so many a second after that. */
export interface Rate {
  burst: number
  perSecond: number
}

/** A token bucket. */
export class Bucket {
  #rate: Rate
  #left: number
  #at = performance.now()

  constructor(rate: Rate) {
    this.#rate = rate
    this.#left = rate.burst
  }

  /** Milliseconds until there is one to take; 0 when there is. */
  get waitMs(): number {
    const now = performance.now()
    this.#left = Math.min(this.#rate.burst, this.#left + ((now - this.#at) / 1_000) * this.#rate.perSecond)
    this.#at = now
    return this.#left >= 1 ? 0 : ((1 - this.#left) / this.#rate.perSecond) * 1_000
  }

  /** Takes one if there is one. @returns As `waitMs`. */
  take(): number {
    const { waitMs } = this
    if (waitMs === 0) this.#left -= 1
    return waitMs
  }

  giveBack(): void {
    this.#left = Math.min(this.#rate.burst, this.#left + 1)
  }
}

/** A bucket for each of many, of whom the longest silent is forgotten. */
export class Buckets {
  #rate: Rate
  #most: number
  #all = new Map<string, Bucket>()

  constructor(rate: Rate, most = 1_024) {
    this.#rate = rate
    this.#most = most
  }

  of(key: string): Bucket {
    const bucket = this.#all.get(key) ?? new Bucket(this.#rate)
    // A map keeps the order of insertion: the first is the longest silent.
    this.#all.delete(key)
    this.#all.set(key, bucket)
    if (this.#all.size > this.#most) this.#all.delete(this.#all.keys().next().value as string)
    return bucket
  }
}

/**
 * Failures, of each address and of all. Each try counts as one from the beginning and is given back when it was none: a thousand that were sent at
 * once would otherwise all be under way before the first of them has failed.
 */
export class Failures {
  #each: Buckets
  #all: Bucket

  constructor({ burst, perSecond }: Rate) {
    this.#each = new Buckets({ burst, perSecond })
    this.#all = new Bucket({ burst: burst * 10, perSecond: perSecond * 10 })
  }

  /** @returns Milliseconds until somebody from there may try again; 0: now, and that is counted. */
  take(from: string): number {
    const each = this.#each.of(from)
    const waitMs = each.waitMs || this.#all.waitMs
    if (waitMs > 0) return waitMs
    each.take()
    this.#all.take()
    return 0
  }

  giveBack(from: string): void {
    this.#each.of(from).giveBack()
    this.#all.giveBack()
  }
}
