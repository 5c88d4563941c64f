import { LameduckError, type LameduckErrorCode } from '../core/index.ts'

/**
 * Why the endpoint does not start. INSECURE: it would be open to the network without TLS and authorisation; FOLDER: a folder is not private, or
 * cannot be made; IN_USE: something lives at that path.
 */
export type OpsErrorCode = 'ERR_LAMEDUCK_OPTION' | 'ERR_LAMEDUCK_OPS_INSECURE' | 'ERR_LAMEDUCK_OPS_FOLDER' | 'ERR_LAMEDUCK_OPS_IN_USE'

/** An error at start-up. */
export function refusal(code: OpsErrorCode, message: string): LameduckError {
  return new LameduckError(code as LameduckErrorCode, message)
}
