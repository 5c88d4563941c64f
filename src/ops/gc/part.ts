import { Problem } from '../http/problem.ts'
import type { Route } from '../http/route.ts'
import type { Link } from '../link.ts'
import type { Part } from '../part.ts'
import type { Collected } from './collect.ts'
import { gcLog, type GcLog } from './log.ts'
import type { GCBeat } from './outpost.ts'
import { BOUNDS } from './pauses.ts'
import { GcStreams } from './stream.ts'

/** A full GC stops main for about a millisecond for each MB: not something to do in a loop. */
const COLLECT_EVERY_MS = 60_000
/** For main to begin with it; then it may take its time. */
const BEGIN_MS = 2_000
const COLLECT_MS = 60_000

/** `/gc`, `/gc/stream` and `POST /gc`. The first two work while main is blocked. */
export const gcPart: Part = ({ main }) => {
  const log = gcLog(main)
  const streams = new GcStreams(log)
  // Main may have told before this was here to hear it; when it is blocked, the first beat tells.
  main.call<GCBeat['source']>('gc.source').then(source => {
    if (log.source.source === undefined) log.source = source
  }, () => {})
  return { routes: [read(log), stream(streams), collect(main)], close: () => streams.close() }
}

function read(log: GcLog): Route {
  return {
    method: 'GET',
    path: '/gc',
    scope: 'read',
    summary: 'Garbage collections of the main thread',
    description: 'Pauses by kind since the endpoint started, and the last major GCs with the heap before and after. Percentiles are the '
      + 'upper bounds of their class in the histogram. `exact: false`: the sizes after were read when the GC was told, without what is '
      + 'young, and those before it are the last that were seen.',
    params: { last: { in: 'query', type: 'integer', description: 'How many major GCs to list.', default: 20, min: 0, max: 100 } },
    success: { status: 200, types: ['application/json'], description: 'source, since, pauses by kind, boundsMs, majors (oldest first)' },
    handler: ({ params }) => ({
      json: {
        source: log.source,
        since: new Date(log.since).toISOString(),
        pauses: log.pauses(),
        boundsMs: BOUNDS,
        majors: log.majors(log.last - (params['last'] as number)),
      },
    }),
  }
}

function stream(streams: GcStreams): Route {
  return {
    method: 'GET',
    path: '/gc/stream',
    scope: 'read',
    summary: 'Major garbage collections as they happen',
    description: 'Server-sent events: `gc` with a major GC as `GET /gc` lists it, and a comment every 15 s. With `Last-Event-ID` first '
      + 'what was missed, of the last 100. A reader that falls 64 KB behind is cut off; it ends with the endpoint, and within seconds of the token that it was opened with.',
    problems: { 429: ['ERR_LAMEDUCK_OPS_STREAMS'] },
    success: { status: 200, types: ['text/event-stream'], description: 'an endless stream' },
    handler: call => streams.serve(call),
  }
}

function collect(main: Link): Route {
  let nextAt = -Infinity
  return {
    method: 'POST',
    path: '/gc',
    scope: 'diag',
    summary: 'Collect all garbage of the main thread now',
    description: 'Stops it for about a millisecond for each MB in use. Once a minute at most. For the difference that it makes, not '
      + 'for its effect: V8 collects in time by itself.',
    problems: { 429: ['ERR_LAMEDUCK_OPS_COOLDOWN'], 503: ['ERR_LAMEDUCK_OPS_BLOCKED'] },
    success: { status: 200, types: ['application/json'], description: 'at, pauseMs, before, after, freedBytes' },
    async handler({ note }) {
      const retryAfterMs = Math.ceil(nextAt - performance.now())
      if (retryAfterMs > 0) throw new Problem(429, 'ERR_LAMEDUCK_OPS_COOLDOWN', 'one collection a minute', { retryAfterMs })
      const before = nextAt
      nextAt = performance.now() + COLLECT_EVERY_MS
      try {
        const collected = await main.call<Collected>('gc.collect', undefined, { beginMs: BEGIN_MS, timeoutMs: COLLECT_MS })
        const freedBytes = collected.before.used - collected.after.used
        note({ pauseMs: collected.pauseMs, freedBytes })
        return { json: { ...collected, freedBytes } }
      } catch (error) {
        // Refused by main, or never begun: it does not count.
        nextAt = before
        throw error
      }
    },
  }
}
