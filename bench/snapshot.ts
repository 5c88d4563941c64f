/**
 * (h) A heap snapshot under load: two instances with a heap of small objects each, behind a load-balancing client. What do
 * its users notice, with and without isolation?
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Options } from './_options.ts'
import { BalancedLoad, type Sample } from './_snapshot-load.ts'
import type { Order, Started } from './_snapshot-server.ts'
import { quantile } from './_stats.ts'
import { fixed, progress, publish } from './_table.ts'

interface Row {
  name: string
  heapMB: number
  pauseMs: number
  requests: number
  failed: number
  /** What failed, and how often. */
  errors: string[]
  /** Of the load by itself, before the snapshot. */
  ownP99Ms: number
  ownWorstMs: number
  /** From the order to the return into rotation. */
  p99Ms: number
  worstMs: number
  /** Requests slower than twice the load's own p99. */
  slow: number
}

const connections = 200
const handlerMs = 5
const thinkMs = 200
const settleMs = 3_000
const ownMs = 8_000
/** After the snapshot: clients of the instance that was paused get their answers. */
const afterMs = 2_000

const program = fileURLToPath(new URL('_snapshot-server.ts', import.meta.url))

async function start(heapMB: number): Promise<{ child: ChildProcess } & Started> {
  const child = fork(program, ['--heap-mb', String(heapMB), '--handler-ms', String(handlerMs)], {
    execArgv: ['--import', 'tsx', '--max-old-space-size=4096'],
  })
  const [started] = await once(child, 'message') as [Started]
  return { child, ...started }
}

const during = (samples: Sample[], from: number, to: number) => samples.filter(({ at, ms }) => at + ms >= from && at <= to)

export async function measure(name: string, heapMB: number, order: Order, load = connections): Promise<Row> {
  const servers = await Promise.all([start(heapMB), start(heapMB)])
  try {
    const clients = new BalancedLoad(servers.map(({ port }) => port), load, thinkMs)
    await sleep(settleMs)
    const began = performance.now()
    await sleep(ownMs)
    const ordered = performance.now()
    const [{ child }] = servers
    child.send(order)
    const [taken] = await once(child, 'message') as [{ pauseMs: number; error?: string }]
    if (taken.error !== undefined) throw new Error(taken.error)
    await sleep(afterMs)
    const over = performance.now()
    await clients.stop()

    const own = during(clients.samples, began, ordered).filter(({ at, ms }) => at + ms < ordered).map(({ ms }) => ms)
    const rest = during(clients.samples, ordered, over)
    const times = rest.map(({ ms }) => ms)
    const ownP99Ms = quantile(own, 0.99)
    return {
      name, heapMB: servers[0].heapMB, pauseMs: taken.pauseMs, requests: rest.length, failed: rest.filter(({ ok }) => !ok).length,
      errors: [...new Set(rest.flatMap(({ error }) => error ?? []))],
      ownP99Ms, ownWorstMs: quantile(own, 1), p99Ms: quantile(times, 0.99), worstMs: quantile(times, 1),
      slow: times.filter(ms => ms > 2 * ownP99Ms).length,
    }
  } finally {
    for (const { child } of servers) {
      child.kill('SIGKILL')
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    }
  }
}

export async function run({ quick, partial }: Options): Promise<void> {
  const heapMB = quick ? 60 : 200
  const rows: Row[] = []
  const row = async (name: string, order: Order) => {
    progress(`snapshot, ${name}`)
    const measured = await measure(name, heapMB, order)
    rows.push(measured)
    return measured
  }
  const { pauseMs } = await row('with isolate', { isolate: true })
  await row('control: a busy loop in its place', { busyMs: pauseMs })
  await row('without', { isolate: false })
  progress('')
  publish<Row>({
    bench: 'snapshot',
    title: `A heap snapshot of one of two instances, ${heapMB} MB of small objects each, under ${connections} keep-alive connections`,
    settings: { connections, handlerMs, thinkMs, settleMs, ownMs, afterMs, heapMB, instances: 2, readiness: 'probed every 100 ms, Connection: close honoured' },
    columns: [
      { title: '', cell: ({ name }) => name },
      { title: 'pause, s', cell: ({ pauseMs }) => fixed(pauseMs / 1_000, 1) },
      { title: 'requests', cell: ({ requests }) => requests },
      { title: 'failed', cell: ({ failed }) => failed },
      { title: 'p99 before, ms', cell: ({ ownP99Ms }) => fixed(ownP99Ms, 1) },
      { title: 'p99, ms', cell: ({ p99Ms }) => fixed(p99Ms, 1) },
      { title: 'worst, ms', cell: ({ worstMs }) => fixed(worstMs) },
      { title: 'slower than 2 × p99 before', cell: ({ slow }) => slow },
    ],
    rows,
    partial,
    notes: ['p99 before: of the same load in the 8 s before the snapshot. The machine has two cores: one is busy with the snapshot.'],
  })
}
