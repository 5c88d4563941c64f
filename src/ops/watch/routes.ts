import { LameduckError } from '../../core/index.ts'
import { messageOf } from '../../core/thrown.ts'
import { Problem } from '../http/problem.ts'
import type { Call, Param, Route } from '../http/route.ts'
import { needScope } from '../http/scope.ts'
import type { Bench, Part } from '../part.ts'
import { Growers, type Grown, type GrowersOptions } from './growers.ts'
import { LeakWatch, SERIES, type LeakReport, type Sample } from './leak-watch.ts'
import { checkRule, type Rule, type RuleInput } from './rule.ts'
import { Rules, type RulesLedger, type Started, type Why } from './rules.ts'

/** What the leak watch and the rules need of the other parts. */
export interface WatchOptions {
  /** Major GCs, in order, forced ones marked. @returns What stops it. */
  onMajor: (listener: (sample: Sample) => void) => () => void
  /** Starts what a rule says. */
  act: (rule: Rule, why: Why) => Promise<Started>
  /** V8's heap limit (`heap_size_limit`) on the main thread, bytes. */
  limit: number
  /** Takes a sampling heap profile of the main thread. Without it, `watch` names no stacks. */
  profile?: GrowersOptions['profile']
  /** Armed from the start. */
  rules?: readonly RuleInput[]
  /** From before a crash of the thread: in place of `rules`, which are in it as far as nobody disarmed them. */
  ledger?: RulesLedger | undefined
  /** What a rule's profile may take. Default 300. */
  profileSeconds?: number
  /** Snapshots and profiles that rules take in the life of the process. Default 10. */
  perProcess?: number
}

/** `GET /leaks`: the watch's report, and which stacks grew. */
export interface LeaksReply extends LeakReport {
  /** Null until it was on `watch`. */
  grown: Grown | null
}

const MB = 2 ** 20
const mb = (bytes: number) => `${(bytes / MB).toFixed(1)} MB`

/** The report for people. */
function leaksText({ verdict, gcs, forced, series, grown }: LeaksReply): string {
  const lines = [`${verdict} (${gcs} major GCs, ${forced} of them forced and left out)`]
  for (const name of SERIES) {
    const { verdict: own, reason, level, perGc, perHour, confidence } = series[name]
    lines.push(`${name.padEnd(12)} ${own.padEnd(9)} ${mb(level).padStart(10)}  ${reason}`)
    if (own === 'watch' || own === 'suspected') {
      lines.push(`${' '.repeat(13)}${mb(perGc)} per GC, ${mb(perHour)} per hour, confidence ${Math.round(confidence * 100)} %`)
    }
  }
  if (grown?.problem) lines.push(`profiles: ${grown.problem}`)
  for (const { grew, stack } of grown?.stacks ?? []) lines.push(`grew by ${mb(grew)}:`, ...stack.slice(0, 8).map(frame => `  ${frame}`))
  return `${lines.join('\n')}\n`
}

const RULE_NAME: Param = { in: 'path', type: 'string', description: 'The name of the rule.', required: true, pattern: '[a-z0-9][a-z0-9-]{0,63}' }

const RULE_BODY: Record<string, Param> = {
  when: {
    in: 'body', type: 'object', required: true,
    description: '`{"leak": "suspected" | "watch"}`, `{"series": "usedHeap" | "arrayBuffers" | "external" | "rss", "overBytes": n}` or ' +
      '`{"series": "usedHeap", "overPercent": n}` (of the heap limit). Looked at after each major GC that was not forced.',
  },
  times: { in: 'body', type: 'integer', min: 1, max: 100, description: 'It must hold at so many major GCs. Default 1.' },
  withinMs: { in: 'body', type: 'integer', min: 1_000, max: 86_400_000, description: 'Within this time. Default 600,000.' },
  action: { in: 'body', type: 'string', enum: ['snapshot', 'profile', 'log'], required: true, description: 'A snapshot only of what is `suspected`.' },
  params: { in: 'body', type: 'object', description: 'As with `POST /heap/snapshots` (when, isolate, redact, compress, force) or `POST /heap/profile` (seconds, intervalBytes).' },
  cooldownMs: { in: 'body', type: 'integer', min: 1_000, max: 2_592_000_000, description: 'From one act to the next. Default 3,600,000.' },
  count: { in: 'body', type: 'integer', min: 1, max: 100, description: 'It acts so many times. Default 1.' },
  ttlMs: { in: 'body', type: 'integer', min: 1_000, max: 31_536_000_000, description: 'It ends so long after it was armed. Default 7 days.' },
}

/** A rule, checked by the endpoint's limits. */
type Check = (input: unknown) => Rule

/** A snapshot that is not redacted holds live strings: who may not ask for one may not arm a rule that takes one; and who may take none at all, none. */
function checkScope(rule: Rule, { who }: Call): void {
  if (rule.action !== 'log') needScope(who, 'diag', `a rule that takes a ${rule.action} needs scope diag`)
  if (rule.action === 'snapshot' && rule.params['redact'] === false) needScope(who, 'secrets', 'a snapshot that is not redacted needs scope secrets')
}

function ruleRoutes(rules: Rules, check: Check): Route[] {
  return [
    {
      method: 'GET', path: '/rules', scope: 'read', summary: 'The rules that are armed',
      success: { status: 200, types: ['application/json'], description: '`{"rules": […], "left": n}`: what is left of the maximum per process.' },
      handler: () => ({ json: { rules: rules.list(), left: rules.left } }),
    },
    {
      method: 'PUT', path: '/rules/{name}', scope: 'control', summary: 'Arms a rule; one of this name begins anew',
      params: { name: RULE_NAME, ...RULE_BODY },
      problems: { 400: ['ERR_LAMEDUCK_OPS_RULE'], 403: ['ERR_LAMEDUCK_OPS_SCOPE'], 409: ['ERR_LAMEDUCK_OPS_RULES_FULL'] },
      success: { status: 200, types: ['application/json'], description: 'The rule, with its defaults.' },
      handler: call => {
        const given = Object.fromEntries(Object.entries(call.params).filter(([, value]) => value !== undefined))
        const rule = check(given)
        checkScope(rule, call)
        call.note({ rule: rule.name, action: rule.action })
        return { json: rules.arm(rule, call.who.name) }
      },
    },
    {
      method: 'DELETE', path: '/rules/{name}', scope: 'control', summary: 'Disarms a rule',
      params: { name: RULE_NAME }, problems: { 404: ['ERR_LAMEDUCK_OPS_NO_RULE'] },
      success: { status: 204, types: [], description: 'It is gone.' },
      handler: ({ params }) => {
        if (!rules.disarm(params['name'] as string)) throw new Problem(404, 'ERR_LAMEDUCK_OPS_NO_RULE', 'no rule of this name is armed')
        return { status: 204 }
      },
    },
  ]
}

/** @throws {LameduckError} `ERR_LAMEDUCK_OPTION`: at the start of the process this is a wrong option, not a wrong request. */
function armAll(rules: Rules, given: readonly RuleInput[], check: Check): void {
  for (const rule of given) {
    try {
      rules.arm(check(rule), 'code')
    } catch (error) {
      throw new LameduckError('ERR_LAMEDUCK_OPTION', `rules: ${messageOf(error)}`)
    }
  }
}

/** The leak watch and the rules: `/leaks`, `/rules`. */
export function watchPart({ onMajor, act, limit, profile, rules: given = [], ledger, profileSeconds, perProcess = 10 }: WatchOptions): Part {
  const check: Check = rule => checkRule(rule, profileSeconds)
  return ({ audit, main }: Bench) => {
    const watch = new LeakWatch({ limit })
    const growers = profile && new Growers({ profile })
    const rules = new Rules({
      act, limit, perProcess, ledger,
      onLedger: kept => main.tell('rules', kept),
      log: ({ name, action }, { reason }, outcome, detail) => {
        // An audit trail that cannot be written is told by whoever keeps it; a rule has nobody to refuse.
        audit.write({ event: 'rule', who: `rule:${name}`, from: 'process', action, reason, outcome, ...(detail !== undefined && { detail }) })
          .catch(() => {})
      },
    })
    if (!ledger) armAll(rules, given, check)
    main.offer({
      'rules.arm': (rule: RuleInput) => rules.arm(check(rule), 'code'),
      'rules.disarm': (name: string) => rules.disarm(name),
      'rules.list': () => rules.list(),
    })
    const stop = onMajor(sample => {
      const changed = watch.add(sample)
      const grows = watch.verdict === 'watch' || watch.verdict === 'suspected'
      if (grows && (changed || growers?.failed)) void growers?.look()
      rules.look(sample, watch.verdict)
    })
    const leaks: Route = {
      method: 'GET', path: '/leaks', scope: 'read', summary: 'Whether memory leaks, as far as major GCs show it',
      description: 'The verdict per series with slope, confidence, window and evidence: docs/leak-watch.md.',
      params: { format: { in: 'query', type: 'string', enum: ['json', 'text'], default: 'json', description: 'text: for people.' } },
      success: { status: 200, types: ['application/json', 'text/plain'], description: 'The verdict, per series and in all.' },
      handler: ({ params }) => {
        const reply: LeaksReply = { ...watch.report(), grown: growers?.latest ?? null }
        return params['format'] === 'text' ? { body: leaksText(reply), type: 'text/plain; charset=utf-8' } : { json: reply }
      },
    }
    return {
      routes: [leaks, ...ruleRoutes(rules, check)],
      close: () => {
        stop()
        growers?.stop()
      },
    }
  }
}
