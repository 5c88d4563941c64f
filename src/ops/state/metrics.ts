import { printable } from '../../core/printable.ts'
import type { Reply, Route } from '../http/route.ts'
import type { Bench } from '../part.ts'
import { requirePeer } from '../peer.ts'
import type { State } from './report.ts'

/** For the main thread to begin with the application's metrics, and then to have them. */
const BEGIN_MS = 150
const ANSWER_MS = 1_000

/** Between two lines about failures of different kinds. */
const NEXT_WORD_MS = 60_000

/** What prom-client has, as far as it is used here. */
interface PromClient {
  Registry: new () => { metrics(): Promise<string>; contentType: string }
  Gauge: new (options: MetricOptions) => { set(labels: Record<string, string>, value: number): void }
  Counter: new (options: MetricOptions) => { inc(labels: Record<string, string>, value: number): void }
}

interface MetricOptions {
  name: string
  help: string
  labelNames?: string[]
  registers: unknown[]
}

/** One metric: a value, or one for each value of a label. */
interface Metric {
  name: string
  help: string
  label?: string
  values: Record<string, number> | number
}

/** GC as the log of the endpoint has it. */
export interface GcTotals {
  /** By kind. */
  count: Record<string, number>
  pauseMs: Record<string, number>
}

/** Everything that lameduck itself knows, in Prometheus' base units: seconds, bytes. */
function metricsOf({ snapshot, blockedMs, ageMs, pause }: State, gc: GcTotals | undefined): Metric[] {
  const seconds = (ms: Record<string, number>) => Object.fromEntries(Object.entries(ms).map(([key, value]) => [key, value / 1_000]))
  const metrics: Metric[] = [
    { name: 'lameduck_main_blocked_seconds', help: 'For how long the main thread has not come to its timers; 0 when it does.', values: blockedMs / 1_000 },
    { name: 'lameduck_main_pause', help: '1 while the main thread stands still for a diagnosis.', values: pause ? 1 : 0 },
    { name: 'lameduck_state_age_seconds', help: 'How old what the main thread said of itself is.', values: ageMs / 1_000 },
  ]
  if (gc) {
    metrics.push(
      { name: 'lameduck_gc_total', help: 'Garbage collections by kind.', label: 'kind', values: gc.count },
      { name: 'lameduck_gc_pause_seconds_total', help: 'Time that garbage collections took, by kind.', label: 'kind', values: seconds(gc.pauseMs) },
    )
  }
  if (!snapshot) return metrics
  const { loop, memory, stats, drains, servedLate } = snapshot
  const { utilization, p50, p90, p99, max } = loop
  metrics.push(
    { name: 'lameduck_drains_total', help: 'Times that it has left rotation.', values: drains },
    { name: 'lameduck_served_late_total', help: 'Responses that were finished out of rotation.', values: servedLate },
    { name: 'lameduck_event_loop_delay_seconds', help: 'How long the event loop kept its timers waiting.', label: 'quantile', values: seconds({ 0.5: p50, 0.9: p90, 0.99: p99 }) },
    { name: 'lameduck_event_loop_delay_max_seconds', help: 'The longest of those.', values: max / 1_000 },
    { name: 'lameduck_event_loop_utilization', help: 'Of the time, how much the event loop was at work.', values: utilization },
    { name: 'lameduck_memory_bytes', help: 'Memory of the process and of the main thread\'s heap.', label: 'kind', values: { ...memory } },
  )
  if (!stats) return metrics
  const { total: _, ...byState } = stats.connections
  const states = ['running', 'lameduck', 'draining', 'drained', 'aborted'] as const
  return [
    ...metrics,
    { name: 'lameduck_state', help: '1 for the state it is in.', label: 'state', values: Object.fromEntries(states.map(state => [state, Number(state === stats.state)])) },
    { name: 'lameduck_connections', help: 'Open connections by state.', label: 'state', values: byState },
    { name: 'lameduck_requests_in_flight', help: 'Requests whose response has not ended.', values: stats.inFlight.length },
    { name: 'lameduck_connections_accepted_total', help: 'Connections since wrap().', values: stats.counters.accepted },
    { name: 'lameduck_responses_total', help: 'Responses since wrap(): served by the application, rejected with 503, refused after our FIN.', label: 'outcome', values: { served: stats.counters.served, rejected: stats.counters.rejected, refused: stats.counters.refused } },
  ]
}

/** As Prometheus' text. A registry of its own for each answer: what has gone (a kind, a state) is then not reported for ever. */
async function text(metrics: Metric[], { Registry, Gauge, Counter }: PromClient): Promise<{ body: string; type: string }> {
  const registry = new Registry()
  for (const { name, help, label, values } of metrics) {
    const options: MetricOptions = { name, help, ...(label !== undefined && { labelNames: [label] }), registers: [registry] }
    const counter = name.endsWith('_total') ? new Counter(options) : undefined
    const gauge = counter ? undefined : new Gauge(options)
    const all: [Record<string, string>, number][] = typeof values === 'number' ? [[{}, values]] : Object.entries(values).map(([key, value]) => [{ [label as string]: key }, value])
    for (const [labels, value] of all) {
      counter?.inc(labels, value)
      gauge?.set(labels, value)
    }
  }
  return { body: await registry.metrics(), type: registry.contentType }
}

/** `/metrics`. What the application adds, comes from the main thread, and is missing while that is blocked. */
export function metricRoutes({ main, view, settings, worker }: Bench, gc: () => GcTotals | undefined): Route[] {
  const load = () => requirePeer('prom-client', 'metrics') as PromClient
  // On the endpoint's own thread not before somebody asks: it is 8 MB of memory. On the application's not then: it takes 60 ms.
  if (!worker) try {
    load()
  } catch {
    // Whoever asks is told.
  }
  /** What was last said to be wrong with the application's, and when: Prometheus asks again and again. */
  let said: { why: string; at: number } | undefined
  const failed = (error: Error) => {
    const why = printable(error.message)
    if (said && (said.why === why || performance.now() - said.at < NEXT_WORD_MS)) return
    said = { why, at: performance.now() }
    main.tell('log', `metrics failed: ${why}`)
  }
  /** Undefined when there are none to be had. */
  const own = async (): Promise<string | undefined> => {
    if (view.blockedMs > 0) return undefined
    let begun = false
    const onBegin = () => {
      begun = true
    }
    try {
      // Once it has begun, what blocks the main thread is this itself.
      const text = await main.call<string>('metrics', undefined, { beginMs: BEGIN_MS, timeoutMs: ANSWER_MS, onBegin })
      said = undefined
      return text
    } catch (error) {
      // A main thread that hangs is another matter, which other metrics tell.
      if (begun) failed(error as Error)
      return undefined
    }
  }
  return [{
    method: 'GET',
    path: '/metrics',
    scope: 'read',
    summary: 'Prometheus metrics',
    description: 'Needs the package prom-client (optional peer), which is loaded when they are first asked for. Metrics of the application come with them: option `metrics`.',
    problems: { 501: ['ERR_LAMEDUCK_OPS_PEER'] },
    success: { status: 200, types: ['text/plain'], description: 'Prometheus\' text format' },
    async handler(): Promise<Reply> {
      const client = load()
      const [state, added] = await Promise.all([view.state(), settings.metrics ? own() : undefined])
      const metrics = metricsOf(state, gc())
      if (settings.metrics) metrics.push({ name: 'lameduck_app_metrics_up', help: '1 when the metrics of the application are among these; 0 when they failed, or the main thread is blocked.', values: Number(added !== undefined) })
      const { body, type } = await text(metrics, client)
      return { body: added ? `${body}\n${added}` : body, type }
    },
  }]
}
