import { messageOf } from '../core/thrown.ts'
import type { ReloadResult } from './rollout.ts'
import type { StopReport } from './supervisor.ts'

/** What went wrong, for programs. */
export type ClusterErrorCode =
  /** An option out of range, or unknown. */
  | 'ERR_LAMEDUCK_CLUSTER_OPTION'
  /** The script (or the env file) is not there, or cannot be read. */
  | 'ERR_LAMEDUCK_CLUSTER_SCRIPT'
  | 'ERR_LAMEDUCK_CLUSTER_ENV'
  /** A worker ended before it was ready. */
  | 'ERR_LAMEDUCK_CLUSTER_DIED'
  /** A worker did not listen, or did not become ready, within `readyTimeoutMs`. */
  | 'ERR_LAMEDUCK_CLUSTER_SILENT'
  | 'ERR_LAMEDUCK_CLUSTER_UNREADY'
  /** The first worker of a new release died, or failed too many requests, while it served alone. */
  | 'ERR_LAMEDUCK_CLUSTER_CANARY'
  /** A slot's workers died too often: it is left empty. */
  | 'ERR_LAMEDUCK_CLUSTER_CRASH_LOOP'
  /** A worker is being replaced already; the supervisor is stopping. */
  | 'ERR_LAMEDUCK_CLUSTER_BUSY'
  | 'ERR_LAMEDUCK_CLUSTER_STOPPED'
  /** The control socket cannot be made: somebody else's, in use, or in a folder that others may write to. */
  | 'ERR_LAMEDUCK_CLUSTER_CONTROL'
  /** A client of the control socket: nobody listens there; it was cut off; it asked for something unknown. */
  | 'ERR_LAMEDUCK_CLUSTER_NOT_RUNNING'
  | 'ERR_LAMEDUCK_CLUSTER_COMMAND'

/** The error of everything in `lameduck/cluster`: compare its `code`. */
export class ClusterError extends Error {
  readonly code: ClusterErrorCode
  /** Of `command()`: how the reload or the stop ended that did not go well. */
  declare readonly result?: ReloadResult | StopReport

  constructor(code: ClusterErrorCode, message: string, result?: ReloadResult | StopReport) {
    super(message)
    this.name = 'ClusterError'
    this.code = code
    if (result) this.result = result
  }
}

/** As one of ours, whatever it was. */
export function clusterError(error: unknown, code: ClusterErrorCode): ClusterError {
  if (error instanceof ClusterError) return error
  return new ClusterError(code, messageOf(error))
}
