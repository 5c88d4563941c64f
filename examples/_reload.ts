/** The second part: a service under the supervisor is deployed to, twice, under load. The second of these releases is not good. */
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { freePorts } from '../bench/_ports.ts'
import type { ReloadResult } from '../src/cluster/index.ts'
import type { Built } from './_build.ts'
import { number, seconds } from './_format.ts'
import { Journal } from './_journal.ts'
import type { StartPart } from './_part.ts'
import { failures, outcomes, sentence, table, type Deploy, type Reloads } from './_reload-verdict.ts'
import { Rate, reloadView } from './_reload-view.ts'
import { Site, type Release } from './_site.ts'
import { connections, startTraffic } from './_traffic.ts'

const workers = 2
const DATABASE_URL = 'postgres://localhost/shop'
const first: Release = { RELEASE: '1.0', DATABASE_URL }
const next: { env: Release; expected: ReloadResult['outcome'] }[] = [
  { env: { RELEASE: '2.0', DATABASE_URL }, expected: 'reloaded' },
  // Somebody forgot something: its readiness check fails.
  { env: { RELEASE: '3.0' }, expected: 'rolled-back' },
]
/** By generation, from 1 on: the supervisor counts what it tries. */
const releases = [first, ...next.map(({ env }) => env)].map(({ RELEASE }) => RELEASE)
const releaseOf = (generation: number) => releases[generation - 1] ?? '?'

/** Until the first release is warm; under load in peace; and after each deploy. */
const warmMs = 800
const calmMs = 1_000
const restMs = 300
/** For how long a new worker must have been ready. */
const readyMs = 200
/** And until when. A good one takes half a second, and several on a machine that is busy. */
const readyTimeoutMs = (tookMs: number) => Math.round(Math.min(7_000, Math.max(4_000, 2 * tookMs)))
const redrawMs = 100

/** The supervisor, and where it is deployed to. It starts with the first release. */
async function startShop(built: Built, onLine: (line: string) => void) {
  const { supervise, describeStep } = await import(pathToFileURL(built.cluster).href) as typeof import('../src/cluster/index.ts')
  const site = new Site(built)
  site.deploy(first)
  const journal = join(built.folder, 'journal')
  const [port = NaN] = await freePorts(1)
  const output = new PassThrough()
  createInterface({ input: output }).on('line', onLine)
  const supervisor = supervise({
    script: site.script, env: { PORT: String(port), JOURNAL: journal }, execArgv: [], workers, surge: workers,
    readyMs, readyTimeoutMs: readyTimeoutMs(built.tookMs), heartbeatMs: 250, control: false, signals: false, stdout: output, stderr: output,
  })
  const kill = () => void supervisor.kill('npm start ends')
  process.on('exit', kill)
  void supervisor.stopped.then(() => process.off('exit', kill))
  await supervisor.ready
  return { site, port, journal: new Journal(journal), supervisor, describeStep }
}

export const reloadTwice: StartPart = (screen, building) => {
  const { colors, say } = screen
  /** Set while there is a reload. */
  let deployedAt: number | undefined
  const since = () => deployedAt === undefined ? undefined : performance.now() - deployedAt
  const quote = (line: string) => screen.event(since(), line, 'quoted')
  const starting = building.then((built) => startShop(built, quote))

  return {
    started: starting.then(({ supervisor }) => {
      const { workers, pid } = supervisor.status()
      return `a supervisor (pid ${pid}): ${workers.map(({ slot, pid }) => `worker ${slot} (pid ${pid})`).join(', ')}`
    }),
    async run() {
      say(`\n${colors.bold(colors.cyan('A supervisor reloads its workers'))}
The same service and load, ${workers} workers behind one port. A deploy: a symlink is changed, and
a reload starts new workers; when one of those is ready, an old one stops.
A client whose connection has ended opens another one.\n`)
      const reloads = await run(await starting)
      say(`\n${table(reloads, colors)}`)
      return { sentence: sentence(reloads), failures: failures(reloads) }
    },
  }

  async function run({ site, port, journal, supervisor, describeStep }: Awaited<typeof starting>): Promise<Reloads> {
    supervisor.onStep((step) => quote(describeStep(step)))
    const traffic = await startTraffic(port, true)
    const ghosts = () => traffic.ghosts(journal.requests())
    const rate = new Rate()
    const show = () => {
      const { open, served, errors, lost } = traffic.totals()
      const answered = served + errors
      screen.show(reloadView({
        status: supervisor.status(), releaseOf, ms: since(), open, answered, lost,
        rate: rate.next(answered), highest: rate.highest, ghosts: ghosts(), twice: journal.twice,
      }, connections))
    }
    const redraw = setInterval(show, redrawMs)
    await sleep(warmMs)
    const [before, began] = [traffic.totals().served, performance.now()]
    await sleep(calmMs)
    const calm = { release: first.RELEASE, durationMs: performance.now() - began, served: traffic.totals().served - before }

    const deploys: Deploy[] = []
    for (const { env, expected } of next) {
      deploys.push(await deploy(env, expected))
      await sleep(restMs)
    }
    const live = supervisor.status().workers.filter(({ state }) => state === 'ready').map(({ generation }) => releaseOf(generation))

    await traffic.stop(5_000)
    const stop = await supervisor.stop()
    await supervisor.closed
    clearInterval(redraw)
    screen.clear()
    journal.close()

    const executed = new Map<string, number>()
    for (const release of journal.requests().values()) executed.set(release, (executed.get(release) ?? 0) + 1)
    const { served, errors, lost } = traffic.totals()
    return {
      workers, first: calm, deploys, live: [...new Set(live)], served, errors, lost, ghosts: ghosts(), twice: journal.twice, executed, stop,
    }

    async function deploy(env: Release, expected: ReloadResult['outcome']): Promise<Deploy> {
      const before = traffic.totals()
      site.deploy(env)
      deployedAt = performance.now()
      screen.event(0, `release ${env.RELEASE} is deployed: ${before.open} connections open, ${before.inFlight} requests in flight`)
      show()
      const result = await supervisor.reload()
      const { served, lost } = traffic.totals()
      const end = `release ${env.RELEASE} is ${outcomes[result.outcome]} after ${seconds(result.durationMs)}`
      screen.event(since(), `${end}. ${number(lost - before.lost)} lost. ${result.reason ?? ''}`.trimEnd())
      deployedAt = undefined
      screen.clear()
      return { ...result, release: env.RELEASE, expected, served: served - before.served }
    }
  }
}
