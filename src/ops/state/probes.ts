import type { Readiness } from '../../core/index.ts'
import { Problem } from '../http/problem.ts'
import type { Reply, Route } from '../http/route.ts'
import type { Bench } from '../part.ts'

/** What a probe is told: nothing that helps a stranger. */
function verdict(ok: boolean): Reply {
  return { status: ok ? 200 : 503, json: { status: ok ? 'ok' : 'unavailable' } }
}

/**
 * Probes, for everybody who can reach the listener. Liveness includes the event loop: one that has not come to its timers for
 * `stuckMs` is dead, unless it stands still for a diagnosis.
 */
export function probeRoutes({ main, view, settings }: Bench): Route[] {
  const { timeoutMs } = settings.health
  let asking: Promise<Readiness | undefined> | undefined
  // A main thread that misses a few beats, as by a long GC, is no reason to leave the rotation; a pause of our own making is, and will last.
  // Nor is one worth a question that has not come to its timers for longer than an answer may take: strangers' connections would wait for it.
  const inVain = () => view.pause !== undefined || view.blockedMs > timeoutMs
  // For a call 0 would be for ever.
  const ask = () => view.unless(inVain, main.call<Readiness>('readiness', undefined, { timeoutMs: Math.max(1, timeoutMs) }))
  // One question at a time, however many ask: anybody may, and it is the application's thread that answers.
  const readiness = async (): Promise<Readiness | undefined> => inVain() ? undefined : asking ??= ask().finally(() => {
    asking = undefined
  })
  const probe = (path: string, summary: string, description: string, handler: Route['handler']): Route => ({
    method: 'GET',
    path,
    scope: null,
    summary,
    description,
    success: { status: 200, types: ['application/json'], description: '`{"status":"ok"}`; 503 with `{"status":"unavailable"}` otherwise' },
    handler,
  })
  return [
    probe('/livez', 'Whether the process lives', 'Fails when the main thread has been blocked for longer than `health.stuckMs`, unless a diagnostic pause (a heap snapshot) is known to be under way.',
      () => verdict(view.blockedMs <= settings.health.stuckMs || view.pause !== undefined)),
    probe('/readyz', 'Whether the process is in rotation', 'As the readiness endpoint of the server: state and checks. Fails when the main thread does not answer within `health.timeoutMs`, and at once during a diagnostic pause.', async () => verdict((await readiness())?.ready === true)),
    {
      ...probe('/health/{group}', 'A named group of checks', 'Groups are configured: `health.groups`. An unknown one is 404.', async ({ params }) => {
        const group = params.group as string
        const names = Object.hasOwn(settings.health.groups, group) ? settings.health.groups[group] : undefined
        if (!names) throw new Problem(404, 'ERR_LAMEDUCK_OPS_NOT_FOUND', 'there is nothing here')
        const checks = (await readiness())?.checks ?? {}
        return verdict(names.every(name => checks[name] === 'ok'))
      }),
      params: { group: { in: 'path', type: 'string', required: true, pattern: '[\\w-]{1,64}', description: 'Its name.' } },
      problems: { 404: ['ERR_LAMEDUCK_OPS_NOT_FOUND'] },
    },
  ]
}
