import type { Socket } from 'node:net'
import { ClusterError, clusterError } from './errors.ts'
import { Lines } from './lines.ts'
import type { ReloadResult } from './rollout.ts'
import type { Status } from './status.ts'
import type { Step } from './step.ts'
import type { StopReport } from './supervisor.ts'
import type { Waiting } from './turn.ts'

/** What can be commanded. */
export interface Commanded {
  reload(waiting?: Waiting): Promise<ReloadResult>
  scale(workers: number, waiting?: Waiting): Promise<void>
  stop(signal?: 'SIGTERM' | 'SIGINT', reason?: string): Promise<StopReport>
  status(): Status
  onStep(listener: (step: Step) => void): () => void
}

/** One line from a client. */
export type Command = { do: 'status' } | { do: 'reload' } | { do: 'stop' } | { do: 'scale'; workers: number }

/** Lines to a client: any number of steps while the command is under way, then one end. */
export type Reply =
  | { step: Step }
  /** The command has to wait, and for what; empty: it waits no more. */
  | { waiting: string }
  | { ok: true; result?: Status | ReloadResult | StopReport }
  | { ok: false; code: string; message: string; result?: ReloadResult | StopReport }

function parse(line: Buffer): Command {
  let command: unknown
  try {
    command = JSON.parse(line.toString())
  } catch {
    throw new ClusterError('ERR_LAMEDUCK_CLUSTER_COMMAND', 'a command is a line of JSON')
  }
  const name = (command as { do?: unknown } | null)?.do
  if (name !== 'status' && name !== 'reload' && name !== 'stop' && name !== 'scale') {
    throw new ClusterError('ERR_LAMEDUCK_CLUSTER_COMMAND', `${JSON.stringify(name)} is no command; allowed: {"do": "status" | "reload" | "stop" | "scale"}`)
  }
  return command as Command
}

function failed({ code, reason, ...rest }: ReloadResult): Reply {
  const result: ReloadResult = { ...rest, ...(code && { code }), ...(reason !== undefined && { reason }) }
  return { ok: false, code: code ?? 'ERR_LAMEDUCK_CLUSTER_DIED', message: `${rest.outcome}: ${reason}`, result }
}

async function run(command: Command, supervisor: Commanded, reply: (line: Reply) => void): Promise<Reply> {
  const waiting: Waiting = why => reply({ waiting: why ?? '' })
  switch (command.do) {
    case 'status': return { ok: true, result: supervisor.status() }
    case 'reload': {
      const result = await supervisor.reload(waiting)
      return result.outcome === 'reloaded' ? { ok: true, result } : failed(result)
    }
    case 'scale':
      await supervisor.scale(command.workers, waiting)
      return { ok: true, result: supervisor.status() }
    case 'stop': {
      const result = await supervisor.stop('SIGTERM', 'stop')
      if (result.outcome === 'clean') return { ok: true, result }
      return { ok: false, code: 'ERR_LAMEDUCK_CLUSTER_STOPPED', message: `stopped, ${result.outcome}`, result }
    }
    default: throw new ClusterError('ERR_LAMEDUCK_CLUSTER_COMMAND', 'no such command')
  }
}

/** Serves one client. Its commands are taken one after the other; one that leaves does not call off what it asked for. */
export function serve(socket: Socket, supervisor: Commanded): void {
  let turn: Promise<void> = Promise.resolve()
  const reply = (line: Reply) => {
    if (socket.writable) socket.write(`${JSON.stringify(line)}\n`)
  }
  const execute = async (line: Buffer) => {
    let end = () => {}
    try {
      const command = parse(line)
      if (command.do !== 'status') end = supervisor.onStep(step => reply({ step }))
      reply(await run(command, supervisor, reply))
    } catch (error) {
      const { code, message } = clusterError(error, 'ERR_LAMEDUCK_CLUSTER_COMMAND')
      reply({ ok: false, code, message })
    } finally {
      end()
    }
  }
  const lines = new Lines(line => {
    turn = turn.then(() => execute(line))
  })
  socket.on('error', () => {})
  socket.on('data', (chunk: Buffer) => lines.push(chunk))
  socket.once('close', () => lines.end())
}
