import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client, freshId, type Address } from './_client.ts'

/** What became of the requests of many clients. */
export interface Tally {
  answered: number
  /** Not answered, or not with 200: what the client saw, with the request's id. */
  failed: string[]
  /** Executed, and not answered. */
  ghosts: string[]
  /** Executed more than once. */
  twice: string[]
}

/** Clients that keep their connections, and open another one when they are told to. None of them tries a request again. */
export class Swarm {
  #address: Address
  #thinkMs: number
  #stopped = false
  #sent = new Set<string>()
  #answered = new Set<string>()
  #failed: string[] = []
  #loops: Promise<void>[]
  /** By the order of answers: when it came, on the clock of `performance.now()`. */
  readonly times: number[] = []

  constructor(address: Address, connections: number, thinkMs: number) {
    this.#address = address
    this.#thinkMs = thinkMs
    this.#loops = Array.from({ length: connections }, (_, index) => this.#loop(index % 2 === 0 ? 'GET' : 'POST'))
  }

  get answered(): number {
    return this.#answered.size
  }

  /** Ends the clients, each after its answer. @param journal What the application executed. */
  async stop(journal: string): Promise<Tally> {
    this.#stopped = true
    await Promise.all(this.#loops)
    const counts = new Map<string, number>()
    for (const id of readFileSync(journal, 'utf8').split('\n').filter(id => this.#sent.has(id))) counts.set(id, (counts.get(id) ?? 0) + 1)
    return {
      answered: this.#answered.size,
      failed: this.#failed,
      ghosts: [...counts.keys()].filter(id => !this.#answered.has(id)),
      twice: [...counts].filter(([, count]) => count > 1).map(([id]) => id),
    }
  }

  async #loop(method: 'GET' | 'POST'): Promise<void> {
    while (!this.#stopped) {
      let client: Client | undefined
      try {
        client = await Client.open(this.#address)
        await this.#converse(client, method)
      } catch (error) {
        this.#failed.push(`${(error as Error).message.split('\n', 1)[0]}`)
        await sleep(20)
      } finally {
        client?.destroy()
      }
    }
  }

  async #converse(client: Client, method: 'GET' | 'POST'): Promise<void> {
    while (!this.#stopped && client.end === 'open') {
      const id = freshId()
      this.#sent.add(id)
      client.request('/', { id, method, ...(method === 'POST' && { body: 'load' }) })
      const { status, header } = await client.answer(20_000)
      if (status !== 200) throw new Error(`${method} ${id}: ${status}`)
      this.#answered.add(id)
      this.times.push(performance.now())
      if (header('connection') === 'close') return
      await sleep(-Math.log(1 - Math.random()) * this.#thinkMs)
    }
  }
}
