import type { Health } from './health.ts'
import type { Destroyed } from './report.ts'

/** What a tracker tells the one who leads the drain. */
export interface TrackerHost {
  readonly health: Health | undefined
  /** The last connection has ended. */
  emptied(): void
  destroyed(entry: Destroyed, isConnection?: boolean): void
  fault(where: string, error: unknown): void
}
