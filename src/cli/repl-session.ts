import net from 'node:net'
import { WebSocket } from 'ws'
import { unreachable, type Client } from './client.ts'
import { Failure } from './failure.ts'
import type { Outcome } from './ops-inside.ts'

/** What the endpoint says; see src/ops/inspect/repl.ts. */
type Answer =
  | { type: 'hello'; node?: string; idleMs?: number }
  | ({ id: number; type: 'result'; recoverable?: boolean } & Outcome)
  | { id: number; type: 'completion'; prefix: string; names: string[] }
  | { id: number; type: 'console'; level: string; text: string }
  | { id: number | null; type: 'error'; code?: string; detail?: string; status?: number }

export type Result = Answer & { type: 'result' }

/** How the session ended: with the code of the close frame, and what was said with it. */
export interface End {
  code: number
  reason: string
}

/** How lines are evaluated. */
export interface LineOptions {
  sideEffects?: boolean
  timeoutMs?: number
}

/** Undefined: it is no message of this protocol. */
function parsed(data: Buffer): Answer | undefined {
  try {
    const answer = JSON.parse(data.toString('utf8')) as Answer | null
    return typeof answer === 'object' && answer !== null ? answer : undefined
  } catch {
    return undefined
  }
}

/** One REPL session over a WebSocket. */
export class ReplSession {
  readonly ended: Promise<End>
  readonly hello: Extract<Answer, { type: 'hello' }>
  /** Hears what the evaluated code prints. */
  onConsole: (level: string, text: string) => void = () => {}
  readonly #socket: WebSocket
  #waiting = new Map<number, { resolve(answer: Answer): void; reject(error: Error): void }>()
  #last = 0

  private constructor(socket: WebSocket, hello: Extract<Answer, { type: 'hello' }>) {
    this.#socket = socket
    this.hello = hello
    socket.on('message', (data: Buffer) => this.#hear(data))
    this.ended = new Promise(resolve => {
      socket.once('close', (code, reason) => {
        const end = { code, reason: reason.toString('utf8') }
        for (const { reject } of this.#waiting.values()) reject(new Failure('ERR_LAMEDUCK_CLI_ENDED', 'the session has ended'))
        resolve(end)
      })
    })
  }

  /** @throws {Failure} As the endpoint refuses it, or when it is not there. */
  static open(client: Client): Promise<ReplSession> {
    const { target } = client
    const { socketPath, headers, ...tls } = client.options
    const url = client.urlOf('/repl')
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
    const socket = new WebSocket(url, {
      headers,
      ...tls as object,
      perMessageDeflate: false,
      handshakeTimeout: 10_000,
      ...(socketPath !== undefined && { createConnection: () => net.connect(socketPath) }),
    })
    return new Promise((resolve, reject) => {
      socket.once('unexpected-response', (_, answer) => void client.refusalOf(answer).then(reject, reject))
      socket.on('error', error => reject(unreachable(target, error)))
      socket.once('close', () => reject(unreachable(target, new Error('the connection was closed'))))
      // In this very turn: its next messages must find their listener.
      socket.once('message', (data: Buffer) => {
        const hello = parsed(data)
        if (hello?.type === 'hello') resolve(new ReplSession(socket, hello))
        else {
          reject(new Failure('ERR_LAMEDUCK_CLI_ANSWER', 'the endpoint does not greet as a REPL does'))
          socket.terminate()
        }
      })
    })
  }

  /** @throws {Failure} What the endpoint refuses; that the session has ended. */
  async evaluate(code: string, options: LineOptions): Promise<Result> {
    return await this.#ask({ type: 'eval', code, ...options }) as Result
  }

  /** Names that could stand at the end, and what of them is there already. */
  async complete(code: string): Promise<[names: string[], prefix: string]> {
    const { names, prefix } = await this.#ask({ type: 'complete', code }) as Extract<Answer, { type: 'completion' }>
    return [names, prefix]
  }

  close(): void {
    this.#socket.close(1000)
    // An endpoint that does not answer the close frame is not waited for.
    setTimeout(() => this.#socket.terminate(), 500).unref()
  }

  #ask(question: object): Promise<Answer> {
    const id = ++this.#last
    return new Promise<Answer>((resolve, reject) => {
      if (this.#socket.readyState !== WebSocket.OPEN) return reject(new Failure('ERR_LAMEDUCK_CLI_ENDED', 'the session has ended'))
      this.#waiting.set(id, { resolve, reject })
      return this.#socket.send(JSON.stringify({ id, ...question }))
    }).finally(() => this.#waiting.delete(id))
  }

  #hear(data: Buffer): void {
    const answer = parsed(data)
    if (!answer || answer.type === 'hello') return
    if (answer.type === 'console') return this.onConsole(answer.level, answer.text)
    const waiting = this.#waiting.get(answer.id ?? this.#last)
    if (answer.type !== 'error') return waiting?.resolve(answer)
    return waiting?.reject(new Failure(answer.code ?? 'ERR_LAMEDUCK_CLI_ANSWER', answer.detail ?? 'refused'))
  }
}
