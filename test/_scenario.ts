import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import type { DrainReport } from '../src/core/index.ts'
import { app } from './_app.ts'
import { Client } from './_client.ts'
import type { Answer } from './_parser.ts'
import { Stopwatch, unstalled } from './_stopwatch.ts'
import type { Feature, Handler, Setup, Site, World } from './_world.ts'

/** What a scenario has to do with. */
export interface Stage {
  world: World
  site: Site
  /** Opens a connection. `polite: false` leaves our side open after the server's FIN. */
  open(options?: { polite?: boolean }): Promise<Client>
  /** Opens a connection, uses it once, and waits until the server takes it for idle. */
  warm(options?: { polite?: boolean }): Promise<Client>
  /** A client that is closed and audited with the rest. */
  watch(client: Client): Client
  /** Every whole request that was sent has reached the application. */
  executing(): Promise<void>
  /** The listener is closed. */
  deaf(): Promise<void>
  /** Starts the drain; the scenario's end waits for it. */
  drain(): Promise<DrainReport | undefined>
  /** This request may be executed and remain unanswered: the client went away, or the deadline came. */
  forgive(...ids: string[]): void
}

export interface Scenario extends Setup {
  app?: Handler
  needs?: readonly Feature[]
  tls?: boolean
  /** What it belongs to in the published matrix: a number of `test/_matrix-rows.ts`. */
  row?: number
}

/** What an assertion alone does not tell: a lost request from a ghost, a missing header from a connection that stays. */
export interface Autopsy {
  /** Ids of requests that were executed, and whose connections have ended without the answer. */
  ghosts: string[]
  /** Ids of requests on connections that have ended, not executed and not answered. */
  lost: string[]
  /** How long a scenario waited for the end of listening. */
  listenedMs: number
  /** Part of an answer arrived on a connection that has ended. */
  cut: boolean
  /** Connections that the server reset. */
  resets: number
  /** Connections with nothing left to answer that are open a second later, in a drain. */
  staying: number
}

/** The scenarios that were registered, with their rows. */
export const registered = new Map<string, number | undefined>()

type Run = (stage: Stage) => Promise<void>

/** Registers one scenario with `node:test`; the ghosts are counted at the end of each. */
export function scenario(world: World, name: string, how: Scenario, run: Run): void {
  const lacking = how.needs?.find(feature => world.lacks.includes(feature))
  const wrongSide = how.tls !== undefined && how.tls !== world.tls
  if (wrongSide) return
  registered.set(name, how.row)
  test(name, { skip: lacking ? `no ${lacking}` : false, timeout: 60_000 }, () => unstalled(() => play(world, how, run), 3))
}

async function play(world: World, how: Scenario, run: Run): Promise<void> {
  const site = await world.start(how.app ?? app, how)
  const cast = new Cast(world, site)
  try {
    await run(cast)
    await cast.curtain()
  } catch (error) {
    // Only who publishes it waits for it.
    if (process.env.LAMEDUCK_AUTOPSY) Object.assign(error as Error, { autopsy: await cast.autopsy(error) })
    throw error
  } finally {
    cast.leave()
    await site.close()
  }
}

/** The clients of one scenario, and the count at its end. */
class Cast implements Stage {
  readonly world: World
  readonly site: Site
  #clients: Client[] = []
  #forgiven = new Set<string>()
  #drained: Promise<DrainReport | undefined> | undefined
  #listenedMs = 0

  constructor(world: World, site: Site) {
    this.world = world
    this.site = site
  }

  watch(client: Client): Client {
    this.#clients.push(client)
    return client
  }

  async open(options: { polite?: boolean } = {}): Promise<Client> {
    return this.watch(await Client.open(this.site.address, options))
  }

  async warm(options: { polite?: boolean } = {}): Promise<Client> {
    const client = await this.open(options)
    client.request('/')
    const answer = await client.answer()
    assert.equal(answer.status, 200)
    return client
  }

  executing(): Promise<void> {
    const { executed } = this.site
    return until(() => this.#clients.every(({ sent }) => sent.every(id => executed.includes(id))), 'the execution')
  }

  async deaf(): Promise<void> {
    const started = performance.now()
    await until(() => !this.site.server.listening, 'the end of listening').finally(() => {
      this.#listenedMs = performance.now() - started
    })
  }

  drain(): Promise<DrainReport | undefined> {
    this.#drained ??= this.site.drain()
    return this.#drained
  }

  forgive(...ids: string[]): void {
    for (const id of ids) this.#forgiven.add(id)
  }

  /** Nothing executed that was not answered, nothing executed twice, nothing left open. */
  async curtain(): Promise<void> {
    if (this.#drained) {
      await this.#drained
      for (const client of this.#clients) client.resume()
      await Promise.all(this.#clients.map(client => client.ended(2_000)))
      assert.equal(this.site.server.listening, false, 'still listening')
      if (this.site.duck) assert.equal(this.site.duck.stats().connections.total, 0, 'connections left in stats()')
    }
    const answered = new Set(this.#clients.flatMap(client => client.answered))
    const ghosts = this.site.executed.filter(id => !answered.has(id) && !this.#forgiven.has(id))
    assert.deepEqual(ghosts, [], 'executed and never answered')
    assert.equal(new Set(this.site.executed).size, this.site.executed.length, 'executed twice')
  }

  async autopsy(error: unknown): Promise<Autopsy> {
    const { executed } = this.site
    const answered = new Set(this.#clients.flatMap(client => client.answered))
    const missing = this.#clients.flatMap(({ end, sent }) => end === 'open' ? [] : sent)
      .filter(id => !answered.has(id) && !this.#forgiven.has(id))
    // A load has clients of its own, whose losses the assertion names.
    const { actual } = error as { actual?: unknown }
    if (Array.isArray(actual)) missing.push(...(actual as string[]).filter(id => !answered.has(id) && executed.includes(id)))
    const satisfied = this.#clients.filter(client => client.sent.length === client.answers.length)
    if (this.#drained && satisfied.length > 0) await Promise.all(satisfied.map(client => client.ended(1_000).catch(() => {})))
    return {
      ghosts: missing.filter(id => executed.includes(id)),
      lost: missing.filter(id => !executed.includes(id)),
      listenedMs: this.#listenedMs,
      cut: this.#clients.some(client => client.end !== 'open' && client.bytesRead - wholeBytes(client) > 60),
      resets: this.#clients.filter(client => client.end === 'reset').length,
      staying: this.#drained ? satisfied.filter(client => client.end === 'open').length : 0,
    }
  }

  leave(): void {
    for (const client of this.#clients) client.destroy()
  }
}

/** About what its whole answers were on the wire; chunks have a few bytes more. */
function wholeBytes({ answers }: Client): number {
  return answers.reduce((bytes, { lines, body }) => bytes + 20 + lines.reduce((sum, [name, value]) => sum + name.length + value.length + 4, 0) + body.length, 0)
}

/** One `Connection: close`, and nothing else in it. */
export function assertCloses(answer: Answer): void {
  assert.deepEqual(answer.all('connection').map(value => value.toLowerCase()), ['close'], `connection of ${answer.status}`)
}

/** The connection may be used again, for all that the answer says. */
export function assertKeeps(answer: Answer): void {
  assert.ok(!answer.all('connection').some(value => /close/i.test(value)), 'said close')
}

/** 200, `Connection: close`, then the server's FIN and no RST. */
export async function assertLast(client: Client, status = 200): Promise<Answer> {
  const answer = await client.answer()
  assert.equal(answer.status, status)
  assertCloses(answer)
  assert.equal(await client.ended(), 'fin')
  return answer
}

/** Runs `report` checks where there is a report (peers have none). */
export function reported(report: DrainReport | undefined, look: (report: DrainReport) => void): void {
  if (report) look(report)
}

/** A few turns of the event loop: what clients in this process have written by now, the server has read. */
export async function turns(count = 5): Promise<void> {
  for (let i = 0; i < count; i++) await turn()
}

export async function until(done: () => boolean, what: string, ms = 5_000): Promise<void> {
  for (const watch = new Stopwatch(); !done(); await turn()) {
    if (watch.ranMs > ms) throw new Error(`no ${what} within ${ms} ms`)
  }
}

/** Long enough for a connection to be quiet under `QUICK`. */
export const quiet = () => sleep(60)
