import net from 'node:net'
import type { Command, Reply } from './control-session.ts'
import { findControlPaths } from './control-path.ts'
import { ClusterError } from './errors.ts'
import { Lines } from './lines.ts'
import type { ReloadResult } from './rollout.ts'
import type { Status } from './status.ts'
import type { Step } from './step.ts'
import type { StopReport } from './supervisor.ts'

/** Hears what happens while a command is under way. */
export interface CommandListener {
  step?(step: Step): void
  /** The command has to wait, and for what; undefined when it goes on. What `step` tells meanwhile is the others' work. */
  waiting?(why: string | undefined): void
  /** Aborted: nobody waits for it any more. What was ordered goes on. */
  signal?: AbortSignal
}

/** How long one of several may take to say what it is. */
const ASK_MS = 1_000

type Result = Status | ReloadResult | StopReport | undefined

/**
 * Sends one command to a supervisor, and waits for its end.
 *
 * @throws {ClusterError} `ERR_LAMEDUCK_CLUSTER_NOT_RUNNING` when nobody listens there, the signal is aborted, or the supervisor ended meanwhile; or the
 *   supervisor's reason. For a reload that was rolled back that is the reason for this, and `result` says the rest.
 */
export function command(path: string, what: Command, listener: CommandListener = {}): Promise<Result> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(path)
    const fail = (code: string, message: string, result?: ClusterError['result']) => {
      // The supervisor's codes are ours, or it is a newer one.
      reject(new ClusterError(code as ClusterError['code'], message, result))
      socket.destroy()
    }
    const { signal } = listener
    const aborted = () => fail('ERR_LAMEDUCK_CLUSTER_NOT_RUNNING', `the supervisor on ${path} did not answer in time`)
    if (signal?.aborted) return aborted()
    signal?.addEventListener('abort', aborted, { once: true })
    socket.once('close', () => signal?.removeEventListener('abort', aborted))
    const lines = new Lines(line => {
      const reply = JSON.parse(line.toString()) as Reply
      if ('step' in reply) listener.step?.(reply.step)
      else if ('waiting' in reply) listener.waiting?.(reply.waiting || undefined)
      else if ('ok' in reply && reply.ok) {
        resolve(reply.result)
        socket.destroy()
        // A newer supervisor may tell more than that.
      } else if ('ok' in reply) fail(reply.code, reply.message, reply.result)
    })
    socket.once('connect', () => socket.write(`${JSON.stringify(what)}\n`))
    socket.on('data', (chunk: Buffer) => {
      try {
        lines.push(chunk)
      } catch (error) {
        fail('ERR_LAMEDUCK_CLUSTER_COMMAND', `an answer that is none: ${(error as Error).message}`)
      }
    })
    socket.once('error', error => fail('ERR_LAMEDUCK_CLUSTER_NOT_RUNNING', `no supervisor answers on ${path}: ${error.message}`))
    socket.once('close', () => fail('ERR_LAMEDUCK_CLUSTER_NOT_RUNNING', `the supervisor on ${path} ended before it had answered`))
  })
}

/** A moment of the supervisor. @throws As {@link command}. */
export async function status(path: string, listener?: CommandListener): Promise<Status> {
  return await command(path, { do: 'status' }, listener) as Status
}

/** Supervisors that answer within a second in the default folder: of one script, or all. */
export async function findSupervisors(script?: string, cwd?: string): Promise<{ path: string; status: Status }[]> {
  const found = await Promise.all(findControlPaths(script, cwd).map(async path => {
    try {
      return { path, status: await status(path, { signal: AbortSignal.timeout(ASK_MS) }) }
    } catch {
      return undefined
    }
  }))
  // Whatever else listens there is none.
  return found.filter(entry => entry !== undefined && typeof entry.status?.script === 'string') as { path: string; status: Status }[]
}
