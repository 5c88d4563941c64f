import type { Command } from 'commander'
import { act } from './act.ts'
import { details } from './details.ts'
import type { Desk } from './desk.ts'
import { bytes, duration, oneLine, percent } from './format.ts'
import { write, type Io } from './io.ts'

/** How old an answer is, and whether the main thread hangs. */
interface Freshness {
  asOfMs?: number
  blockedMs?: number
  pause?: { what: string; since: number }
}

interface InFlight {
  method?: string
  path?: string
  ageMs?: number
  remote?: string
  bytesRead?: number
  bytesWritten?: number
  /** Of what holds a drain without being a request: how many connections in which state. */
  state?: string
  count?: number
}

interface Connections extends Freshness {
  state?: string
  connections?: Record<string, number>
  inFlight: InFlight[]
  holding: InFlight[]
}

interface Loop {
  p50: number
  p90: number
  p99: number
  max: number
  mean: number
  utilization: number
}

interface State extends Freshness {
  state?: string
  connections?: Record<string, number>
  counters?: Record<string, number>
  uptimeMs?: number
  memory?: Record<string, number>
  loop?: Loop
  drains?: number
  servedLate?: number
  lastReport?: Record<string, unknown>
}

/** What must be known before anything else is read. */
async function warn(desk: Desk, { asOfMs = 0, blockedMs = 0, pause }: Freshness): Promise<void> {
  if (blockedMs <= 0) return
  const why = pause ? `for a diagnosis: ${oneLine(pause.what)}` : 'see where: lameduck ops stack'
  await desk.remark(`lameduck: the main thread has been blocked for ${duration(blockedMs)} (${why}); this is ${duration(asOfMs)} old`)
}

const counts = (all: Record<string, number>) => Object.entries(all).filter(([name]) => name !== 'total').map(([name, count]) => `${count} ${name}`).join(', ')

function pairs(desk: Desk, list: [string, string | undefined][]): string {
  const known = list.filter((pair): pair is [string, string] => pair[1] !== undefined)
  const width = Math.max(...known.map(([name]) => name.length))
  return known.map(([name, value]) => `${desk.colour.bold(name.padEnd(width))}  ${oneLine(value)}`).join('\n')
}

const loopLine = ({ p50, p90, p99, max, mean, utilization }: Loop) =>
  `p50 ${duration(p50)}, p90 ${duration(p90)}, p99 ${duration(p99)}, max ${duration(max)}, mean ${duration(mean)}; ${percent(utilization)} busy`

function stateText(desk: Desk, { state, connections, counters, uptimeMs, memory, loop, drains, servedLate, lastReport }: State): string {
  const text = pairs(desk, [
    ['state', state ?? '(no server is wrapped)'],
    ['uptime', uptimeMs === undefined ? undefined : duration(uptimeMs)],
    ['connections', connections && `${connections.total ?? 0}: ${counts(connections)}`],
    ['since start', counters && counts(counters)],
    ['memory', memory && Object.entries(memory).map(([name, value]) => `${name} ${bytes(value)}`).join(', ')],
    ['event loop', loop && loopLine(loop)],
    ['drains', drains === undefined ? undefined : `${drains} begun, ${servedLate ?? 0} responses finished out of rotation`],
  ])
  return lastReport ? `${text}\n\n${desk.title('last drain')}\n${details(lastReport)}` : text
}

const REQUESTS = [
  { title: 'age', right: true }, { title: 'method' }, { title: 'path' }, { title: 'peer' }, { title: 'in', right: true }, { title: 'out', right: true },
]

function requests(desk: Desk, list: InFlight[]): string {
  return desk.table(REQUESTS, list.map(({ ageMs = 0, method = '-', path = '-', remote = '-', bytesRead, bytesWritten }) =>
    [duration(ageMs), method, path, remote, bytesRead === undefined ? '-' : bytes(bytesRead), bytesWritten === undefined ? '-' : bytes(bytesWritten)]))
}

function connectionsText(desk: Desk, { state, connections = {}, inFlight, holding }: Connections): string {
  const states = Object.entries(connections).filter(([name]) => name !== 'total').map(([name, count]) => [name, String(count)])
  const parts = [
    state === undefined ? 'no server is wrapped' : `${desk.title('state')}  ${state}`,
    desk.table([{ title: 'connections' }, { title: 'count', right: true }], [...states, ['total', String(connections.total ?? 0)]]),
    inFlight.length === 0 ? 'no request in flight' : `${desk.title(`in flight: ${inFlight.length}`)}\n${requests(desk, inFlight)}`,
  ]
  if (holding.length > 0) {
    const others = holding.filter(({ count }) => count !== undefined).map(({ state, count }) => `${count} connections ${state}`)
    const [oldest] = holding.filter(({ method }) => method !== undefined)
    const who = oldest && `${oldest.method} ${oldest.path} of ${oldest.remote ?? 'a unix socket'}, for ${duration(oldest.ageMs ?? 0)}`
    const requests = holding.length - others.length
    parts.push(`${desk.colour.yellow('the drain waits for')} ${[requests > 0 ? `${requests} requests (oldest: ${oneLine(who ?? '')})` : '', ...others].filter(Boolean).join(', ')}`)
  }
  return parts.join('\n\n')
}

/** Looking: nothing that these do changes anything. */
export function addLook(ops: Command, io: Io): void {
  ops.command('info').description('what runs there: application, versions, process').action(act(io, async desk => {
    const info = await (await desk.client()).get('/info')
    await desk.show(info, () => details(info))
  }))
  ops.command('state').description('state of the drain, connections, memory, event loop').action(act(io, async desk => {
    const state = await (await desk.client()).get<State>('/state')
    await warn(desk, state)
    await desk.show(state, () => stateText(desk, state))
  }))
  ops.command('connections').description('connections by state, each request in flight, and what a drain waits for').action(act(io, async desk => {
    const connections = await (await desk.client()).get<Connections>('/connections')
    await warn(desk, connections)
    await desk.show(connections, () => connectionsText(desk, connections))
  }))
  ops.command('event-loop').description('how long the event loop keeps its timers waiting').action(act(io, async desk => {
    const answer = await (await desk.client()).get<Freshness & { loop: Loop }>('/event-loop')
    await warn(desk, answer)
    await desk.show(answer, () => pairs(desk, [['event loop', loopLine(answer.loop)], ['blocked', answer.blockedMs ? duration(answer.blockedMs) : 'no']]))
  }))
  ops.command('metrics').description("metrics in Prometheus' text format").action(act(io, async desk => {
    await desk.raw(await (await desk.client()).text('GET', '/metrics', { accept: 'text/plain' }))
  }))
  ops.command('report')
    .description("Node's diagnostic report, as JSON")
    .option('--environment', 'with environment variables and arguments (scope secrets)')
    .option('--network', 'with addresses of peers and interfaces')
    .action(act<{ environment?: boolean; network?: boolean }>(io, async (desk, { environment, network }) => {
      const report = await (await desk.client()).get('/report', { query: { environment, network } })
      await write(io.stdout, `${JSON.stringify(report, null, 2)}\n`)
    }))
}
