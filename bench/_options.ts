import type { PeerName } from './_peers.ts'

/** What every bench is told. */
export interface Options {
  peers: readonly PeerName[]
  /** Few rounds: does it run at all. The figures mean little. */
  quick: boolean
  /** Not all of it: shown, and not kept in bench/results. */
  partial: boolean
}
