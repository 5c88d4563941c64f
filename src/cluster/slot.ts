import { Backoff } from './backoff.ts'
import type { ClusterError } from './errors.ts'
import type { Member } from './member.ts'
import type { Settings } from './options.ts'
import type { Release } from './release.ts'

/** A place for one worker. It outlives its workers. */
export class Slot {
  readonly index: number
  /** What its next worker runs. */
  release: Release
  /** The worker in service, or on its way there. */
  current: Member | undefined
  /** The one that is to replace it. */
  next: Member | undefined
  /** Settles when that has taken over, or failed. */
  settled: Promise<unknown> = Promise.resolve()
  /** Workers that were started because one had ended unasked. */
  restarts = 0
  readonly backoff: Backoff
  /** Why nobody is here, after too many crashes. */
  error: ClusterError | undefined
  /** Calls off the restart that is waiting. */
  cancel: () => void = () => {}

  constructor(index: number, release: Release, settings: Settings) {
    this.index = index
    this.release = release
    this.backoff = new Backoff(settings)
  }
}
