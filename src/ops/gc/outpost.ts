import v8 from 'node:v8'
import type { Outpost } from '../part.ts'
import { collect } from './collect.ts'
import type { GCKind, MajorGC } from './event.ts'
import { gcSource, onGC } from './hook.ts'
import { Pauses, type PauseCounts } from './pauses.ts'

/** How often the other GCs' sums are told. */
const BEAT_MS = 1_000

/** A major GC as it is told to the endpoint. */
export interface ToldMajor extends MajorGC {
  /** Bytes in use, by V8's name of the space; read when it was told. */
  spaces: Record<string, number>
}

/** News `gc`: what has happened since the last. */
export interface GCBeat {
  source: ReturnType<typeof gcSource>
  pauses: Partial<Record<GCKind, PauseCounts>>
  majors: ToldMajor[]
}

/** On the main thread: tells each major GC at once, and the others as sums, once a second while there are any. */
export const gcOutpost: Outpost = ({ link }) => {
  const pauses = new Map<GCKind, Pauses>()
  let timer: NodeJS.Timeout | undefined
  const tell = (majors: ToldMajor[]) => {
    clearTimeout(timer)
    timer = undefined
    const counted = [...pauses].filter(([, { count }]) => count > 0).map(([kind, kinds]) => [kind, kinds.take()])
    link.tell('gc', { source: gcSource(), pauses: Object.fromEntries(counted), majors } as GCBeat)
  }
  const stop = onGC(gc => {
    const kinds = pauses.get(gc.kind) ?? new Pauses()
    pauses.set(gc.kind, kinds)
    kinds.add(gc.pauseMs, gc.forced)
    if (gc.kind === 'major') tell([{ ...gc, spaces: spaces() }])
    else timer ??= setTimeout(tell, BEAT_MS, []).unref()
  })
  link.offer({ 'gc.source': gcSource, 'gc.collect': collect })
  return () => {
    stop()
    clearTimeout(timer)
  }
}

function spaces(): Record<string, number> {
  return Object.fromEntries(v8.getHeapSpaceStatistics().map(({ space_name: name, space_used_size: used }) => [name, used]))
}
