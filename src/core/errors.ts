/** What went wrong, for programs: compare this, not the message and not the class (two copies of the package have two classes). */
export type LameduckErrorCode =
  | 'ERR_LAMEDUCK_OPTION' | 'ERR_LAMEDUCK_SERVER' | 'ERR_LAMEDUCK_STATE'
  // Of the maintenance endpoint and of the supervisor; their documents list them.
  | `ERR_LAMEDUCK_OPS_${string}` | `ERR_LAMEDUCK_CLUSTER_${string}`

/** The only error that lameduck itself throws; always at the door, before anything has changed. */
export class LameduckError extends Error {
  readonly code: LameduckErrorCode

  constructor(code: LameduckErrorCode, message: string) {
    super(message)
    this.name = 'LameduckError'
    this.code = code
  }
}
