import { hrtime } from 'node:process'

/**
 * Milliseconds on a clock that all threads of the process share, and that nobody sets: `performance.now()` begins anew in each thread, `Date.now()`
 * may jump.
 */
export const sharedNow = () => Number(hrtime.bigint()) / 1e6
