/** What the reloads have shown: a table, one sentence, and whether the supervisor kept its word. */
import Table from 'cli-table3'
import type { ReloadResult, StopReport } from '../src/cluster/index.ts'
import { number, requests, seconds, type Colors } from './_format.ts'

/** A release, and what became of it. */
export interface Deploy extends ReloadResult {
  release: string
  /** What is right to become of it. */
  expected: ReloadResult['outcome']
  /** Answered with a 2xx status from the beginning of its reload to the end. */
  served: number
}

/** How the service fared through all reloads. */
export interface Reloads {
  workers: number
  /** Its first release, under load and in peace. */
  first: { release: string; durationMs: number; served: number }
  deploys: Deploy[]
  /** The releases of the workers that were ready at the end. */
  live: string[]
  /** Answered with a 2xx status, in the whole run. */
  served: number
  /** Answered with any other status. */
  errors: number
  lost: number
  /** Executed, and not answered. */
  ghosts: number
  /** Executed more than once. */
  twice: number
  /** How many requests each release has executed. */
  executed: ReadonlyMap<string, number>
  stop: StopReport
}

/** With fewer answers during a reload, it proves nothing. */
const leastServed = 300

/** In words. */
export const outcomes = { 'reloaded': 'live', 'rolled-back': 'rolled back', 'mixed': 'half live' } as const
/** Without the worker: its pid is nobody's business any more. */
const reason = ({ reason = '' }: Deploy) => reason.replace(/^worker \d+ \(.*?\): /, '')
const perSecond = (served: number, durationMs: number) => number(Math.round(served / durationMs * 1_000))
const total = (executed: Reloads['executed']) => [...executed.values()].reduce((sum, count) => sum + count, 0)

export function table(reloads: Reloads, colors: Colors): string {
  const { workers, first, deploys, served, executed } = reloads
  const table = new Table({
    head: ['', 'became', 'after', 'fewest\nready', 'answered\nmeanwhile', 'per\nsecond', 'executed\nby it'].map(colors.bold),
    colAligns: ['left', 'left', 'right', 'right', 'right', 'right', 'right'],
    style: { head: [], border: [], compact: true },
  })
  const name = (release: string) => colors.bold(`release ${release}`)
  const by = (release: string) => number(executed.get(release) ?? 0)
  table.push([name(first.release), 'live', '', '', number(first.served), perSecond(first.served, first.durationMs), by(first.release)])
  for (const { release, expected, outcome, durationMs, readyLeast, served } of deploys) {
    const good = (is: boolean, text: string) => is ? colors.green(text) : colors.red(text)
    table.push([
      name(release), good(outcome === expected, outcomes[outcome]), seconds(durationMs),
      good(readyLeast >= workers, `${readyLeast} of ${workers}`), number(served), perSecond(served, durationMs), by(release),
    ])
  }
  table.push([colors.bold('in all'), '', '', '', number(served), '', number(total(executed))])
  return table.toString()
}

export function sentence({ workers, deploys, live, served, errors, lost, ghosts, twice }: Reloads): string {
  const sent = served + errors + lost
  const least = Math.min(...deploys.map(({ readyLeast }) => readyLeast))
  const what = lost === 0 ? `answered all ${requests(sent)}` : `lost ${number(lost)} of ${requests(sent)}, ${number(ghosts)} of them executed,`
  const wrong = errors === 0 ? '' : `${lost === 0 ? ',' : ''} answered ${number(errors)} with an error,`
  const reloads = `${deploys.length} reload${deploys.length === 1 ? '' : 's'}`
  const clauses = deploys.map((deploy) => {
    const { release, outcome, durationMs } = deploy
    return `release ${release} was ${outcomes[outcome]} after ${seconds(durationMs)}${deploy.reason === undefined ? '' : ` (${reason(deploy)})`}`
  })
  return `lameduck's supervisor ${what}${wrong} through ${reloads}, with ${least} of ${workers} workers ready at the least: ` +
    `${clauses.join('; ')}; ${live.join(' and ') || 'none'} serve${live.length > 1 ? '' : 's'} on. ` +
    `${number(lost)} lost, ${number(ghosts)} executed but unanswered, ${number(twice)} executed twice.`
}

/** Why this is no success; empty when it is one. */
export function failures(reloads: Reloads): string[] {
  const { lost, ghosts, twice, errors, stop } = reloads
  const found: string[] = []
  if (lost > 0) found.push(`the supervisor lost ${requests(lost)}`)
  if (ghosts > 0) found.push(`the supervisor left ${requests(ghosts)} executed but unanswered`)
  if (twice > 0) found.push(`the supervisor had ${requests(twice)} executed twice`)
  if (errors > 0) found.push(`the supervisor answered ${requests(errors)} with an error status`)
  for (const deploy of reloads.deploys) found.push(...deployFailures(deploy, reloads))
  const right = reloads.deploys.findLast(({ expected }) => expected === 'reloaded')?.release ?? reloads.first.release
  if (reloads.live.join() !== right) found.push(`at the end ${reloads.live.join(' and ') || 'no release'} was live, not ${right}`)
  if (stop.code !== 0) found.push(`the supervisor's end was ${stop.outcome}: ${stop.error?.message ?? stop.reason}`)
  return found
}

function deployFailures(deploy: Deploy, { workers, executed }: Reloads): string[] {
  const { release, expected, outcome, readyLeast, served } = deploy
  const found: string[] = []
  const count = executed.get(release) ?? 0
  if (outcome !== expected) {
    const why = deploy.reason === undefined ? '' : ` (${reason(deploy)})`
    found.push(`release ${release} ought to be ${outcomes[expected]}, and was ${outcomes[outcome]}${why}`)
  } else if (expected === 'reloaded' && count === 0) found.push(`release ${release} was live, and executed nothing`)
  else if (expected === 'rolled-back' && count > 0) found.push(`release ${release} was rolled back, and had executed ${requests(count)}`)
  if (readyLeast < workers) found.push(`only ${readyLeast} of ${workers} workers were ready while release ${release} was deployed`)
  if (served < leastServed) {
    found.push(`the load proves nothing about release ${release}: ${requests(served)} answered meanwhile, at least ${leastServed} are needed`)
  }
  return found
}
