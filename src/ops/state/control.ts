import { LameduckError, type DrainReport } from '../../core/index.ts'
import { Problem } from '../http/problem.ts'
import type { Reply, Route } from '../http/route.ts'
import type { Bench, Outpost } from '../part.ts'
import { reportJson } from './report.ts'

/** What a drain that somebody asked for is called in the report. */
const REASON = 'maintenance endpoint'

/** Main's side of the verbs. */
export const controlOutpost: Outpost = ({ duck, link }) => {
  const known = () => {
    if (!duck) throw new Problem(409, 'ERR_LAMEDUCK_OPS_STATE', 'there is no duck here; allowed: ops({ duck })')
    return duck
  }
  link.offer({
    lameduck() {
      known().lameduck()
      return { state: known().state }
    },
    resume() {
      try {
        known().resume()
      } catch (error) {
        if (error instanceof LameduckError) throw new Problem(409, 'ERR_LAMEDUCK_OPS_STATE', error.message)
        throw error
      }
      return { state: known().state }
    },
    async drain({ exit, ...plan }: { exit: boolean; deadlineMs?: number; lameduckMs?: number; who: string }) {
      const { deadlineMs, lameduckMs, who } = plan
      try {
        const report = await known().drain({
          reason: `${REASON}: ${who}`,
          ...(deadlineMs !== undefined && { deadlineMs }),
          ...(lameduckMs !== undefined && { lameduckMs }),
        })
        if (exit) leave(report)
        return reportJson(report)
      } catch (error) {
        if (error instanceof LameduckError) throw new Problem(400, 'ERR_LAMEDUCK_OPS_PARAM', error.message)
        throw error
      }
    },
  })
  return () => {}
}

/**
 * Ends the process after a drain as a signal would have: through whatever listens for SIGTERM. In a while, so that the answer gets out.
 * Unless it is back in rotation.
 */
function leave({ outcome }: Pick<DrainReport, 'outcome'>): void {
  if (outcome !== 'resumed') setTimeout(() => process.kill(process.pid, 'SIGTERM'), 250)
}

/** Taking the process out of rotation, back, and down. */
export function controlRoutes({ main }: Bench): Route[] {
  const verb = (path: string, summary: string): Route => ({
    method: 'POST',
    path,
    scope: 'control',
    summary,
    problems: { 409: ['ERR_LAMEDUCK_OPS_STATE'], 503: ['ERR_LAMEDUCK_OPS_BLOCKED'] },
    success: { status: 200, types: ['application/json'], description: 'The `state` after it' },
    handler: async (): Promise<Reply> => ({ json: await main.call(path.slice(1)) }),
  })
  const ms = (description: string) => ({ in: 'query', type: 'integer', min: 0, max: 3_600_000, description }) as const
  return [
    verb('/lameduck', 'Out of rotation, serving on, until `/resume` or `/drain`'),
    verb('/resume', 'Back into rotation, from lame duck only'),
    {
      method: 'POST',
      path: '/drain',
      scope: 'control',
      summary: 'The whole drain; answers when it is over',
      description: 'As `duck.drain()`: it does not end the process by itself, unless `exit`.',
      params: {
        deadlineMs: ms('Hard limit, hooks included.'),
        lameduckMs: ms('How long to serve on, unready.'),
        exit: { in: 'query', type: 'boolean', default: false, description: 'SIGTERM to itself when it is over.' },
      },
      problems: { 409: ['ERR_LAMEDUCK_OPS_STATE'] },
      success: { status: 200, types: ['application/json'], description: 'The report' },
      handler: async ({ params, who }): Promise<Reply> => ({ json: await main.call('drain', { ...params, who: who.name }, { timeoutMs: 0 }) }),
    },
  ]
}
