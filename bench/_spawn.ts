/** The bench's side of a server child (_server.ts). */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { PeerName, Settings } from './_peers.ts'
import type { Memory, Question, Usage } from './_server.ts'

export interface SpawnOptions extends Settings {
  peer: PeerName
  /** How long a request takes. With it, or with 0, every executed id is journalled; without it: hello world. */
  handlerMs?: number
  /** Watch the longest loop iteration from SIGTERM on. */
  stalls?: boolean
  exposeGc?: boolean
}

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
  /** performance.now() of this process. */
  at: number
}

export interface ServerChild {
  readonly port: number
  readonly exited: Promise<Exit>
  /** SIGTERM now, SIGKILL if it still lives after `killMs`. Resolves when the process is gone. */
  terminate(killMs?: number): Promise<Exit & { startedAt: number, drainMs: number, killed: boolean }>
  ask(question: 'cpu'): Promise<Usage>
  ask(question: 'memory'): Promise<Memory>
  /** The ids that reached the application. */
  executed(): number[]
  /** The longest loop iteration since SIGTERM, by the clock and by CPU time. */
  longestStall(): { wallMs: number, cpuMs: number }
  /** Ends it whatever its state, and removes its files. */
  dispose(): Promise<void>
}

const program = fileURLToPath(new URL('_server.ts', import.meta.url))

export async function spawnServer(options: SpawnOptions): Promise<ServerChild> {
  const { peer, handlerMs, lameduckMs, stalls = false, exposeGc = false } = options
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-bench-'))
  const journal = join(folder, 'journal')
  const stallFile = join(folder, 'stalls')

  const args = ['--peer', peer]
  if (handlerMs !== undefined) args.push('--handler-ms', String(handlerMs), '--journal', journal)
  if (lameduckMs !== undefined) args.push('--lameduck-ms', String(lameduckMs))
  if (stalls) args.push('--stalls', stallFile)
  const child = fork(program, args, { execArgv: ['--import', 'tsx', ...exposeGc ? ['--expose-gc'] : []] })

  const exited = once(child, 'exit').then(([code, signal]): Exit => ({ code, signal, at: performance.now() }))
  const { port } = await nextMessage<{ port: number }>(child)

  return {
    port,
    exited,
    executed: () => readFileSync(journal, 'utf8').split('\n').filter(Boolean).map(Number),
    longestStall() {
      const file = readFileSync(stallFile)
      return { wallMs: file.readDoubleLE(0), cpuMs: file.readDoubleLE(8) }
    },
    ask(question: Question) {
      child.send(question)
      return nextMessage<never>(child)
    },
    async terminate(killMs = 10_000) {
      const startedAt = performance.now()
      let killed = false
      child.kill('SIGTERM')
      const timer = setTimeout(() => { killed = child.kill('SIGKILL') }, killMs)
      const exit = await exited
      clearTimeout(timer)
      return { ...exit, startedAt, killed, drainMs: exit.at - startedAt }
    },
    async dispose() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
      await exited
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** What the child says next; it rejects when it ends instead. */
export async function nextMessage<T>(child: ChildProcess): Promise<T> {
  const controller = new AbortController()
  const { signal } = controller
  const gone = once(child, 'exit', { signal }).then(([code]) => {
    throw new Error(`a child process ended (${code}) before it answered`)
  })
  try {
    const [message] = await Promise.race([once(child, 'message', { signal }), gone]) as [T]
    return message
  } finally {
    gone.catch(() => {})
    controller.abort()
  }
}
