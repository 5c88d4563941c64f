import type { Command } from 'commander'
import { act, number, span } from './act.ts'
import { listIn } from './answers.ts'
import { cell } from './details.ts'
import type { Desk } from './desk.ts'
import { usage } from './failure.ts'
import { bytes, duration, parseBytes } from './format.ts'
import type { Io } from './io.ts'

/** When a rule holds, as the endpoint has it. */
interface Condition {
  leak?: string
  series?: string
  overBytes?: number
  overPercent?: number
}

interface Rule {
  name: string
  when: Condition
  times?: number
  withinMs?: number
  action: string
  state?: string
  by?: string
  acted?: number
  count?: number
  expiresAt?: string
  lastJob?: string
  lastProblem?: string
}

interface ArmOptions {
  leak?: string
  over?: string
  series?: string
  action?: string
  times?: number
  within?: number
  cooldown?: number
  count?: number
  ttl?: number
  isolate?: boolean
  afterGc?: boolean
}

function whenText({ leak, series = '', overBytes, overPercent }: Condition): string {
  if (leak !== undefined) return `leak ${leak}`
  return `${series} over ${overPercent === undefined ? bytes(overBytes ?? 0) : `${overPercent} % of the limit`}`
}

function rulesText(desk: Desk, rules: Rule[]): string {
  if (rules.length === 0) return 'no rule is armed'
  const columns = ['name', 'when', 'then', 'state', 'acted', 'by', 'until', 'last'].map(title => ({ title }))
  return desk.table(columns, rules.map(({ name, when, times = 1, withinMs = 0, action, state, acted, count, by, expiresAt, lastJob, lastProblem }) => [
    name, `${whenText(when)}${times > 1 ? `, ${times} times in ${duration(withinMs)}` : ''}`, action, cell('', state), `${acted ?? 0} of ${count ?? '-'}`,
    cell('', by), cell('', expiresAt), lastProblem ?? lastJob ?? '-',
  ]))
}

function condition({ leak, over, series = 'usedHeap' }: ArmOptions): Condition {
  if ((leak === undefined) === (over === undefined)) throw usage('a rule needs one of --leak and --over')
  if (leak !== undefined) return { leak }
  const [, percent] = /^(\d+(?:\.\d+)?)%$/.exec(over as string) ?? []
  if (percent !== undefined) return { series, overPercent: Number(percent) }
  const overBytes = parseBytes(over as string)
  if (overBytes === undefined) throw usage(`--over is '${over}'; allowed: a share of the heap limit such as 70%, or a size such as 300M`)
  return { series, overBytes }
}

function ruleOf(options: ArmOptions): object {
  const { leak, action = leak === 'watch' ? 'profile' : 'snapshot', times, within, cooldown, count, ttl, isolate, afterGc } = options
  const params = { ...(isolate && { isolate }), ...(afterGc && { when: 'after-gc' }) }
  return {
    when: condition(options),
    action,
    ...(times !== undefined && { times }),
    ...(within !== undefined && { withinMs: within }),
    ...(cooldown !== undefined && { cooldownMs: cooldown }),
    ...(count !== undefined && { count }),
    ...(ttl !== undefined && { ttlMs: ttl }),
    ...(Object.keys(params).length > 0 && { params }),
  }
}

/** Rules that look after each major GC, and act by themselves. */
export function addRules(ops: Command, io: Io): void {
  const rules = ops.command('rules').description('rules that act after a major GC by themselves: which are armed')
    .action(act(io, async desk => {
      const answer = await (await desk.client()).get('/rules')
      await desk.show(answer, () => rulesText(desk, listIn(answer, 'rules')))
    }))
  rules.command('arm <name>').description('arm one; one of this name begins anew')
    .option('--leak <verdict>', 'when the leak watch says so, or worse: watch or suspected')
    .option('--over <level>', 'when more than that is left: 70% of the heap limit, or 300M')
    .option('--series <name>', 'of what: usedHeap, arrayBuffers, external or rss (default: usedHeap)')
    .option('--times <n>', 'at so many major GCs …', number('--times', { least: 1, whole: true }))
    .option('--within <time>', '… in this time (default: 10m)', span('--within'))
    .option('--action <what>', 'snapshot, profile or log (default: snapshot; of --leak watch, which is not sure yet, profile)')
    .option('--isolate', 'the snapshot: out of rotation first')
    .option('--after-gc', 'the snapshot: right after the next major GC')
    .option('--cooldown <time>', 'from one act to the next (default: 1h)', span('--cooldown'))
    .option('--count <n>', 'acts so many times at most (default: 1)', number('--count', { least: 1, whole: true }))
    .option('--ttl <time>', 'disarmed after that (default: 7d)', span('--ttl'))
    .addHelpText('after', `
Examples:
  lameduck ops rules arm leak --leak suspected --isolate
  lameduck ops rules arm full --over 70% --times 3 --within 10m --isolate
`)
    .action(act<ArmOptions>(io, async (desk, options, name = '') => {
      const body = ruleOf(options)
      const answer = await (await desk.client()).json<Rule>('PUT', `/rules/${encodeURIComponent(name)}`, { body })
      await desk.show(answer, () => rulesText(desk, [answer]))
    }))
  rules.command('disarm <name>').description('disarm one').action(act(io, async (desk, _, name = '') => {
    await (await desk.client()).json('DELETE', `/rules/${encodeURIComponent(name)}`)
    await desk.show({ name }, `${name} is disarmed`)
  }))
}
