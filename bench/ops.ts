/**
 * The maintenance endpoint: (a) what it answers while the main thread is blocked, by a busy loop and by a heap snapshot; (b) what it
 * costs while nobody asks; (c) what a burst of unauthorised requests, and one of probes that need no token, does to the application.
 */
import { execSync, fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Hit, Shot } from './_cannon.ts'
import type { Options } from './_options.ts'
import type { OpsServerArgs, OpsServerReady } from './_ops-server.ts'
import { nextMessage } from './_spawn.ts'
import { median, quantile } from './_stats.ts'
import { fixed, progress, publish } from './_table.ts'

interface Row {
  name: string
  n: number
  p50: number
  p99: number
  max: number
}

const token = randomBytes(32).toString('base64url')

async function server(args: Partial<OpsServerArgs>) {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-bench-ops-'))
  const all: OpsServerArgs = { token, folder, ops: true, ballastMiB: 0, ...args }
  const child = fork(fileURLToPath(new URL('_ops-server.ts', import.meta.url)), [JSON.stringify(all)], { execArgv: ['--import', 'tsx'] })
  const ready = await nextMessage<OpsServerReady>(child)
  return {
    ...ready,
    async ask<T>(question: string): Promise<T> {
      child.send(question)
      return nextMessage<T>(child)
    },
    tell: (what: string) => void child.send(what),
    auditLines: () => (existsSync(join(folder, 'audit.log')) ? readFileSync(join(folder, 'audit.log'), 'utf8').trimEnd().split('\n').length : 0),
    async close() {
      child.kill('SIGKILL')
      await new Promise(resolve => child.once('close', resolve))
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

const agent = new http.Agent({ keepAlive: true })

function ask(port: number, path: string, { method = 'GET', bearer = token, keep = true }: { method?: string; bearer?: string; keep?: boolean } = {}): Promise<{ ms: number; status: number }> {
  const began = performance.now()
  return new Promise((resolve, reject) => {
    const body = method === 'POST' ? '{}' : undefined
    const headers = { Authorization: `Bearer ${bearer}`, ...(body && { 'Content-Type': 'application/json', 'Content-Length': 2 }) }
    const req = http.request({ host: '127.0.0.1', port, path, method, headers, ...(keep ? { agent } : { agent: false }) }, res => {
      res.resume().on('end', () => resolve({ ms: performance.now() - began, status: res.statusCode ?? 0 }))
    })
    req.on('error', reject)
    req.end(body)
  })
}

const rowOf = (name: string, values: number[]): Row => ({ name, n: values.length, p50: quantile(values, 0.5), p99: quantile(values, 0.99), max: quantile(values, 1) })

/** (a) Asks for as long as the main thread is blocked. */
async function whileBlocked(by: 'loop' | 'snapshot', seconds: number): Promise<Row[]> {
  const site = await server({ ballastMiB: by === 'snapshot' ? 60 : 0 })
  try {
    const paths = ['/livez', '/metrics', '/stack']
    for (const path of paths) await ask(site.ops, path, path === '/stack' ? { method: 'POST' } : {})
    const times = new Map<string, number[]>(paths.map(path => [path, []]))
    let over = false
    const unblocked = site.ask(`${by} ${seconds * 1_000}`).then(() => {
      over = true
    })
    await sleep(300)
    while (!over) {
      for (const path of paths) {
        const { ms, status } = await ask(site.ops, path, path === '/stack' ? { method: 'POST' } : {})
        if (status !== 200) throw new Error(`${path}: ${status}`)
        if (!over) times.get(path)?.push(ms)
      }
      await sleep(20)
    }
    await unblocked
    return paths.map(path => rowOf(`${path}, main blocked by a ${by === 'loop' ? 'busy loop' : 'heap snapshot'}`, times.get(path) ?? []))
  } finally {
    await site.close()
  }
}

/** (b) Against the same service without it, in turn. */
async function cost(pairs: number): Promise<{ perSecond: number; cpu: number }> {
  const cannon = fork(fileURLToPath(new URL('_cannon.ts', import.meta.url)), { execArgv: ['--import', 'tsx'] })
  await nextMessage(cannon)
  const ratios: { perSecond: number[]; cpu: number[] } = { perSecond: [], cpu: [] }
  try {
    for (let pair = 0; pair < pairs; pair++) {
      progress(`ops cost ${pair + 1}/${pairs}`)
      const bare = await server({ ops: false })
      const watched = await server({ ops: true, gc: true })
      const shoot = async (site: typeof bare) => {
        const before = await site.ask<{ cpu: number }>('cpu')
        cannon.send({ port: site.app, requests: 5_000, connections: 50 } satisfies Shot)
        const { seconds } = await nextMessage<Hit>(cannon)
        const after = await site.ask<{ cpu: number }>('cpu')
        return { perSecond: 5_000 / seconds, cpu: after.cpu - before.cpu }
      }
      for (const site of [bare, watched, watched, bare]) await shoot(site)
      for (let i = 0; i < 4; i++) {
        const first = i % 2 === 0 ? await shoot(bare) : undefined
        const b = await shoot(watched)
        const a = first ?? await shoot(bare)
        ratios.perSecond.push(b.perSecond / a.perSecond)
        ratios.cpu.push(b.cpu / a.cpu)
      }
      await Promise.all([bare.close(), watched.close()])
    }
  } finally {
    cannon.kill()
    progress('')
  }
  return { perSecond: median(ratios.perSecond), cpu: median(ratios.cpu) }
}

/** RSS of the service with the endpoint and the GC hook, less that without: freshly started, and after 30,000 requests. In MiB. */
async function memory(pairs: number): Promise<{ idle: number; used: number }> {
  const look = async (mode: 'bare' | 'ops') => {
    const child = fork(fileURLToPath(new URL('_ops-memory.mjs', import.meta.url)), [mode], { execArgv: [] })
    const port = await nextMessage<number>(child)
    const rss = async () => {
      child.send('rss')
      return nextMessage<number>(child)
    }
    await sleep(1_500)
    const idle = await rss()
    const cannon = fork(fileURLToPath(new URL('_cannon.ts', import.meta.url)), { execArgv: ['--import', 'tsx'] })
    await nextMessage(cannon)
    cannon.send({ port, requests: 30_000, connections: 50 } satisfies Shot)
    await nextMessage<Hit>(cannon)
    const used = await rss()
    cannon.kill()
    child.kill('SIGKILL')
    return { idle, used }
  }
  const [idle, used]: [number[], number[]] = [[], []]
  for (let i = 0; i < pairs; i++) {
    const [bare, watched] = [await look('bare'), await look('ops')]
    idle.push((watched.idle - bare.idle) / 2 ** 20)
    used.push((watched.used - bare.used) / 2 ** 20)
  }
  return { idle: median(idle), used: median(used) }
}

type Answers = Record<string, number>

/** So many requests of strangers, from a process of their own. @param probe Of `/readyz`, which needs no token. @returns How they were answered. */
async function strangers(port: number, count: number, probe: boolean): Promise<Answers> {
  const args = [String(port), String(count), ...probe ? ['probe'] : []]
  const child = fork(fileURLToPath(new URL('_ops-strangers.ts', import.meta.url)), args, { execArgv: ['--import', 'tsx'] })
  await nextMessage(child)
  child.send('go')
  return nextMessage<Answers>(child)
}

/** The application's answers while it lasts. */
async function measure(port: number, into: number[], during: Promise<unknown>): Promise<void> {
  let over = false
  void during.finally(() => {
    over = true
  })
  await Promise.all(Array.from({ length: 4 }, async () => {
    while (!over) {
      into.push((await ask(port, '/')).ms)
      await sleep(2)
    }
  }))
}

interface Burst {
  rows: Row[]
  /** What they left in the audit, how they were answered, and how long that took. */
  auditLines: number
  answers: Answers
  seconds: number
}

/** (c) The application's own answers: undisturbed, while strangers burst on something else, and on the endpoint. */
async function burst(count: number, rounds: number, probe: boolean): Promise<Burst> {
  const site = await server({})
  // What the strangers themselves take from the machine: an endpoint in another process.
  const other = await server({})
  const times = { undisturbed: [] as number[], elsewhere: [] as number[], here: [] as number[] }
  try {
    await measure(site.app, [], sleep(1_500))
    const lines = site.auditLines()
    const answers: Answers = {}
    let ms = 0
    for (let round = 0; round < rounds; round++) {
      progress(`ops burst ${round + 1}/${rounds}`)
      await measure(site.app, times.undisturbed, sleep(3_000))
      await measure(site.app, times.elsewhere, strangers(other.ops, count / rounds, probe))
      const began = performance.now()
      const asked = strangers(site.ops, count / rounds, probe)
      await measure(site.app, times.here, asked)
      ms += performance.now() - began
      for (const [how, n] of Object.entries(await asked)) answers[how] = (answers[how] ?? 0) + n
    }
    progress('')
    await sleep(1_500)
    const what = probe ? `${count} /readyz without a token` : `${count} unauthorised requests`
    const rows = [
      rowOf(`the application, undisturbed${probe ? ', before these' : ''}`, times.undisturbed),
      rowOf(`the application, ${what} to the endpoint of another process`, times.elsewhere),
      rowOf(`the application, ${what} to its own endpoint`, times.here),
    ]
    return { rows, auditLines: site.auditLines() - lines, answers, seconds: ms / 1_000 }
  } finally {
    await site.close()
    await other.close()
  }
}

export async function run({ quick, partial }: Options): Promise<void> {
  execSync('npx tsup --no-dts --silent', { cwd: fileURLToPath(new URL('..', import.meta.url)) })
  const rows = [...await whileBlocked('loop', quick ? 2 : 8), ...await whileBlocked('snapshot', 0)]
  const { rows: disturbed, auditLines, answers: refused, seconds } = await burst(quick ? 1_000 : 10_000, quick ? 1 : 2, false)
  const probed = await burst(quick ? 1_000 : 10_000, quick ? 1 : 2, true)
  rows.push(...disturbed, ...probed.rows)
  const { perSecond, cpu } = await cost(quick ? 1 : 8)
  const rss = await memory(quick ? 1 : 3)
  agent.destroy()
  publish<Row>({
    bench: 'ops',
    title: 'The maintenance endpoint: answers in milliseconds',
    settings: {
      auditLines, refused, burstSeconds: seconds, probes: probed.answers, probeSeconds: probed.seconds, probeAuditLines: probed.auditLines,
      perSecondRatio: perSecond, cpuRatio: cpu, rssIdleMiB: rss.idle, rssUsedMiB: rss.used,
    },
    columns: [
      { title: '', cell: ({ name }) => name },
      { title: 'asked', cell: ({ n }) => String(n) },
      { title: 'p50, ms', cell: ({ p50 }) => fixed(p50, 1) },
      { title: 'p99, ms', cell: ({ p99 }) => fixed(p99, 1) },
      { title: 'max, ms', cell: ({ max }) => fixed(max, 1) },
    ],
    rows,
    partial,
    notes: [
      `Idle, with the GC hook on, to the same service without it: ${fixed(perSecond, 3)} of the requests per second, ${fixed(cpu, 3)} of the CPU; RSS ${fixed(rss.idle, 1)} MiB more at the start, ${fixed(rss.used, 1)} MiB after 30,000 requests.`,
      `The burst took ${fixed(seconds, 1)} s and left ${auditLines} lines in the audit; answers: ${JSON.stringify(refused)}.`,
      `That of /readyz took ${fixed(probed.seconds, 1)} s and left ${probed.auditLines} lines; answers: ${JSON.stringify(probed.answers)}.`,
    ],
  })
}
