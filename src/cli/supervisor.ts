// The one place at which the command line meets src/cluster: what it uses of that, and how that comes here.

/** One thing that has happened to a worker. */
export interface Step {
  slot: number
  pid?: number
  generation: number
  what: string
  why?: string
  afterMs?: number
}

export interface WorkerStatus {
  slot: number
  pid: number | null
  generation: number
  state: string
  uptimeMs: number
  connections: number | null
  inFlight: number | null
  requests: number | null
  rss: number | null
  heapUsed: number | null
  restarts: number
  error?: string
}

export interface Status {
  pid: number
  script: string
  generation: number
  state: string
  wanted: number
  ready: number
  uptimeMs: number
  workers: WorkerStatus[]
}

export interface ReloadResult {
  outcome: 'reloaded' | 'rolled-back' | 'mixed'
  generation: number
  durationMs: number
  readyBefore: number
  readyLeast: number
  code?: string
  reason?: string
}

export interface StopReport {
  outcome: 'clean' | 'forced' | 'failed'
  code: number
  reason: string
  durationMs: number
  error?: Error & { code: string }
}

/** A running supervisor, in this process. */
export interface Supervisor {
  readonly ready: Promise<void>
  readonly stopped: Promise<StopReport>
  readonly closed: Promise<void>
  readonly control: string | undefined
  status(): Status
}

export type Command = { do: 'status' } | { do: 'reload' } | { do: 'stop' } | { do: 'scale'; workers: number }

/** `lameduck/cluster`, as far as it is used here. */
export interface Cluster {
  supervise(options: Record<string, unknown> & { script: string }): Supervisor
  command(path: string, what: Command, listener?: { step?(step: Step): void; waiting?(why: string): void }): Promise<unknown>
  findSupervisors(script?: string, cwd?: string): Promise<{ path: string; status: Status }[]>
}

let substitute: Cluster | undefined

export async function loadCluster(): Promise<Cluster> {
  return substitute ?? await import('../cluster/index.ts') as unknown as Cluster
}

/** For tests: another one than the real one; undefined for that. */
export function useCluster(cluster: Cluster | undefined): void {
  substitute = cluster
}
