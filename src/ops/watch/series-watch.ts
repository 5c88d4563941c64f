import { Blocks, type Block } from './blocks.ts'
import { doubt, gcsOf, grows, measure, pace, RULE, steep, type Evidence, type Finding, type Place } from './finding.ts'

/** warming: not enough GCs yet. watch: it grows. suspected: it has grown by a lot, evenly, and does not slow down. */
export type Verdict = 'warming' | 'steady' | 'watch' | 'suspected'

/** What is known of one series. */
export interface SeriesReport {
  verdict: Verdict
  /** In words. */
  reason: string
  /** Bytes: what the last few major GCs left. */
  level: number
  /** Theil-Sen slope over the window, bytes; 0 before there is a window. */
  perGc: number
  perHour: number
  /** 0 to 1: that it grows and does not slow down, as far as the window can tell. */
  confidence: number
  /** Null before there is one. Times in ms since 1970. */
  window: { gcs: number; from: number; to: number } | null
  evidence: Evidence | null
}

interface Suspect {
  scale: number
  gc: number
  finding: Finding
}

/** The scale of single GCs, kept for the shortcut. */
const SINGLE = -1

/** Watches what major GCs leave of one kind of memory. */
export class SeriesWatch {
  #blocks = new Blocks()
  #singles: Block[] = []
  #limit: number
  #verdict: Verdict = 'warming'
  /** By scale: whether it grows, and in how many evaluations in a row it was a suspect. */
  #grows: boolean[] = []
  #held: number[] = []
  /** Windows begin after this GC. */
  #origin = 0
  #suspect: Suspect | undefined

  /** @param limit What the series cannot exceed, bytes. */
  constructor(limit = Infinity) {
    this.#limit = limit
  }

  get verdict(): Verdict {
    return this.#verdict
  }

  /** @returns Whether the verdict has changed. */
  add(level: number, at: number): boolean {
    const before = this.#verdict
    const fresh = this.#blocks.add(level, at)
    if (this.#limit < Infinity) this.#hurry({ level, at, gc: this.#blocks.gc })
    for (let scale = 0; scale < fresh; scale++) this.#judge(scale)
    this.#conclude()
    return this.#verdict !== before
  }

  report(): SeriesReport {
    const level = Math.round((this.#blocks.of(0).at(-1) ?? this.#singles.at(-1))?.level ?? 0)
    const length = RULE.windows.at(-1) ?? 0
    // Where it grows, if that scale can say something yet.
    const growing = this.#place(Math.max(0, this.#grows.indexOf(true)), length)
    const place = growing.blocks.length < RULE.windows[0] ? this.#place(0, length) : growing
    const { verdict } = this
    if (!this.#suspect && place.blocks.length < RULE.watch.blocks) {
      const reason = `${this.#blocks.gc - this.#origin} major GCs so far; it takes ${RULE.watch.blocks * gcsOf(0)}`
      return { verdict, reason, level, perGc: 0, perHour: 0, confidence: 0, window: null, evidence: null }
    }
    const { evidence, perGc, perHour, confidence, gcs } = this.#suspect?.finding ?? measure(place)
    const [from, to] = [evidence.points[0]?.[0] ?? 0, evidence.points.at(-1)?.[0] ?? 0]
    return { verdict, reason: this.#reason(place), level, perGc, perHour, confidence, window: { gcs, from, to }, evidence }
  }

  #reason(place: Place): string {
    if (this.#suspect?.scale === SINGLE) return 'has quadrupled in a few major GCs, and uses more than half of its limit'
    // Until a cache that fills evenly is full, its series is a leak's.
    if (this.#suspect) return 'a leak, or a cache that still fills: has grown by a lot, evenly, above all that was before, and does not slow down'
    // A short window has not the power to say anything.
    if (place.blocks.length < RULE.windows[0]) return `${this.#verdict === 'watch' ? 'grows' : 'is flat'}; too early to say more`
    return doubt(place) ?? 'grows; to be confirmed'
  }

  #conclude(): void {
    if (this.#suspect) this.#verdict = 'suspected'
    else if (this.#origin === 0 && this.#blocks.of(0).length < RULE.watch.blocks) this.#verdict = 'warming'
    else this.#verdict = this.#grows.includes(true) ? 'watch' : 'steady'
  }

  /** The last blocks of a scale, none from before the origin. */
  #place(scale: number, length: number): Place {
    const gcs = gcsOf(scale)
    const blocks = (scale === SINGLE ? this.#singles : this.#blocks.of(scale)).slice(-length).filter(({ gc }) => gc - gcs >= this.#origin)
    const highest = () => this.#blocks.highest((blocks[0]?.gc ?? 0) - gcs, Math.max(0, scale))
    return { blocks, gcs, limit: this.#limit, highest }
  }

  #judge(scale: number): void {
    this.#grows[scale] = grows(this.#place(scale, RULE.watch.blocks))
    if (this.#suspect) return this.#reconsider(scale)
    const place = this.#find(scale)
    const held = place ? (this.#held[scale] ?? 0) + 1 : 0
    this.#held[scale] = held
    if (place && held >= RULE.confirmed) this.#suspect = { scale, gc: this.#blocks.gc, finding: measure(place) }
    return undefined
  }

  /** The second stage: the longest window about which there is no doubt. */
  #find(scale: number): Place | undefined {
    const all = this.#place(scale, RULE.windows.at(-1) ?? 0)
    const levels = all.blocks.map(({ level }) => level)
    // Most of the time nothing has grown at all.
    if (levels.length < RULE.windows[0] || Math.max(...levels.slice(-3)) - Math.min(...levels) < RULE.floor) return undefined
    return RULE.windows.toReversed().filter(length => length <= all.blocks.length)
      .map(length => this.#place(scale, length)).find(place => doubt(place) === undefined)
  }

  #hurry(single: Block): void {
    const [least, most] = RULE.steep.gcs
    if (this.#singles.push(single) > most) this.#singles.shift()
    if (single.level < RULE.steep.limit * this.#limit) return
    for (let length = least; length <= most && !this.#suspect; length++) {
      const place = this.#place(SINGLE, length)
      if (place.blocks.length === length && steep(place)) this.#suspect = { scale: SINGLE, gc: single.gc, finding: measure(place) }
    }
  }

  /**
   * Whether a suspect has come to rest: fallen back by half of its growth, or flat for long enough; per GC and per hour, because GCs
   * come ever faster near the limit.
   */
  #reconsider(fresh: number): void {
    const { scale, gc, finding } = this.#suspect as Suspect
    const { growth, points } = finding.evidence
    const [, level] = points.at(-1) as [number, number]
    const half = level * (1 - growth / (1 + growth) / 2)
    const own = Math.max(0, scale)
    const { blocks: length, slope } = RULE.calm
    const since = this.#blocks.of(own).filter(block => block.gc > gc).slice(-length)
    const fallen = since.length >= 3 && this.#blocks.of(0).slice(-3).every(block => block.level < half)
    const now = fresh === own && since.length === length ? pace(since, gcsOf(own)) : undefined
    const flat = now !== undefined && now.perGc < slope * finding.perGc && now.perHour < slope * finding.perHour
    if (fallen || flat) {
      this.#suspect = undefined
      this.#origin = this.#blocks.gc
      this.#grows = []
      this.#held = []
    } else if (fresh === own) {
      const place = this.#find(own)
      if (place && this.#suspect) this.#suspect.finding = measure(place)
    }
  }
}
