/** The first part: one process gets SIGTERM under load. Once with lameduck, and with plain server.close() and stoppable. */
import { setTimeout as sleep } from 'node:timers/promises'
import { startService, type Service } from './_child.ts'
import { number, seconds } from './_format.ts'
import type { StartPart } from './_part.ts'
import { exitCode, failures, sentence, table, type Outcome } from './_stop-verdict.ts'
import { stopView } from './_stop-view.ts'
import { connections, startTraffic } from './_traffic.ts'

const variants = ['lameduck', 'server.close()', 'stoppable']
const warmMs = 1_000
/** What does not end by itself is killed: what Kubernetes does after 30 s. lameduck's defaults take 2. */
const limitMs = 4_500
const redrawMs = 100

export const stopThree: StartPart = (screen, building) => {
  const { colors, say } = screen
  /** Set while a run has got its SIGTERM. */
  let signalAt: number | undefined
  const since = () => signalAt === undefined ? undefined : performance.now() - signalAt
  const quote = (line: string) => screen.event(since(), line, 'quoted')
  // All at once: it takes longer than anything else, and whoever has no load does not disturb the others.
  const services = building.then(({ serve }) => Promise.all(variants.map((variant) => startService(serve, variant, quote))))

  return {
    started: services.then((all) => `${all.length} services: ${all.map(({ variant, pid }) => `${variant} (pid ${pid})`).join(', ')}`),
    async run() {
      say(`\n${colors.bold(colors.cyan('One process gets SIGTERM'))}
As in any deploy. Three ways to stop, one by one, under the same load.
A client whose connection has ended goes on elsewhere, as behind a balancer.`)
      const outcomes: Outcome[] = []
      for (const service of await services) {
        say(`\n${colors.bold(`${outcomes.length + 1}/${variants.length} ${service.variant}`)}`)
        outcomes.push(await run(service))
      }
      say(`\n${table(outcomes, colors)}`)
      return { sentence: sentence(outcomes), failures: failures(outcomes) }
    },
  }

  async function run(service: Service): Promise<Outcome> {
    const traffic = await startTraffic(service.port)
    const ghosts = () => traffic.ghosts(service.executed())
    const show = () => {
      const { open, inFlight, served, errors, lost } = traffic.totals()
      const state = service.state ?? (signalAt === undefined ? 'running' : 'stopping')
      screen.show(stopView({ state, ms: since(), open, inFlight, answered: served + errors, lost, ghosts: ghosts() }, connections))
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
    const end = exit.killed ? `not done after ${seconds(exit.drainMs)}: SIGKILL` : `gone, exit code ${exitCode(exit)}`
    screen.event(since(), `${end}. ${number(lost)} lost, ${number(ghosts())} executed but unanswered`)
    signalAt = undefined
    const servedAfter = served - before.served
    return { variant: service.variant, ...exit, inFlight: before.inFlight, served, servedAfter, errors, lost, ghosts: ghosts() }
  }
}
