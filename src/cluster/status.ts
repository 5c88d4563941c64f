import type { Crew } from './crew.ts'
import type { Member, MemberState } from './member.ts'
import type { System } from './system.ts'

/** One worker of a supervisor, or an empty slot. */
export interface WorkerStatus {
  slot: number
  /** Null in an empty slot. */
  pid: number | null
  generation: number
  /** `restarting`: empty, the next one is to be started; `gave up`: empty for good, until a reload. */
  state: Exclude<MemberState, 'gone'> | 'restarting' | 'gave up'
  uptimeMs: number
  /** Null where it is not known (yet): in flight, of servers that are not wrapped. */
  connections: number | null
  inFlight: number | null
  requests: number | null
  /** Bytes. */
  rss: number | null
  heapUsed: number | null
  /** Of this slot. */
  restarts: number
  /** Why it gave up, or is not ready. */
  error?: string
}

/** A moment of a supervisor. */
export interface Status {
  pid: number
  script: string
  /** Of the last reload that worked. */
  generation: number
  /** starting, running, reloading or stopping. */
  state: 'starting' | 'running' | 'reloading' | 'stopping'
  /** How many are wished for, and how many are ready. */
  wanted: number
  ready: number
  uptimeMs: number
  /** Old and new ones, those that drain included; by slot, oldest first. */
  workers: WorkerStatus[]
}

/** @param restarts Of its slot. */
function statusOf(member: Member, restarts: number, now: number): WorkerStatus {
  const { vitals, obstacle } = member
  return {
    slot: member.slot,
    pid: member.pid,
    generation: member.release.generation,
    state: member.state as WorkerStatus['state'],
    uptimeMs: Math.round(now - member.bornAt),
    connections: vitals?.connections ?? null,
    inFlight: vitals?.inFlight ?? null,
    requests: vitals?.requests ?? null,
    rss: vitals?.rss ?? null,
    heapUsed: vitals?.heapUsed ?? null,
    restarts,
    ...(obstacle !== undefined && { error: obstacle }),
  }
}

const UNKNOWN = { connections: null, inFlight: null, requests: null, rss: null, heapUsed: null }

/** Every worker, and every slot that has none and waits for one. */
export function workersOf(crew: Crew, system: System, stopping: boolean): WorkerStatus[] {
  const now = system.now()
  const list = [...crew.members].map(member => statusOf(member, crew.slots[member.slot]?.restarts ?? 0, now))
  for (const { index, current, next, restarts, release: { generation }, error } of crew.slots) {
    // Nobody comes any more.
    if (current || next || (stopping && !error)) continue
    const state = error ? 'gave up' as const : 'restarting' as const
    list.push({ slot: index, pid: null, generation, state, uptimeMs: 0, ...UNKNOWN, restarts, ...(error && { error: error.message }) })
  }
  return list.sort((a, b) => a.slot - b.slot || b.uptimeMs - a.uptimeMs)
}
