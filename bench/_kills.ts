/** SIGKILL at random, to workers and to their supervisor, under load: and what clients saw of it. */
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Cluster } from '../test/_cluster-build.ts'
import { Client } from '../test/_client.ts'
import type { Fleet, Start } from '../test/_fleet.ts'
import { Newcomers } from '../test/_newcomers.ts'
import { alive, until } from '../test/_until.ts'
import { startLoad, type Ended, type Load } from './_load.ts'
import { sum } from './_stats.ts'

export interface KillOptions {
  /** Keep-alive clients; every second one POSTs. */
  connections: number
  /** Mean think time of a client. */
  thinkMs: number
  /** After this a request hangs. It is given up then, and counted. */
  hangMs: number
  /** A kill comes at any time up to so long after the workers are all ready. */
  pauseMs: number
  /** How often there is a new client. */
  newcomerMs: number
}

/** `one` and `two` at a time, at rest; one `in a reload`, of whatever state. */
export type Occasion = 'one' | 'two' | 'in a reload'

/** One shot at workers. */
export interface Shot {
  occasion: Occasion
  killed: number
  /** Until as many were ready as there should be; undefined if there were never fewer. */
  backMs: number | undefined
  /** The longest time between two answers to new clients, from the shot to the moment when all was as before. */
  gapMs: number
  /** The longest time for which the clients' own process did not run. */
  stallMs: number
  /** Of the reload: its outcome, or the code of the error. */
  reload?: string
}

/** What became of clients that keep their connections. */
export interface Fates {
  sent: number
  ok: number
  /** Requests that failed on connections of a process that was killed: what cannot be helped. */
  victims: number
  /** Requests that failed on connections of any other. */
  others: number
  /** Connections of others that ended between requests although their worker had not been told to go. */
  noticed: number
  /** Failed on a new connection that no worker ever got: each notes it before it says so. */
  unknown: number
  /** Had no answer within `hangMs`, whoever had it. */
  hung: number
}

const pidOf = (response: string) => Number(/"pid":(\d+)/.exec(response)?.[1]) || undefined

/**
 * Clients that know who answers them, of workers whose lame duck is longer than anybody thinks. With a shorter one some have said nothing for
 * all of it when a worker goes (in a reload; or with its supervisor): it closes them as idle, and a request may cross that.
 * So with 300 ms, and a mean think time of 100 ms, workers that lived lost 1 to 3 requests in the ten reloads among a hundred kills.
 */
export class Crowd {
  #fleet: Fleet
  #loads: Load[]
  #ended: Ended[]

  private constructor(fleet: Fleet, loads: Load[], ended: Ended[]) {
    this.#fleet = fleet
    this.#loads = loads
    this.#ended = ended
  }

  /** @param reconnect Goes on with a new connection after each that ended. */
  static async open(fleet: Fleet, { connections, thinkMs, hangMs }: KillOptions, reconnect: boolean): Promise<Crowd> {
    const ended: Ended[] = []
    const loads = await Promise.all((['GET', 'POST'] as const).map((method) => startLoad({
      port: fleet.port, method, connections: connections / 2, thinkMs, hangMs, reconnect, by: pidOf, onEnd: (end) => ended.push(end),
    })))
    return new Crowd(fleet, loads, ended)
  }

  /** Every connection has ended. */
  get ended(): Promise<unknown> {
    return Promise.all(this.#loads.map((load) => load.ended))
  }

  async stop(graceMs: number): Promise<void> {
    await Promise.all(this.#loads.map((load) => load.stop(graceMs)))
  }

  /** What became of them so far. */
  fates(): Fates {
    const count = (key: 'sent' | 'ok') => sum(this.#loads.map(({ counts }) => counts[key]))
    const fates: Fates = { sent: count('sent'), ok: count('ok'), victims: 0, others: 0, noticed: 0, unknown: 0, hung: 0 }
    // Answered with another status: nobody here does that.
    fates.others += sum(this.#loads.map(({ counts }) => counts.failed + counts.rejected))
    for (const one of this.#ended) {
      const kind = this.#kind(one)
      if (kind) fates[kind]++
    }
    return fates
  }

  #kind({ end, by, localPort, openedAt, endedAt, lost }: Ended): 'victims' | 'others' | 'noticed' | 'unknown' | 'hung' | undefined {
    if (end === 'hung') return 'hung'
    const { killed, left } = this.#fleet
    if (!lost) return by === undefined || end === 'told' || killed.has(by) || left.has(by) ? undefined : 'noticed'
    // Between a clock's tick here and one there; not more, since the port may be another client's soon.
    const pid = by ?? (localPort === undefined ? undefined : this.#fleet.accepter(localPort, openedAt - 1, endedAt + 1))
    if (pid === undefined) return 'unknown'
    return killed.has(pid) ? 'victims' : 'others'
  }
}

function pick<T>(values: readonly T[], count: number): T[] {
  const rest = [...values]
  return Array.from({ length: Math.min(count, rest.length) }, () => rest.splice(Math.floor(Math.random() * rest.length), 1)[0]!)
}

/** The third of ten is a pair, the seventh falls into a reload. */
function occasionOf(shot: number): Occasion {
  if (shot % 10 === 2) return 'two'
  return shot % 10 === 6 ? 'in a reload' : 'one'
}

/** Shoots at workers until so many are dead. */
export class Killer {
  readonly shots: Shot[] = []
  #fleet: Fleet
  #command: Cluster['command']
  #newcomers: Newcomers
  #options: KillOptions

  /** @param command That of the build which the fleet runs. */
  constructor(fleet: Fleet, command: Cluster['command'], newcomers: Newcomers, options: KillOptions) {
    this.#fleet = fleet
    this.#command = command
    this.#newcomers = newcomers
    this.#options = options
  }

  get killed(): number {
    return sum(this.shots.map(({ killed }) => killed))
  }

  async kill(workers: number, occasion: (shot: number) => Occasion = occasionOf, after: () => void = () => {}): Promise<void> {
    while (this.killed < workers) {
      const kind = occasion(this.shots.length)
      await this.#shoot(kind === 'two' && workers - this.killed < 2 ? 'one' : kind)
      after()
    }
    await this.#fleet.calm()
  }

  async #shoot(occasion: Occasion): Promise<void> {
    const fleet = this.#fleet
    await fleet.calm()
    const reload = occasion === 'in a reload' ? this.#reload() : undefined
    await sleep(Math.random() * this.#options.pauseMs)
    const victims = pick([...fleet.workers.keys()], occasion === 'two' ? 2 : 1)
    this.#newcomers.mark()
    const at = performance.now()
    const killed = victims.filter((pid) => fleet.kill(pid)).length
    const fewer = fleet.ready < fleet.wanted
    await fleet.until(() => fleet.ready >= fleet.wanted, 'as many ready workers as before')
    const backMs = fewer ? performance.now() - at : undefined
    const outcome = await reload
    await fleet.calm()
    this.shots.push({
      occasion, killed, backMs, gapMs: this.#newcomers.gapMs, stallMs: this.#newcomers.stallMs, ...(outcome !== undefined && { reload: outcome }),
    })
  }

  async #reload(): Promise<string> {
    try {
      const result = await this.#command(this.#fleet.control, { do: 'reload' })
      return result && 'outcome' in result ? result.outcome : 'nothing'
    } catch (error) {
      return (error as { result?: { outcome: string } }).result?.outcome ?? String((error as { code?: string }).code)
    }
  }
}

/** One end of a supervisor by SIGKILL, and the start after it. */
export interface Succession {
  /** Its workers were gone so long after it. */
  goneMs: number
  /** Requests that took their time and were under way; those of them that were answered. */
  slow: number
  slowAnswered: number
  fates: Fates
  /** The file of its control socket was still there. */
  stale: boolean
  /** The next one: from its start until its first worker was started, from there to the first answer to a new client, and to all workers ready. */
  bootMs: number
  answerMs: number
  readyMs: number
  /** It answers on its control socket, and no other socket is there. */
  reachable: boolean
}

/** Answered later than anything of a supervisor's death takes. */
const SLOW_MS = 800
const SLOW = 4

/** Kills the supervisor of a fleet, and starts the next one at once, while the orphans finish. */
export async function succeed(fleet: Fleet, status: Cluster['status'], options: KillOptions): Promise<Succession> {
  const crowd = await Crowd.open(fleet, options, false)
  // Each of them has been answered by somebody.
  await sleep(10 * options.thinkMs + Math.random() * options.pauseMs)
  const slow = await Promise.all(Array.from({ length: SLOW }, () => Client.open({ host: '127.0.0.1', port: fleet.port })))
  try {
    // One that has been answered is a worker's; another might still be in the supervisor's hands, and end with it.
    await Promise.all(slow.map((client) => {
      client.request('/')
      return client.answer(options.hangMs)
    }))
    for (const client of slow) client.request(`/slow?ms=${SLOW_MS}`)
    const answers = slow.map((client) => client.answer(options.hangMs).then(({ status: code }) => code === 200, () => false))
    await sleep(200)
    const { control } = fleet
    const at = performance.now()
    const orphans = await fleet.killPrimary()
    const stale = existsSync(control)
    const gone = until(() => !orphans.some(alive), 'the end of the orphans', 60_000).then(() => performance.now() - at)
    const [start, answeredAt] = await next(fleet, options)
    const slowAnswered = (await Promise.all(answers)).filter(Boolean).length
    await crowd.ended
    const { pid } = await status(fleet.control)
    return {
      goneMs: await gone, slow: SLOW, slowAnswered, fates: crowd.fates(), stale,
      bootMs: start.bootedAt - start.spawnedAt, answerMs: answeredAt - start.bootedAt, readyMs: start.readyAt - start.bootedAt,
      reachable: pid === fleet.primary.process.pid && fleet.sockets.length === 1,
    }
  } finally {
    for (const client of slow) client.destroy()
  }
}

/** @returns The start, and when a new client had an answer. */
async function next(fleet: Fleet, { newcomerMs, hangMs }: KillOptions): Promise<[Start, number]> {
  const newcomers = new Newcomers(fleet.port, { everyMs: newcomerMs, hangMs })
  try {
    return await Promise.all([fleet.start(), newcomers.answered()])
  } finally {
    await newcomers.stop()
  }
}
