/**
 * npm start: an Express service under load gets a real SIGTERM. What becomes of the requests?
 * Once with lameduck, and under the same load with plain server.close() and with stoppable.
 */
import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { startService, type Service } from './_child.ts'
import { createScreen } from './_screen.ts'
import { connections, startTraffic } from './_traffic.ts'
import { exitCode, failures, number, seconds, sentence, table, type Outcome } from './_verdict.ts'

const variants = ['lameduck', 'server.close()', 'stoppable']
const warmMs = 1_500
/** What does not end by itself is killed: what Kubernetes does after 30 s. */
const limitMs = 5_000
/** All of it together never takes longer. */
const overallMs = 28_000
const redrawMs = 100

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => process.exit(128 + constants.signals[signal])) // the service goes with us: see _child.ts
}
process.stdout.on('error', () => process.exit(1)) // `npm start | head`
setTimeout(() => {
  console.error(`\nnpm start: not done after ${seconds(overallMs)}: this machine is too busy for the figures to mean anything.`)
  process.exit(1)
}, overallMs).unref()

const screen = createScreen(connections)
const { colors, say } = screen

say(`${colors.bold('SIGTERM under load: which requests get lost?')}

An Express service with ${connections} keep-alive connections, GET and POST, gets a real
SIGTERM, as in any deploy. Three ways to stop, one by one, under the same load.
A client whose connection has ended goes on elsewhere, as behind a balancer.

${colors.bold('lost')}: sent before the client saw the connection end, and never answered.
${colors.bold('executed but unanswered')}: lost, but the service ran it: a retry runs it twice.`)

/** Set while a run has got its SIGTERM. */
let signalAt: number | undefined
const since = () => signalAt === undefined ? undefined : performance.now() - signalAt

// All at once: it takes longer than anything else, and whoever has no load does not disturb the others.
say(`\nStarting ${variants.length} services ...`)
const quote = (line: string) => screen.event(since(), line, 'quoted')
const services = await Promise.all(variants.map((variant) => startService(variant, quote)))
say(`Started: ${services.map(({ variant, pid }) => `${variant} (pid ${pid})`).join(', ')}`)

const outcomes: Outcome[] = []
for (const [index, service] of services.entries()) {
  say(`\n${colors.bold(colors.cyan(`${index + 1}/${services.length} ${service.variant}`))}`)
  outcomes.push(await run(service))
}

say(`\n${table(outcomes, colors)}\n`)
say(sentence(outcomes))
const failed = failures(outcomes)
for (const failure of failed) say(colors.red(`FAILED: ${failure}.`))
process.exitCode = failed.length > 0 ? 1 : 0

async function run(service: Service): Promise<Outcome> {
  const traffic = await startTraffic(service.port)
  const ghosts = () => traffic.ghosts(service.executed())
  const show = () => {
    const { open, inFlight, served, errors, lost } = traffic.totals()
    const state = service.state ?? (signalAt === undefined ? 'running' : 'stopping')
    screen.show({ state, ms: since(), open, inFlight, answered: served + errors, lost, ghosts: ghosts() })
  }
  const redraw = setInterval(show, redrawMs)
  await sleep(warmMs)

  const before = traffic.totals()
  signalAt = performance.now()
  screen.event(0, `SIGTERM to pid ${service.pid}: ${before.open} connections open, ${before.inFlight} requests in flight`)
  show()
  const exit = await service.terminate(limitMs)
  await traffic.stop()
  clearInterval(redraw)
  screen.clear()

  const { served, errors, lost } = traffic.totals()
  const end = exit.killed ? 'not done yet: SIGKILL' : `gone, exit code ${exitCode(exit)}`
  screen.event(since(), `${end}. ${number(lost)} lost, ${number(ghosts())} executed but unanswered`)
  signalAt = undefined
  const servedAfter = served - before.served
  return { variant: service.variant, ...exit, inFlight: before.inFlight, served, servedAfter, errors, lost, ghosts: ghosts() }
}
