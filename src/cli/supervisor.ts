// The one place at which the command line meets src/cluster: loaded when it is asked for.
import type * as ClusterModule from '../cluster/index.ts'

export type { Command, ReloadResult, Status, Step, StopReport } from '../cluster/index.ts'

/** `lameduck/cluster`, as far as it is used here. */
export type Cluster = Pick<typeof ClusterModule, 'command' | 'findSupervisors' | 'supervise'>

let substitute: Cluster | undefined

export async function loadCluster(): Promise<Cluster> {
  return substitute ?? import('../cluster/index.ts')
}

/** For tests: another one than the real one; undefined for that. */
export function useCluster(cluster: Cluster | undefined): void {
  substitute = cluster
}
