import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import http2 from 'node:http2'
import { after, before, describe, test } from 'node:test'
import { Child } from './_child.ts'
import { Client } from './_client.ts'
import { peerOf, type Peer } from './_http2.ts'
import { endLeftovers } from './_leftovers.ts'

/** How `fixtures/drop-in-server.ts` starts a server. */
export interface DropInStart {
  /** What the library calls grace, or timeout. */
  limit?: number | string
  secure?: boolean
  /** HTTP/2, over TLS. */
  streams?: boolean
  /** False: put the library on it and go no further. */
  listening?: boolean
}

/** What the parent asks of it. */
export type DropInRequest =
  | ({ op: 'start' } & DropInStart)
  /** `until`: with an event loop that is blocked before, until there is such a file. */
  | { op: 'stop'; until?: string; times?: number }
  | { op: 'listen' | 'look' | 'say' | 'end' }

/** Events of the child, and answers to what it was asked. */
interface Told {
  event?: 'ready' | 'executed' | 'answered' | 'blocking' | 'stopped'
  /** When, by the machine's clock. */
  at?: number
  serial?: number
  /** Of which start it tells. */
  start?: number
  id?: string
  port?: number
  refused?: string
  code?: string
  gracefully?: boolean
  executed?: string[]
  closes?: number
  own?: string[]
}

const ca = readFileSync(new URL('fixtures/cert.pem', import.meta.url), 'utf8')

/** A child process that has one of the two, original or drop-in, on a server at a time. */
export class Side {
  readonly child: Child
  #told: Told[] = []
  #look = new Set<() => void>()
  #serial = 0
  #address = { host: '127.0.0.1', port: 0 }
  #secure = false
  #start = 0

  constructor(library: string, whose: 'original' | 'drop-in', env: NodeJS.ProcessEnv = {}) {
    this.child = new Child('drop-in-server.ts', [library, whose], { ipc: true, env, peer: whose === 'original' })
    this.child.process.on('message', (message: Told) => {
      if (message.start !== undefined && message.start < this.#start) return
      this.#told.push(message)
      for (const look of [...this.#look]) look()
    })
  }

  /** The next message of that kind. Those that were taken are gone. */
  async next(is: (told: Told) => boolean, ms = 5_000): Promise<Told | undefined> {
    const until = performance.now() + ms
    for (;;) {
      const at = this.#told.findIndex(is)
      if (at !== -1) return this.#told.splice(at, 1)[0]
      const left = until - performance.now()
      if (left <= 0) return undefined
      await new Promise<void>(resolve => {
        const timer = setTimeout(done, left)
        const look = done
        const set = this.#look
        function done(): void {
          clearTimeout(timer)
          set.delete(look)
          resolve()
        }
        set.add(look)
      })
    }
  }

  async ask(request: DropInRequest): Promise<Told> {
    const serial = ++this.#serial
    this.child.process.send({ serial, ...request })
    const answer = await this.next(told => told.serial === serial, 15_000)
    assert.ok(answer, `no answer to ${JSON.stringify(request)}:\n${this.child.stderr}`)
    return answer
  }

  async start(how: DropInStart = {}): Promise<Told> {
    this.#secure = how.secure ?? how.streams ?? false
    // What an earlier server has told since its end, or still will, is nothing to this one.
    this.#start++
    this.#told = []
    return this.#listens(await this.ask({ op: 'start', ...how }))
  }

  async listen(): Promise<void> {
    this.#listens(await this.ask({ op: 'listen' }))
  }

  /** A client with a connection of its own; `polite: false` ignores a FIN. */
  open(options: { polite?: boolean } = {}): Promise<Client> {
    return Client.open({ ...this.#address, ...(this.#secure && { ca }) }, options)
  }

  /** An HTTP/2 session. */
  session(): Peer {
    return peerOf(http2.connect(`https://127.0.0.1:${this.#address.port}`, { ca, servername: 'localhost' }))
  }

  dial(): Client {
    return Client.dial(this.#address)
  }

  /** Its event loop goes round several times. */
  async turns(): Promise<void> {
    for (let i = 0; i < 10; i++) await this.ask({ op: 'look' })
  }

  /** Waits until the application has this request. */
  async executes(id: string): Promise<void> {
    assert.ok(await this.next(told => told.event === 'executed' && told.id === id), `${id} was not executed`)
  }

  /** How the stop ended: undefined if it has not, so long after. */
  stopped(ms = 8_000): Promise<Told | undefined> {
    return this.next(told => told.event === 'stopped', ms)
  }

  /** Ends what a scenario has left. */
  async end(): Promise<void> {
    endLeftovers()
    await this.ask({ op: 'end' })
    this.#told = []
  }

  #listens(told: Told): Told {
    if (told.port !== undefined) this.#address.port = told.port
    return told
  }
}

/** What becomes of the clients, in a few words: the same words stand in the table of the documents. */
export interface Scenario<T> {
  name: string
  /** The last major version of Node on which the original needs it. */
  until?: number
  /** Why it cannot run here. */
  skip?: string | false
  run(on: T): Promise<string>
}

interface Row {
  original: string
  ours: string
  why: string
}

/** The table of differences in a section of docs/drop-ins.md. */
export function documented(section: string): Map<string, Row> {
  const text = readFileSync(new URL('../docs/drop-ins.md', import.meta.url), 'utf8')
  const [, body = ''] = text.split(`\n## ${section}\n`)
  const [own = ''] = body.split('\n## ')
  const rows = new Map<string, Row>()
  for (const line of own.split('\n').filter(line => line.startsWith('| ')).slice(2)) {
    const [name = '', original = '', ours = '', why = ''] = line.slice(2, -2).split(' | ')
    rows.set(name, { original, ours, why })
  }
  return rows
}

/**
 * Runs every scenario against both; what differs must be in the table of that section, in these words and with a reason, and
 * what is in the table must differ.
 */
export function differential<T>(section: string, scenarios: Scenario<T>[], both: (whose: 'original' | 'drop-in') => T): void {
  const rows = documented(section)
  const original = both('original')
  const ours = both('drop-in')
  for (const { name, run, until = Infinity, skip: impossible = false } of scenarios) {
    const row = rows.get(name)
    const skip = impossible || (Number(process.versions.node.split('.')[0]) > until && 'Node itself does it')
    test(row ? `${name}: ${row.ours}, where the original: ${row.original}` : `${name}: the same`, { skip }, async () => {
      const [theirs, mine] = [await run(original), await run(ours)]
      if (!row) {
        assert.equal(mine, theirs, 'a difference that docs/drop-ins.md does not have')
        return
      }
      assert.deepEqual({ original: theirs, ours: mine }, { original: row.original, ours: row.ours })
      assert.notEqual(mine, theirs, 'docs/drop-ins.md has a difference that is none')
      assert.ok(row.why.length > 10, 'a difference without a reason')
    })
  }
  test(`docs/drop-ins.md: each difference under ${section} was looked for`, () => {
    const names = new Set(scenarios.map(({ name }) => name))
    assert.deepEqual([...rows.keys()].filter(name => !names.has(name)), [])
  })
}

/** The scenarios of a library that stops a server when it is told to. */
export function differentialOfStops(library: string, scenarios: Scenario<Side>[], env: NodeJS.ProcessEnv = {}): void {
  describe(`${library} and lameduck/${library}`, () => {
    const sides = { original: new Side(library, 'original', env), 'drop-in': new Side(library, 'drop-in', env) }
    before(async () => {
      for (const side of Object.values(sides)) assert.ok(await side.next(told => told.event === 'ready', 60_000), side.child.stderr)
    })
    after(async () => {
      for (const side of Object.values(sides)) await side.child.close()
    })
    const cleaned = scenarios.map(({ run, ...rest }) => ({ ...rest, run: (side: Side) => run(side).finally(() => side.end()) }))
    differential(`lameduck/${library}`, cleaned, whose => sides[whose])
  })
}
