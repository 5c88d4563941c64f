import { Problem } from '../http/problem.ts'
import { DEFAULTS } from '../options.ts'
import { SERIES, type SeriesName } from './leak-watch.ts'

/** When a rule's condition holds: looked at after each major GC that we did not cause. */
export type Condition =
  /** More than so many bytes are left, or more than so many percent of V8's heap limit (of the used heap only). */
  | { series: SeriesName; overBytes: number }
  | { series: 'usedHeap'; overPercent: number }
  /** The leak watch's verdict is this or worse. */
  | { leak: 'watch' | 'suspected' }

/** What a rule does: a job, or a line in the audit trail. */
export type Action = 'snapshot' | 'profile' | 'log'

/** A rule, checked, with its defaults. */
export interface Rule {
  /** Lower-case letters, digits and hyphens; at most 64. */
  name: string
  when: Condition
  /** The condition must hold at so many major GCs … Default 1. */
  times: number
  /** … within so many milliseconds. Default 600,000. */
  withinMs: number
  action: Action
  /** As with `POST /heap/snapshots`: when, isolate, redact, compress, force; or with `POST /heap/profile`: seconds, intervalBytes. */
  params: Record<string, unknown>
  /** From one act to the next. Default 3,600,000. */
  cooldownMs: number
  /** It acts so many times at most. Default 1. */
  count: number
  /** It ends so long after it was armed. Default 7 days. */
  ttlMs: number
}

/** A rule as one writes it: all but `name`, `when` and `action` have defaults. */
export type RuleInput = Pick<Rule, 'name' | 'when' | 'action'> & Partial<Rule>

const DAY = 86_400_000

const NUMBERS = {
  times: { default: 1, min: 1, max: 100 },
  withinMs: { default: 600_000, min: 1_000, max: DAY },
  cooldownMs: { default: 3_600_000, min: 1_000, max: 30 * DAY },
  count: { default: 1, min: 1, max: 100 },
  ttlMs: { default: 7 * DAY, min: 1_000, max: 365 * DAY },
} as const

const flag = (value: unknown) => typeof value === 'boolean'
const whole = (min: number, max: number) => (value: unknown) => Number.isInteger(value) && value as number >= min && value as number <= max

const params = (profileSeconds: number): Record<Action, Record<string, (value: unknown) => boolean>> => ({
  snapshot: { when: value => value === 'now' || value === 'after-gc', isolate: flag, redact: flag, compress: flag, force: flag },
  profile: { seconds: whole(1, profileSeconds), intervalBytes: whole(1_024, 2 ** 26) },
  log: {},
})

const MEMBERS = new Set(['name', 'when', 'action', 'params', ...Object.keys(NUMBERS)])

function refuse(member: string, allowed: string): never {
  throw new Problem(400, 'ERR_LAMEDUCK_OPS_RULE', `${member}: ${allowed}`, { member })
}

function object(member: string, value: unknown, keys: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(member, 'an object')
  const unknown = Object.keys(value).find(key => !keys.includes(key))
  if (unknown !== undefined) refuse(`${member}.${unknown.slice(0, 40)}`, keys.length > 0 ? `unknown; known are ${keys.join(', ')}` : 'unknown')
  return value as Record<string, unknown>
}

function checkCondition(value: unknown): Condition {
  const { leak, series, overBytes, overPercent } = object('when', value, ['leak', 'series', 'overBytes', 'overPercent'])
  const members = [leak, overBytes, overPercent].filter(member => member !== undefined)
  if (members.length !== 1) refuse('when', 'one of leak, overBytes and overPercent')
  if (leak !== undefined) {
    if (series !== undefined) refuse('when.series', 'not with leak, which looks at all of them')
    if (leak !== 'watch' && leak !== 'suspected') refuse('when.leak', 'watch or suspected')
    return { leak }
  }
  if (!SERIES.includes(series as SeriesName)) refuse('when.series', SERIES.join(', '))
  if (overBytes !== undefined) {
    if (!whole(1, Number.MAX_SAFE_INTEGER)(overBytes)) refuse('when.overBytes', 'a whole number from 1 on')
    return { series: series as SeriesName, overBytes: overBytes as number }
  }
  if (series !== 'usedHeap') refuse('when.overPercent', 'of the heap limit: with series usedHeap only')
  if (typeof overPercent !== 'number' || !(overPercent > 0 && overPercent < 100)) refuse('when.overPercent', 'more than 0 and less than 100')
  return { series, overPercent }
}

/**
 * Checks a rule and fills in its defaults.
 *
 * @param profileSeconds What a profile may take: `heavy.profileSeconds`.
 * @throws {Problem} 400 `ERR_LAMEDUCK_OPS_RULE`, with the `member` that is wrong; from code, too.
 */
export function checkRule(input: unknown, profileSeconds: number = DEFAULTS.heavy.profileSeconds): Rule {
  const given = object('rule', input, [...MEMBERS])
  const { name, action, params: own = {} } = given
  if (typeof name !== 'string' || !/^[a-z0-9][a-z0-9-]{0,63}$/.test(name)) refuse('name', 'lower-case letters, digits and hyphens, 64 at most')
  if (action !== 'snapshot' && action !== 'profile' && action !== 'log') refuse('action', 'snapshot, profile or log')
  const when = checkCondition(given['when'])
  if ('leak' in when && when.leak === 'watch' && action === 'snapshot') {
    refuse('action', 'a snapshot is taken of what is suspected only: on watch, profile or log')
  }
  const known = params(profileSeconds)[action]
  for (const [key, value] of Object.entries(object('params', own, Object.keys(known)))) {
    if (!known[key]?.(value)) refuse(`params.${key}`, 'not a value that the action takes')
  }
  const number = (key: keyof typeof NUMBERS) => {
    const { default: usual, min, max } = NUMBERS[key]
    const value = given[key] ?? usual
    return whole(min, max)(value) ? value as number : refuse(key, `a whole number, ${min} to ${max}`)
  }
  return {
    name, when, action, params: { ...(own as Record<string, unknown>) },
    times: number('times'), withinMs: number('withinMs'), cooldownMs: number('cooldownMs'), count: number('count'), ttlMs: number('ttlMs'),
  }
}
