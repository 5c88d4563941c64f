import { Problem } from '../http/problem.ts'
import type { Route } from '../http/route.ts'
import type { Bench, Outpost } from '../part.ts'

/** A logger whose level can be changed: pino, winston, or anything with a `level`. */
export interface Leveled {
  level: string
  /** pino's, winston's: the levels there are. */
  levels?: { values?: Record<string, number> } | Record<string, number>
}

interface Changed {
  before: string
  timer: NodeJS.Timeout
  until: number
}

/** The names of a logger's levels, if it tells. */
function levelsOf({ levels }: Leveled): string[] | undefined {
  if (typeof levels !== 'object' || levels === null) return undefined
  const values = 'values' in levels && typeof levels.values === 'object' && levels.values !== null ? levels.values : levels
  return Object.keys(values)
}

/** @throws {Problem} 409 for a logger that does not let it: a getter without a setter, a frozen object. */
function setLevel(name: string, logger: Leveled, level: string): void {
  try {
    logger.level = level
  } catch {
    throw new Problem(409, 'ERR_LAMEDUCK_OPS_LOGGER_FIXED', `the level of ${name} cannot be set`)
  }
}

/** Main's side: the loggers live there. */
export function loggersOutpost(loggers: Record<string, Leveled>): Outpost {
  return ({ link }) => {
    const changed = new Map<string, Changed>()
    const known = (name: string) => {
      const logger = Object.hasOwn(loggers, name) ? loggers[name] : undefined
      if (!logger) throw new Problem(404, 'ERR_LAMEDUCK_OPS_LOGGER', `there is no logger ${name}; allowed: ${Object.keys(loggers).join(', ') || 'none'}`)
      return logger
    }
    const show = (name: string) => {
      const [logger, change] = [known(name), changed.get(name)]
      const levels = levelsOf(logger)
      return { name, level: logger.level, ...(levels && { levels }), ...(change && { before: change.before, until: new Date(change.until).toISOString() }) }
    }
    const back = (name: string) => {
      const change = changed.get(name)
      if (!change) return
      clearTimeout(change.timer)
      changed.delete(name)
      setLevel(name, known(name), change.before)
    }
    const quietly = (name: string) => {
      try {
        back(name)
      } catch {
        // It took the level before, and does not take it back: nobody is waiting for an answer.
      }
    }
    link.offer({
      'loggers.list': () => Object.keys(loggers).map(show),
      'loggers.get': ({ name }: { name: string }) => show(name),
      'loggers.set'({ name, level, ttlMs }: { name: string; level: string; ttlMs: number }) {
        const logger = known(name)
        const levels = levelsOf(logger)
        const allowed = !levels || levels.includes(level) || level === 'silent'
        if (!allowed) throw new Problem(400, 'ERR_LAMEDUCK_OPS_PARAM', `level is ${level}; allowed: ${levels.join(', ')}`, { param: 'level' })
        const before = changed.get(name)?.before ?? logger.level
        setLevel(name, logger, level)
        clearTimeout(changed.get(name)?.timer)
        changed.set(name, { before, until: Date.now() + ttlMs, timer: setTimeout(() => quietly(name), ttlMs).unref() })
        return show(name)
      },
      'loggers.reset'({ name }: { name: string }) {
        back(name)
        return show(name)
      },
    })
    return () => {
      for (const name of changed.keys()) quietly(name)
    }
  }
}

/** Levels of the application's loggers, for a while. */
export function loggerRoutes({ main }: Bench): Route[] {
  const name = { in: 'path', type: 'string', required: true, pattern: '[\\w.:-]{1,64}', description: 'As given in `loggers`.' } as const
  const success = (description: string) => ({ status: 200, types: ['application/json'], description })
  const problems = { 404: ['ERR_LAMEDUCK_OPS_LOGGER'], 503: ['ERR_LAMEDUCK_OPS_BLOCKED'] }
  const fixed = { ...problems, 409: ['ERR_LAMEDUCK_OPS_LOGGER_FIXED'] }
  return [
    {
      method: 'GET', path: '/loggers', scope: 'read', summary: 'The loggers and their levels', success: success('An array of `name`, `level`, `levels`'),
      handler: async () => ({ json: await main.call('loggers.list') }),
    },
    {
      method: 'GET', path: '/loggers/{name}', scope: 'read', summary: 'A logger\'s level', params: { name }, problems, success: success('`name`, `level`; while changed: `before`, `until`'),
      handler: async ({ params }) => ({ json: await main.call('loggers.get', params) }),
    },
    {
      method: 'PUT', path: '/loggers/{name}', scope: 'control', summary: 'Another level, for a while', problems: fixed,
      params: {
        name,
        level: { in: 'body', type: 'string', required: true, min: 1, max: 32, pattern: '\\w+', description: 'One of its levels.' },
        ttlMs: { in: 'body', type: 'integer', default: 600_000, min: 1_000, max: 86_400_000, description: 'After that it is as before.' },
      },
      success: success('`name`, `level`, `before`, `until`'),
      handler: async ({ params }) => ({ json: await main.call('loggers.set', params) }),
    },
    {
      method: 'DELETE', path: '/loggers/{name}', scope: 'control', summary: 'Back to the level before', params: { name }, problems: fixed, success: success('`name`, `level`'),
      handler: async ({ params }) => ({ json: await main.call('loggers.reset', params) }),
    },
  ]
}
