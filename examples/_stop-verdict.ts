/** What the stops have shown: a table, one sentence, and whether lameduck kept its word. */
import { constants } from 'node:os'
import Table from 'cli-table3'
import type { Exit } from './_child.ts'
import { number, requests, seconds, type Colors } from './_format.ts'

/** How the run of one variant ended. */
export interface Outcome extends Exit {
  variant: string
  /** Requests in flight, as the clients saw it, as SIGTERM was sent. */
  inFlight: number
  /** Answered with a 2xx status, in the whole run. */
  served: number
  /** Those of them that were answered after SIGTERM. */
  servedAfter: number
  /** Answered with any other status. */
  errors: number
  lost: number
  ghosts: number
}

/** With fewer requests in flight at SIGTERM, a run proves nothing. */
const leastInFlight = 10

/** As a shell or Kubernetes shows it: 128 + the signal's number. */
export function exitCode({ code, signal }: Pick<Exit, 'code' | 'signal'>): string {
  return String(signal ? 128 + constants.signals[signal] : code)
}

export function table(outcomes: readonly Outcome[], colors: Colors): string {
  const good = (is: boolean, text: string) => is ? colors.green(text) : colors.red(text)
  const table = new Table({
    head: ['', 'served', 'after\nSIGTERM', 'lost', 'executed but\nunanswered', 'drain\ntime', 'exit\ncode'].map(colors.bold),
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right', 'right'],
    style: { head: [], border: [], compact: true },
  })
  for (const outcome of outcomes) {
    const { variant, served, servedAfter, lost, ghosts, drainMs, killed, code } = outcome
    table.push([
      colors.bold(variant), number(served), number(servedAfter),
      good(lost === 0, number(lost)), good(ghosts === 0, number(ghosts)),
      good(!killed, `${killed ? '> ' : ''}${seconds(drainMs)}`), good(code === 0, exitCode(outcome)),
    ])
  }
  return table.toString()
}

export function sentence(outcomes: readonly Outcome[]): string {
  return `${outcomes.map(clause).join('; ')}.`
}

function clause(outcome: Outcome): string {
  const { variant, served, servedAfter, errors, lost, ghosts, drainMs, killed } = outcome
  const sent = served + errors + lost
  const what = lost === 0
    ? `answered all ${requests(sent)}, ${number(servedAfter)} of them after SIGTERM`
    : `lost ${number(lost)} of ${requests(sent)}, ${ghosts === 0 ? 'none' : number(ghosts)} of them executed`
  const wrong = errors === 0 ? '' : `, answered ${number(errors)} with an error`
  const end = killed ? `had to be killed after ${seconds(drainMs)}` : `exited with ${exitCode(outcome)} after ${seconds(drainMs)}`
  return `${variant} ${what}${wrong}, and ${end}`
}

/** Why this is no success; empty when it is one. */
export function failures(outcomes: readonly Outcome[]): string[] {
  const found: string[] = []
  const lameduck = outcomes.find(({ variant }) => variant === 'lameduck')
  if (!lameduck) return ['lameduck did not run']
  const { lost, ghosts, errors, code, killed, drainMs } = lameduck
  if (lost > 0) found.push(`lameduck lost ${requests(lost)}`)
  if (ghosts > 0) found.push(`lameduck left ${requests(ghosts)} executed but unanswered`)
  if (errors > 0) found.push(`lameduck answered ${requests(errors)} with an error status`)
  if (killed) found.push(`lameduck was not done after ${seconds(drainMs)} and had to be killed`)
  else if (code !== 0) found.push(`lameduck ended with exit code ${exitCode(lameduck)}, not 0`)
  for (const { variant, inFlight } of outcomes) {
    if (inFlight >= leastInFlight) continue
    const few = `${requests(inFlight)} in flight at SIGTERM, at least ${leastInFlight} are needed`
    found.push(`the load proves nothing about ${variant}: ${few}`)
  }
  return found
}
