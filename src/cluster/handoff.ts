/**
 * The primary's hand-off of connections to one worker, of `node:cluster` in its round-robin mode.
 *
 * How a client comes to hang in Node 20 to 26: the primary sends a connection with `newconn` and keeps it until the worker's
 * answer (`accepted`). When the worker dies between the two, nobody answers, and the connection stays open in the primary, for
 * ever. Nor does Node take the worker out of its list: with a connection on its way `disconnect` is put off until that is
 * acknowledged, so the event never comes. Under load that is one client per abrupt death (measured: 49 of 50 with Node 20).
 *
 * What is done about it: once the worker's end of the channel is closed, no answer can come any more. So Node is given
 * the event, and for each connection on its way the answer "not accepted", with which it hands that to the next worker. A worker
 * answers before it reads, so what it had not acknowledged has not been executed. When no other worker listens the answer is "accepted",
 * whereupon Node closes the connection. Only Node's own messages and events are used for this: if a later Node has others,
 * nothing happens here, and all is as it would be without.
 *
 * The same answer keeps connections from a worker that listens, but has not proved itself yet, and from one that is told to go.
 *
 * When all are told to go there is nobody else. Node then closes the listener at the last worker's word, with whatever waits in it, and
 * what was on its way to that worker comes back to nobody, and stays open until the primary exits. So the primary closes first: when
 * nothing waits, and nothing is on its way (`closeListeners`). Without that nginx loses POSTs at most stops of a supervisor under load.
 */
import type { Worker } from 'node:cluster'
import type { ChildProcess } from 'node:child_process'
import { turn } from '../core/turn.ts'

/** A message of node:cluster, of which these fields matter. */
interface Internal {
  cmd?: string
  act?: string
  ack?: number
  seq?: number
  key?: string
  errno?: number | null
  port?: number | null
  addressType?: number | string
}

/** How long a connection that nobody may have yet waits until it is offered again. */
const AGAIN_MS = 20

/** The same, while those who may have it have yet to take what they were offered: a spin of the two would cost a core. */
const BUSY_MS = 2

/** With connections that arrive without end, a listener is closed all the same after so long. */
const LONGEST_MS = 2_000

/** Which workers take connections, by the listener's key; `false`: not admitted yet, or withdrawn. */
const takers = new Map<string, Map<Handoff, boolean>>()

/**
 * Closes the listeners of these workers, as soon as nothing waits in them and nothing is on its way; nobody opens them again. From then
 * on connections are refused, which clients and balancers try again elsewhere; a worker closes what is no listener any more. What Node
 * accepts in one turn it offers in the same one, as long as a worker is free: when two turns brought nothing new, and nothing is on
 * its way, nothing waits.
 */
export async function closeListeners(handoffs: readonly Handoff[]): Promise<void> {
  for (const handoff of handoffs) handoff.shut()
  const until = performance.now() + LONGEST_MS
  const offered = () => handoffs.reduce((sum, handoff) => sum + handoff.offered, 0)
  for (let calm = 0; calm < 2 && performance.now() < until;) {
    const before = offered()
    await turn()
    calm = offered() === before && handoffs.every(({ onTheirWay }) => onTheirWay === 0) ? calm + 1 : 0
  }
  for (const [key, of] of takers) for (const handoff of handoffs) if (of.has(handoff)) handoff.close(key)
}

/** A port of its own, or a datagram socket, is nothing that was closed. */
const reopens = ({ act, port, addressType }: Internal) => act === 'queryServer' && port !== 0 && !String(addressType).startsWith('udp')

const isCluster = (message: unknown): message is Internal => (message as Internal | null)?.cmd === 'NODE_CLUSTER'

/** Watches over what is handed to a worker. Call it in the same turn as `cluster.fork()`. */
export class Handoff {
  /** How many connections were on their way to this worker, of all time. */
  offered = 0
  #process: ChildProcess
  #state: 'new' | 'admitted' | 'withdrawn' = 'new'
  /** By the sequence number, on their way: of which listener. */
  #pending = new Map<number, string>()
  #left = false
  #shut = false

  constructor(worker: Worker) {
    this.#process = worker.process
    this.#process.on('internalMessage', message => this.#heard(message))
    this.#process.once('disconnect', () => {
      this.#left = true
    })
    // A write to one that has just died: its exit says the rest.
    worker.on('error', () => {})
    this.#interceptSend()
    this.#interceptEmit()
    this.#interceptDisconnect()
  }

  /** The worker may have connections. */
  admit(): void {
    this.#enter('admitted')
  }

  /** The worker gets no more connections, as long as another one does. */
  withdraw(): void {
    this.#enter('withdrawn')
  }

  get onTheirWay(): number {
    return this.#pending.size
  }

  /** One that is still starting would open the listener again: from now on it gets no answer when it asks for one. */
  shut(): void {
    this.#shut = true
  }

  /** Node takes it for the worker's word, and closes the listener at the last one's. */
  close(key: string): void {
    this.#process.emit('internalMessage', { cmd: 'NODE_CLUSTER', act: 'close', key })
  }

  #enter(state: 'admitted' | 'withdrawn'): void {
    this.#state = state
    for (const of of takers.values()) if (of.has(this)) of.set(this, state === 'admitted')
  }

  #interceptEmit(): void {
    const target = this.#process
    const emit = target.emit as (event: string, ...args: unknown[]) => boolean
    target.emit = (event: string, ...args: unknown[]): boolean => {
      const [message] = args
      if (this.#shut && event === 'internalMessage' && isCluster(message) && reopens(message)) return true
      return emit.call(target, event, ...args)
    }
  }

  #interceptSend(): void {
    const target = this.#process
    const send = target.send as (message: unknown, ...rest: unknown[]) => boolean
    target.send = (message: unknown, ...rest: unknown[]): boolean => {
      if (isCluster(message) && !this.#sends(message, rest[0])) return true
      return send.call(target, message, ...rest)
    }
  }

  /** @returns Whether it may go out. */
  #sends({ act, ack, seq, key, errno }: Internal, handle: unknown): boolean {
    if (key === undefined) return true
    if (act === 'newconn' && seq !== undefined && handle) {
      this.#pending.set(seq, key)
      this.offered++
      const others = this.#others(key).filter(([, admitted]) => admitted)
      if (this.#state === 'admitted' || (this.#state === 'withdrawn' && others.length === 0)) return true
      // Not in the same turn: Node offers the worker the next one as soon as it has the answer.
      // When the listener has been closed meanwhile nobody will ever have it: "accepted" makes Node close it.
      const again = () => this.#answer(seq, !takers.has(key))
      if (others.some(([{ onTheirWay }]) => onTheirWay === 0)) setImmediate(again)
      else setTimeout(again, others.length > 0 ? BUSY_MS : AGAIN_MS)
      return false
    }
    if (ack !== undefined && !errno) {
      const of = takers.get(key) ?? new Map<Handoff, boolean>()
      takers.set(key, of.set(this, this.#state === 'admitted'))
    }
    return true
  }

  #heard(message: unknown): void {
    if (!isCluster(message)) return
    if (message.ack !== undefined) this.#pending.delete(message.ack)
    else if (message.act === 'close' && message.key !== undefined) this.#forget(message.key)
  }

  /** `disconnect()` is what Node calls, too, when the channel has ended. */
  #interceptDisconnect(): void {
    const target = this.#process
    const disconnect = target.disconnect
    target.disconnect = () => {
      disconnect.call(target)
      // Node emits `disconnect` in the next tick, unless it waits for an acknowledgement that will not come.
      process.nextTick(() => {
        if (!this.#left) target.emit('disconnect')
        this.#recover()
      })
    }
  }

  #recover(): void {
    for (const key of takers.keys()) this.#forget(key)
    for (const [seq, key] of this.#pending) this.#answer(seq, this.#others(key).length === 0)
  }

  #answer(seq: number, accepted: boolean): void {
    if (!this.#pending.delete(seq)) return
    this.#process.emit('internalMessage', { cmd: 'NODE_CLUSTER', ack: seq, accepted })
  }

  /** The other workers that take connections of this listener, and whether they do so already. */
  #others(key: string): [Handoff, boolean][] {
    return [...takers.get(key) ?? []].filter(([taker]) => taker !== this)
  }

  #forget(key: string): void {
    const of = takers.get(key)
    of?.delete(this)
    if (of?.size === 0) takers.delete(key)
  }
}
