import { Problem } from '../http/problem.ts'
import type { Reply, Route } from '../http/route.ts'
import { needScope } from '../http/scope.ts'
import type { Bench } from '../part.ts'
import { reportJson, type State } from './report.ts'

/** What every answer about the state says of its own age. */
function freshness({ ageMs, blockedMs, pause }: State): Record<string, unknown> {
  return { asOfMs: ageMs, blockedMs, ...(pause && { pause }) }
}

function known({ snapshot }: State): NonNullable<State['snapshot']> {
  if (!snapshot) throw new Problem(503, 'ERR_LAMEDUCK_OPS_BLOCKED', 'the main thread has not said anything yet')
  return snapshot
}

/** Who holds the drain: what is in flight, and the kinds of connections that are neither idle nor gone. */
function holding(snapshot: NonNullable<State['snapshot']>): unknown[] {
  const { stats } = snapshot
  if (!stats || stats.state === 'running') return []
  const others = (['upgraded', 'handshake', 'fresh', 'closing'] as const).filter(state => stats.connections[state] > 0)
  return [...stats.inFlight, ...others.map(state => ({ state, count: stats.connections[state] }))]
}

/** Looking at the process: its state, its connections, its event loop. */
export function stateRoutes({ main, view }: Bench): Route[] {
  // It does not change: told also while the main thread hangs.
  let info: Promise<unknown> | undefined
  const askInfo = () => (info ??= main.call('info').catch((error: unknown) => {
    info = undefined
    throw error
  }))
  askInfo().catch(() => {})
  const json = (description: string) => ({ status: 200, types: ['application/json'], description })
  const get = (path: string, summary: string, says: string, answer: (state: State) => unknown): Route => ({
    method: 'GET',
    path,
    scope: 'read',
    summary,
    success: json(says),
    async handler(): Promise<Reply> {
      const state = await view.state()
      return { json: { ...freshness(state), ...(answer(state) as object) } }
    },
  })
  return [
    {
      method: 'GET',
      path: '/info',
      scope: 'read',
      summary: 'What runs here: application, versions, process',
      success: json('`application`, `node`, `lameduck`, `pid`, `startedAt`, …'),
      handler: async () => ({ json: await askInfo() }),
    },
    get('/state', 'The state of the drain, memory and event loop', '`state`, `connections`, `memory`, `loop`, `drains`, `lastReport`', state => {
      const { at: _, lastReport, stats, ...rest } = known(state)
      return { ...(stats && { state: stats.state, connections: stats.connections, counters: stats.counters }), ...rest, lastReport: lastReport && reportJson(lastReport) }
    }),
    get('/connections', 'Connections by state, and each request in flight', '`connections` by state; `inFlight`, oldest first, with method, path (never the query), age, peer and bytes; `holding`: what a drain waits for', state => {
      const snapshot = known(state)
      const { stats } = snapshot
      return { state: stats?.state, connections: stats?.connections, inFlight: stats?.inFlight ?? [], holding: holding(snapshot) }
    }),
    get('/event-loop', 'How long the event loop keeps its timers waiting', '`loop`: percentiles in milliseconds; `utilization` 0 to 1; `blockedMs`: for how long it has not come to its timers', state => ({ loop: known(state).loop })),
    {
      method: 'GET',
      path: '/report',
      scope: 'diag',
      summary: 'Node\'s diagnostic report',
      description: 'Without environment variables, arguments and addresses unless asked for; `environment` needs scope `secrets`.',
      params: {
        environment: { in: 'query', type: 'boolean', default: false, description: 'With environment variables and arguments.' },
        network: { in: 'query', type: 'boolean', default: false, description: 'With addresses of peers and interfaces.' },
      },
      problems: { 403: ['ERR_LAMEDUCK_OPS_SCOPE'], 503: ['ERR_LAMEDUCK_OPS_BLOCKED', 'ERR_LAMEDUCK_OPS_AUDIT'] },
      success: json('The report, as `process.report.getReport()` makes it'),
      async handler({ params, who }): Promise<Reply> {
        if (params.environment === true) needScope(who, 'secrets', 'the environment needs scope secrets')
        return { json: await main.call('report', params, { timeoutMs: 10_000 }) }
      },
    },
  ]
}
