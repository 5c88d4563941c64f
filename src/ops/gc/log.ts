import { warn } from '../../core/thrown.ts'
import type { Link } from '../link.ts'
import type { GCKind } from './event.ts'
import type { GCBeat, ToldMajor } from './outpost.ts'
import { Pauses } from './pauses.ts'

/** What a major GC has left: the leak watch's sample. Bytes. */
export interface MajorSample {
  /** Milliseconds since 1970. */
  at: number
  usedHeap: number
  totalHeap: number
  limit: number
  external: number
  arrayBuffers: number
  rss: number
  forced: boolean
}

/** A major GC with its number in this log, from 1. */
export type Logged = ToldMajor & { id: number }

/** How many major GCs are kept. */
const KEPT = 100

/** What the endpoint's thread knows of main's GCs, whether main answers or not. */
export class GcLog {
  /** Milliseconds since 1970. */
  readonly since = Date.now()
  source: GCBeat['source'] = { source: undefined, why: 'main has not told yet' }
  #pauses = new Map<GCKind, Pauses>()
  #majors: Logged[] = []
  #last = 0
  #listeners = new Set<(major: Logged) => void>()

  hear({ source, pauses, majors }: GCBeat): void {
    this.source = source
    for (const [kind, counts] of Object.entries(pauses) as [GCKind, typeof pauses.major & {}][]) {
      const known = this.#pauses.get(kind) ?? new Pauses()
      this.#pauses.set(kind, known)
      known.merge(counts)
    }
    for (const major of majors) this.#add({ ...major, id: ++this.#last })
  }

  /** The last major GCs, oldest first. @param after Only those with a higher number. */
  majors(after = 0): Logged[] {
    return this.#majors.filter(({ id }) => id > after)
  }

  /** The number of the last major GC; 0 before the first. */
  get last(): number {
    return this.#last
  }

  /** By kind, of those that have been. */
  pauses(): Record<string, ReturnType<Pauses['report']>> {
    return Object.fromEntries([...this.#pauses].map(([kind, pauses]) => [kind, pauses.report()]))
  }

  /** Hears of each major GC from now on, as a sample. @returns What stops it. */
  onMajor(listener: (sample: MajorSample) => void): () => void {
    return this.onLogged(({ at, after, forced }) => listener({
      at,
      usedHeap: after.used,
      totalHeap: after.total,
      limit: after.limit,
      external: after.external ?? 0,
      arrayBuffers: after.arrayBuffers ?? 0,
      rss: after.rss ?? 0,
      forced,
    }))
  }

  /** The same, with all that is known. */
  onLogged(listener: (major: Logged) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  #add(major: Logged): void {
    this.#majors.push(major)
    if (this.#majors.length > KEPT) this.#majors.shift()
    for (const listener of [...this.#listeners]) {
      try {
        listener(major)
      } catch (error) {
        warn(error)
      }
    }
  }
}

const logs = new WeakMap<Link, GcLog>()

/** The log of a link, one for all who ask: the routes, the leak watch, the metrics. */
export function gcLog(link: Link): GcLog {
  const known = logs.get(link)
  if (known) return known
  const log = new GcLog()
  logs.set(link, log)
  link.on<GCBeat>('gc', beat => log.hear(beat))
  return log
}
