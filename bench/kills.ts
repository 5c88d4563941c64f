/**
 * SIGKILL at random under load: 100 workers of a supervisor with 4 of them, then 10 supervisors.
 * `tsx bench/kills.ts [--quick]`
 */
import { pathToFileURL } from 'node:url'
import { buildCluster, type Cluster } from '../test/_cluster-build.ts'
import { Fleet } from '../test/_fleet.ts'
import { Newcomers } from '../test/_newcomers.ts'
import { Crowd, Killer, succeed, type Fates, type Occasion, type Shot, type Succession } from './_kills.ts'
import { median, sum } from './_stats.ts'
import { fixed, progress, publish } from './_table.ts'

const quick = process.argv.includes('--quick')
const workerKills = quick ? 10 : 100
const supervisorKills = quick ? 2 : 10
const workers = 4
const supervise = { readyMs: 250, crashLimit: 1_000 }
// The default of `wrap()`.
const lameduckMs = 2_000
const options = { connections: quick ? 40 : 200, thinkMs: 100, hangMs: 5_000, pauseMs: quick ? 500 : 2_000, newcomerMs: 10 }

interface Row {
  what: string
  kills: number
  fates: Fates
  /** Milliseconds, of each kill. */
  back: number[]
  gap: number[]
  newcomers?: Newcomers['ends']
  left: number
}

using built = await buildCluster()
const { command, status } = await import(pathToFileURL(built.main).href) as Cluster

/** A fleet from its start to its end, and what it left behind. */
async function fleetOf<T>(control: 'given' | 'default', run: (fleet: Fleet) => Promise<T>): Promise<{ result: T; left: string[] }> {
  const fleet = await Fleet.make({ built, workers, supervise, control, app: { options: { lameduckMs } } })
  try {
    await fleet.start()
    const result = await run(fleet)
    await fleet.stop()
    return { result, left: await fleet.leftovers() }
  } finally {
    await fleet.close()
  }
}

async function killWorkers(fleet: Fleet): Promise<{ fates: Fates; shots: Shot[]; newcomers: Newcomers['ends'] }> {
  const crowd = await Crowd.open(fleet, options, true)
  const newcomers = new Newcomers(fleet.port, { everyMs: options.newcomerMs, hangMs: options.hangMs })
  const killer = new Killer(fleet, command, newcomers, options)
  await killer.kill(workerKills, undefined, () => progress(`worker ${killer.killed}/${workerKills}`))
  await newcomers.stop()
  await crowd.stop(2 * options.hangMs)
  return { fates: crowd.fates(), shots: killer.shots, newcomers: newcomers.ends }
}

async function killSupervisors(fleet: Fleet): Promise<Succession[]> {
  const all: Succession[] = []
  for (let i = 1; i <= supervisorKills / 2; i++) {
    progress(`supervisor ${i}/${supervisorKills / 2}`)
    all.push(await succeed(fleet, status, options))
  }
  return all
}

const { result: { fates, shots, newcomers }, left } = await fleetOf('default', killWorkers)
const given = await fleetOf('given', killSupervisors)
const byDefault = await fleetOf('default', killSupervisors)
progress('')
const successions = [...given.result, ...byDefault.result]

const total = (all: Fates[]): Fates => {
  const add = (key: keyof Fates) => sum(all.map(one => one[key]))
  return {
    sent: add('sent'), ok: add('ok'), victims: add('victims'), others: add('others'), noticed: add('noticed'), unknown: add('unknown'), hung: add('hung'),
  }
}
const backOf = (kind?: Occasion) => shots.filter(({ occasion }) => kind === undefined || occasion === kind).flatMap(({ backMs }) => backMs ?? [])

const rows: Row[] = [
  { what: 'workers', kills: sum(shots.map(({ killed }) => killed)), fates, back: backOf(), gap: shots.map(({ gapMs }) => gapMs), newcomers, left: left.length },
  {
    what: 'supervisors', kills: successions.length, fates: total(successions.map(one => one.fates)),
    back: successions.map(({ answerMs }) => answerMs), gap: successions.map(({ bootMs, answerMs }) => bootMs + answerMs),
    left: given.left.length + byDefault.left.length,
  },
]
const count = (kind: Occasion) => shots.filter(({ occasion }) => occasion === kind).length
const reloads = shots.flatMap(({ reload }) => reload ?? [])
const most = (values: number[]) => fixed(Math.max(...values))

publish({
  bench: 'kills',
  title: `SIGKILL at random: ${workers} workers under ${options.connections} keep-alive connections, GET and POST, think time ${options.thinkMs} ms`,
  settings: { workers, ...supervise, lameduckMs, ...options },
  columns: [
    { title: 'killed', cell: ({ what }) => what },
    { title: 'kills', cell: ({ kills }) => kills },
    { title: 'requests', cell: it => it.fates.sent },
    { title: 'failed, of the killed', cell: it => it.fates.victims },
    { title: 'of others', cell: it => it.fates.others + it.fates.noticed },
    { title: 'of nobody', cell: it => it.fates.unknown },
    { title: 'hung', cell: it => it.fates.hung + (it.newcomers?.hung ?? 0) },
    { title: 'back, median ms', cell: ({ back }) => fixed(median(back)) },
    { title: 'most', cell: ({ back }) => most(back) },
    { title: 'a new client waits, median ms', cell: ({ gap }) => fixed(median(gap)) },
    { title: 'most', cell: ({ gap }) => most(gap) },
    { title: 'left behind', cell: it => it.left },
  ],
  partial: quick,
  rows: rows.map((row, index) => ({ ...row, ...(index === 0 ? { shots } : { successions }) })),
  notes: [
    `workers: ${count('one')} alone, ${count('two')} pairs, ${count('in a reload')} in a reload (${[...new Set(reloads)].map(how => `${how} ${
      reloads.filter(one => one === how).length}`).join(', ') || 'none'}). back: as many ready as before; at rest ${most([...backOf('one'), ...backOf('two')])} ms at most.`,
    `supervisors: the next one is started at once. back: from the start of its first worker to the first answer. Slow requests under way: ${
      sum(successions.map(({ slowAnswered }) => slowAnswered))} of ${sum(successions.map(({ slow }) => slow))} answered. Orphans gone after ${
      most(successions.map(({ goneMs }) => goneMs))} ms at most. Stale socket: ${successions.filter(({ stale }) => stale).length}; taken over: ${
      successions.filter(({ reachable }) => reachable).length}.`,
    'of the killed: requests on their connections. of others: requests that failed, and connections that ended, of processes that lived.',
    'of nobody: requests on new connections that no worker ever got. left behind: processes, sockets and temporary files.',
    `A new client waits: the longest time between two answers to them, one is sent every ${options.newcomerMs} ms; their own process stood still for ${
      most(shots.map(({ stallMs }) => stallMs))} ms at most.`,
  ],
})
