import type { Command } from 'commander'
import { act } from './act.ts'
import { cell } from './details.ts'
import type { Desk } from './desk.ts'
import { events } from './events.ts'
import { bytes, duration, oneLine, sparkline } from './format.ts'
import type { Io } from './io.ts'
import { onInterrupt } from './live.ts'

/** A heap at a moment, bytes. */
interface Sizes {
  used?: number
  rss?: number
}

/** One major garbage collection, as `/gc` and `/gc/stream` tell it. */
interface Collection {
  /** Milliseconds since 1970. */
  at?: number
  kind?: string
  pauseMs?: number
  before?: Sizes
  after?: Sizes
  forced?: boolean
  freedBytes?: number
}

interface Collections {
  source?: { source?: string; why?: string }
  since?: string
  /** By kind. */
  pauses?: Record<string, Record<string, unknown>>
  majors?: Collection[]
}

const used = (sizes: Sizes | undefined) => sizes?.used === undefined ? '-' : bytes(sizes.used)
const timeOf = (at: number | undefined) => at === undefined ? '-' : new Date(at).toISOString()

/** A line for it: stable columns, so that it can be cut and grepped. */
function collectionLine({ at, kind = 'major', pauseMs, before, after, forced }: Collection): string {
  const parts = [timeOf(at), oneLine(kind), (pauseMs === undefined ? '-' : duration(pauseMs)).padStart(10), `${used(before).padStart(10)} -> ${used(after).padStart(10)}`, forced ? 'forced' : '']
  return parts.join('  ').trimEnd()
}

/** The pauses by kind: of what can be told in one cell. */
function pausesText(desk: Desk, pauses: Record<string, Record<string, unknown>>): string {
  const kinds = Object.entries(pauses)
  const keys = [...new Set(kinds.flatMap(([, report]) => Object.keys(report).filter(key => typeof report[key] === 'number')))]
  return desk.table([{ title: 'kind' }, ...keys.map(key => ({ title: key.replace(/Ms$/, ''), right: true }))],
    kinds.map(([kind, report]) => [kind, ...keys.map(key => cell(key, report[key]))]))
}

function collectionsText(desk: Desk, { source, since, pauses = {}, majors = [] }: Collections): string {
  const told = source?.source ?? `none${source?.why ? `: ${source.why}` : ''}`
  const columns = ['at', 'pause', 'before', 'after', 'rss', ''].map((title, i) => ({ title, right: i > 0 && i < 5 }))
  const rows = majors.map(({ at, pauseMs, before, after, forced }) =>
    [timeOf(at), pauseMs === undefined ? '-' : duration(pauseMs), used(before), used(after), after?.rss === undefined ? '-' : bytes(after.rss), forced ? 'forced' : ''])
  const lefts = majors.map(({ after }) => after?.used).filter(left => left !== undefined)
  return [
    `since ${since ?? '-'}, source ${oneLine(told)}`,
    Object.keys(pauses).length === 0 ? 'no garbage collection yet' : pausesText(desk, pauses),
    ...(rows.length > 0 ? [`${desk.title('major collections')}  ${sparkline(lefts)}\n${desk.table(columns, rows)}`] : []),
  ].join('\n\n')
}

async function followGc(desk: Desk): Promise<void> {
  const client = await desk.client()
  const interrupt = new AbortController()
  const stop = onInterrupt(desk.io, () => interrupt.abort())
  try {
    const answer = await client.open('GET', '/gc/stream', { accept: 'text/event-stream', signal: interrupt.signal })
    for await (const { data } of events(answer)) {
      const collection = read(data)
      if (collection) await desk.print(desk.json ? JSON.stringify(collection) : collectionLine(collection))
    }
    await desk.remark('lameduck: the stream has ended: the endpoint closed it')
  } catch (error) {
    // Ctrl-C is how this is left.
    if (!interrupt.signal.aborted) throw error
  } finally {
    stop()
  }
}

function read(data: string): Collection | undefined {
  try {
    return JSON.parse(data) as Collection
  } catch {
    return undefined
  }
}

/** What is known of one kind of memory, as the leak watch tells it. */
interface Series {
  verdict?: string
  reason?: string
  level?: number
  perGc?: number
  perHour?: number
  confidence?: number
  window?: { gcs?: number; from?: number; to?: number } | null
  evidence?: { points?: [number, number][]; [more: string]: unknown } | null
}

const MEANING: Record<string, string> = {
  warming: 'too early to tell: not enough major GCs yet',
  steady: 'no leak to be seen',
  watch: 'it grows; whether that ends is not clear yet',
  suspected: 'a leak, or a cache that still fills: it has grown by a lot, evenly, and does not slow down',
}

function seriesText(desk: Desk, name: string, { verdict = '-', reason, level, perGc, perHour, confidence, window, evidence }: Series): string {
  const paint = verdict === 'suspected' ? desk.colour.red : verdict === 'watch' ? desk.colour.yellow : desk.colour.green
  const { points = [], ...facts } = evidence ?? {}
  const lines = [
    `${desk.title(oneLine(name))}: ${paint(oneLine(verdict))}${reason ? `, ${oneLine(reason)}` : ''}`,
    level === undefined ? '' : `  level ${bytes(level)}${perGc === undefined ? '' : `, ${bytes(Math.round(perGc))} per major GC`}${perHour === undefined ? '' : `, ${bytes(Math.round(perHour))} per hour`}${confidence === undefined ? '' : `, confidence ${Math.round(confidence * 100)} %`}`,
    window ? `  window: ${window.gcs ?? '-'} major GCs${window.from !== undefined && window.to !== undefined ? ` in ${duration(window.to - window.from)}` : ''}` : '',
    points.length > 0 ? `  ${sparkline(points.map(([, value]) => value))}  ${bytes(points[0]?.[1] ?? 0)} -> ${bytes(points.at(-1)?.[1] ?? 0)}` : '',
    Object.keys(facts).length > 0 ? `  evidence: ${Object.entries(facts).map(([key, value]) => `${key} ${key === 'highest' ? bytes(Number(value)) : cell(key, value)}`).join(', ')}` : '',
  ]
  return lines.filter(Boolean).join('\n')
}

/** What the leak watch says, as `/leaks` answers. */
interface Leaks {
  verdict?: string
  growing?: string[]
  gcs?: number
  forced?: number
  series?: Record<string, Series>
  /** Stacks that grew between two sampling profiles. */
  grown?: { stacks?: { grew: number; stack: string[] }[]; problem?: string } | null
}

function leaksText(desk: Desk, { verdict = '-', gcs = 0, forced = 0, series = {}, grown }: Leaks): string {
  const stacks = (grown?.stacks ?? []).map(({ grew, stack }) => [`grew by ${bytes(grew)}:`, ...stack.map(frame => `  ${frame}`)].map(oneLine).join('\n'))
  return [
    `${desk.title('verdict')}: ${oneLine(verdict)}. ${MEANING[verdict] ?? ''}`.trimEnd(),
    `${gcs} major GCs seen${forced > 0 ? `, of which ${forced} were forced and do not count` : ''}`,
    ...Object.entries(series).map(([name, one]) => seriesText(desk, name, one)),
    ...(grown?.problem ? [`sampling profiles: ${oneLine(grown.problem)}`] : []),
    ...stacks,
  ].join('\n')
}

/** Garbage collections, and what they leave behind. */
export function addGc(ops: Command, io: Io): void {
  const gc = ops.command('gc').description('garbage collections: totals, pauses, what they left')
    .option('-f, --follow', 'each major one as it happens, until Ctrl-C; one JSON object a line with --json')
    .action(act<{ follow?: boolean }>(io, async (desk, { follow }) => {
      if (follow) return followGc(desk)
      const answer = await (await desk.client()).get<Collections>('/gc')
      return desk.show(answer, () => collectionsText(desk, answer))
    }))
  gc.command('now').description('a major GC now (blocks the process for a moment; at most one a minute)').action(act(io, async desk => {
    const answer = await (await desk.client()).post<Collection>('/gc')
    const { pauseMs = 0, before, after, freedBytes = 0 } = answer
    await desk.show(answer, () => `${used(before)} -> ${used(after)}: ${bytes(freedBytes)} freed, the process stood still for ${duration(pauseMs)}`)
  }))
  ops.command('leaks').description("the leak watch's verdict, with its evidence").action(act(io, async desk => {
    const answer = await (await desk.client()).get<Leaks>('/leaks')
    await desk.show(answer, () => leaksText(desk, answer))
  }))
}
