import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client, type Address } from './_client.ts'
import type { Answer } from './_parser.ts'
import type { Script, Step, Stuck } from './_random-plan.ts'
import { HANDSHAKE, Peer, TEXT } from './_websocket.ts'

/** The server that all of them are clients of. */
export interface Scene {
  address: Address
  /** Our end of the connection from this port. */
  serverSide(port: number): Socket | undefined
  /** The drain has begun. */
  draining: boolean
}

/** One client that follows its script, and notes what it has a right to. */
export class Actor {
  client!: Client
  /** Its end of the connection, as the report names it. */
  remote = ''
  /** Requests that were whole in the kernel before our FIN was queued, alone on their connection: they must be answered. */
  readonly owed: string[] = []
  /** Executed or not, answered or not: their client did not stay to see. */
  readonly forgiven: string[] = []
  /** What was answered wrongly. */
  readonly wrong: string[] = []
  /** It was answered 101. */
  webSocket: Peer | undefined
  /** What only the deadline ends, if it is executed. */
  stuck: { id: string, how: Stuck } | undefined
  #script: Script
  #scene: Scene

  constructor(script: Script, scene: Scene) {
    this.#script = script
    this.#scene = scene
  }

  async play(): Promise<void> {
    await sleep(this.#script.startMs)
    try {
      this.client = await Client.open(this.#scene.address, { polite: this.#script.polite })
    } catch {
      // The listener is closed: this client comes too late.
      return
    }
    const { client } = this
    this.remote = `127.0.0.1:${client.socket.localPort}`
    for (const next of this.#script.steps) {
      if (!this.#mayGoOn) break
      await this.#take(next)
    }
    if (this.#script.stuck && this.#mayGoOn) this.#stick(this.#script.stuck)
    if (this.#script.rude && client.socket.writable) client.request('/', { method: 'POST', body: 'rude' })
    // One that reads nothing sees no end.
    if (this.#script.polite || this.stuck?.how === 'unread') return
    // It ignores the server's FIN for a while, and goes in the end.
    await client.ended()
    await sleep(20)
    client.halfClose()
  }

  /** Nobody has told it to go. */
  get #mayGoOn(): boolean {
    const { client } = this
    return client.end === 'open' && client.socket.writable && !client.answers.some(answer => answer.all('connection').includes('close'))
  }

  async #take(next: Step): Promise<void> {
    const { client } = this
    if (next.do === 'idle') await sleep(next.ms)
    else if (next.do === 'ask') {
      await this.#owe(client.request(next.path, next.post ? { method: 'POST', body: 'a body' } : {}))
      await this.#answers(1)
    } else if (next.do === 'pipeline') {
      await this.#owe(client.pipeline(next.paths.map(where => ({ path: where })))[0]!)
      await this.#answers(next.paths.length)
    } else if (next.do === 'hurry') {
      await this.#owe(client.request(next.path))
      await sleep(next.afterMs)
      if (client.end !== 'open') return
      client.request('/')
      await this.#answers(2)
    } else if (next.do === 'halves') {
      const { id, rest } = client.half(next.path, { method: 'POST', body: 'a longer body', cut: next.cut })
      await sleep(next.pauseMs)
      // Half a body was executed before: when the server does not want the rest, it says so.
      if (client.end !== 'open') return
      rest()
      await this.#owe(id)
      await this.#answers(1)
    } else if (next.do === 'probe') await this.#probe(next.path)
    else if (next.do === 'events') {
      await this.#owe(client.request('/events', { headers: { Accept: 'text/event-stream' } }))
      await this.#answers(1)
    } else if (next.do === 'upgrade') await this.#upgrade(next.replies)
    else await this.#leave(next.do)
  }

  async #probe(path: '/livez' | '/readyz'): Promise<void> {
    const asked = this.#scene.draining
    await this.#owe(this.client.request(path))
    const [answer] = await this.#answers(1)
    if (!answer) return
    const answered = this.#scene.draining
    const allowed = path === '/livez' || !answered ? [200] : asked ? [503] : [200, 503]
    if (!allowed.includes(answer.status)) this.wrong.push(`${path}, ${asked} to ${answered}: ${answer.status}`)
  }

  /** A WebSocket, that stays until it is told to go. */
  async #upgrade(replies: boolean): Promise<void> {
    const { client } = this
    const peer = new Peer(client, replies)
    await this.#owe(client.request('/', { headers: HANDSHAKE }))
    const [answer] = await this.#answers(1)
    if (answer?.status !== 101) return
    this.webSocket = peer
    peer.send(TEXT, 'hello')
    await client.ended()
  }

  #stick(how: Stuck): void {
    if (how === 'unread') this.client.pause()
    this.stuck = { how, id: this.client.request(`/${how}?secret=1`) }
  }

  async #leave(how: string): Promise<void> {
    const { client } = this
    if (how === 'half for ever') {
      client.half('/', { cut: 'head' })
      await client.ended()
    } else if (how === 'half-close') client.halfClose()
    else {
      if (how === 'abort in flight') {
        this.forgiven.push(client.request('/slow?ms=30'))
        await sleep(2)
      }
      if (how === 'reset') client.reset()
      else client.destroy()
    }
  }

  /** The server owes an answer if it had not queued its FIN (nor said close) when the last byte was in the kernel. */
  async #owe(id: string): Promise<void> {
    const { client } = this
    if (client.end !== 'open') return
    const socket = this.#scene.serverSide(client.socket.localPort ?? 0)
    // Over TLS a write may wait for the one before.
    await client.flushed()
    if (!socket?.writableEnded && !client.answers.some(answer => answer.all('connection').includes('close'))) this.owed.push(id)
  }

  /** So many answers, or those that come before the connection's end. */
  async #answers(count: number): Promise<Answer[]> {
    const answers: Answer[] = []
    try {
      for (let i = 0; i < count; i++) answers.push(await this.client.answer())
    } catch (error) {
      if (this.client.end === 'open') throw error
    }
    return answers
  }
}
