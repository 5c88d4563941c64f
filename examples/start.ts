/**
 * npm start: an Express service under load is stopped, and deployed to. What becomes of the requests?
 *
 *   stop     one process gets a real SIGTERM: once with lameduck, and with plain server.close() and stoppable
 *   reload   workers under the supervisor are reloaded: with a release that is good, and with one that is not
 *
 * `npm start -- reload` runs that part only.
 */
import { constants } from 'node:os'
import { buildPrograms } from './_build.ts'
import { seconds } from './_format.ts'
import type { Verdict } from './_part.ts'
import { reloadTwice } from './_reload.ts'
import { createScreen } from './_screen.ts'
import { stopThree } from './_stop.ts'
import { connections } from './_traffic.ts'

/** All of it together never takes longer. */
const overallMs = 38_000

const all = { stop: stopThree, reload: reloadTwice }
const isPart = (name: string): name is keyof typeof all => Object.hasOwn(all, name)

const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(all)
for (const name of names) {
  if (isPart(name)) continue
  console.error(`npm start: there is no part "${name}"; there are: ${Object.keys(all).join(', ')}`)
  process.exit(2)
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => process.exit(128 + constants.signals[signal])) // the services go with us: see _child.ts and _reload.ts
}
process.stdout.on('error', () => process.exit(1)) // `npm start | head`
setTimeout(() => {
  console.error(`\nnpm start: not done after ${seconds(overallMs)}: this machine is too busy for the figures to mean anything.`)
  process.exit(1)
}, overallMs).unref()

const screen = createScreen()
const { colors, say } = screen

say(`${colors.bold('Deploys under load: which requests get lost?')}

An Express service with ${connections} keep-alive connections, GET and POST.
${colors.bold('lost')}: sent before the client saw the connection end, and never answered.
${colors.bold('executed but unanswered')}: lost, but the service ran it: a retry runs it twice.`)

say('\nStarting ...')
const building = buildPrograms()
const parts = names.filter(isPart).map((name) => all[name](screen, building))
const started = await Promise.all(parts.map((part) => part.started))
for (const line of started) say(`Started ${line}`)

const verdicts: Verdict[] = []
for (const part of parts) verdicts.push(await part.run())

for (const { sentence } of verdicts) say(`\n${sentence}`)
const failures = verdicts.flatMap((verdict) => verdict.failures)
for (const failure of failures) say(colors.red(`FAILED: ${failure}.`))
process.exitCode = failures.length > 0 ? 1 : 0
