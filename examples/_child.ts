/** The parent's side of the service (_serve.ts). However the parent ends, the child ends with it. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { Journal } from './_journal.ts'
import type { Message } from './_serve.ts'

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
  /** From SIGTERM until the process was gone. */
  drainMs: number
  /** It had to be killed, after so long. */
  killed: boolean
}

export interface Service {
  readonly variant: string
  readonly pid: number
  readonly port: number
  /** As the service itself tells it. Undefined for those that have no phases. */
  readonly state: string | undefined
  /** The paths of all requests that have reached the application. */
  executed(): ReadonlyMap<string, unknown>
  /** SIGTERM now, SIGKILL if it still lives after `limitMs`. Resolves when the process is gone. */
  terminate(limitMs: number): Promise<Exit>
}

/** Resolves when it listens. @param program The built `_serve.ts`. @param onLine Gets what it prints. */
export async function startService(program: string, variant: string, onLine: (line: string) => void): Promise<Service> {
  const journal = new Journal()
  const stdio = ['ignore', 'pipe', 'pipe', 'ipc', journal.fd] as const
  const args = [variant, String(stdio.indexOf(journal.fd))]
  const child = fork(program, args, { execArgv: [], stdio: [...stdio] })
  const kill = () => child.kill('SIGKILL')
  process.on('exit', kill)
  for (const input of [child.stdout, child.stderr]) if (input) createInterface({ input }).on('line', onLine)

  let goneAt = NaN
  child.once('exit', () => { goneAt = performance.now() })
  // `close` comes after `exit`, when all that it printed has been read.
  const closed = once(child, 'close').then((args) => {
    process.off('exit', kill)
    journal.close()
    const [code, signal] = args as [Exit['code'], Exit['signal']]
    return { code, signal }
  })

  let state: string | undefined
  const port = await new Promise<number>((resolve, reject) => {
    child.on('message', (message: Message) => {
      if ('port' in message) resolve(message.port)
      else state = message.state
    })
    void closed.then(({ code, signal }) => reject(new Error(`the service ended before it listened (${signal ?? code})`)))
  })

  return {
    variant,
    pid: child.pid ?? NaN,
    port,
    get state() { return state },
    executed: () => journal.requests(),
    async terminate(limitMs) {
      if (goneAt > 0) throw new Error('the service ended before SIGTERM')
      const startedAt = performance.now()
      let killed = false
      child.kill('SIGTERM')
      const timer = setTimeout(() => { killed = kill() }, limitMs)
      const exit = await closed
      clearTimeout(timer)
      return { ...exit, killed, drainMs: goneAt - startedAt }
    },
  }
}
