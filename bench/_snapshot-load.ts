/**
 * A load-balancing client: N slots, each with one keep-alive connection, one request at a time and a think time. It asks each
 * instance's /readyz every 100 ms, sends nothing to one that is not ready, and leaves a connection that is told to close.
 */
import { Agent, get } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

/** One request, on the clock of performance.now(). */
export interface Sample {
  at: number
  ms: number
  ok: boolean
  error?: string
}

const PROBE_MS = 100
const PROBE_TIMEOUT_MS = 1_000

/** Failed: an error, another status than 200, or nothing within this time. */
const REQUEST_TIMEOUT_MS = 60_000

function ask(port: number, path: string, agent: Agent | false, timeout: number): Promise<{ status: number; error?: string }> {
  return new Promise(resolve => {
    const request = get({ host: '127.0.0.1', port, path, agent, timeout }, response => {
      response.resume()
      response.once('end', () => resolve({ status: response.statusCode ?? 0 }))
      response.once('error', error => resolve({ status: 0, error: error.message }))
    })
    request.once('timeout', () => request.destroy(new Error('timeout')))
    request.once('error', error => resolve({ status: 0, error: error.message }))
  })
}

export class BalancedLoad {
  readonly samples: Sample[] = []
  #ports: number[]
  #ready: Set<number>
  #stopped = false
  #running: Promise<void>[] = []
  #thinkMs: number

  constructor(ports: number[], connections: number, thinkMs: number) {
    this.#ports = ports
    this.#ready = new Set(ports)
    this.#thinkMs = thinkMs
    for (const port of ports) this.#running.push(this.#probe(port))
    for (let slot = 0; slot < connections; slot++) this.#running.push(this.#slot(slot))
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#running)
  }

  async #probe(port: number): Promise<void> {
    while (!this.#stopped) {
      const { status } = await ask(port, '/readyz', false, PROBE_TIMEOUT_MS)
      if (status === 200) this.#ready.add(port)
      else this.#ready.delete(port)
      await sleep(PROBE_MS)
    }
  }

  async #slot(slot: number): Promise<void> {
    let agent = new Agent({ keepAlive: true, maxSockets: 1 })
    let port = this.#ports[slot % this.#ports.length] as number
    for (let turn = slot; !this.#stopped; turn++) {
      await sleep(Math.round(-this.#thinkMs * Math.log(1 - Math.random())))
      // Now and then to another one, as connections of a pool come and go: else nobody would come back to an instance that was away.
      if (!this.#ready.has(port) || turn % 50 === 0) {
        agent.destroy()
        agent = new Agent({ keepAlive: true, maxSockets: 1 })
        const ready = [...this.#ready]
        port = ready[Math.floor(turn / 50) % ready.length] ?? port
      }
      const at = performance.now()
      const { status, error } = await ask(port, '/', agent, REQUEST_TIMEOUT_MS)
      this.samples.push({ at, ms: performance.now() - at, ok: status === 200, ...(error !== undefined && { error }) })
    }
    agent.destroy()
  }
}
