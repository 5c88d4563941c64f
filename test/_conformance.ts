import { describe } from 'node:test'
import { bodies } from './_suite-bodies.ts'
import { connections } from './_suite-connections.ts'
import { expects } from './_suite-expect.ts'
import { framing } from './_suite-framing.ts'
import { limits } from './_suite-limits.ts'
import { load } from './_suite-load.ts'
import { phases } from './_suite-phases.ts'
import { pipelines } from './_suite-pipelines.ts'
import { requests } from './_suite-requests.ts'
import { eventStreams } from './_suite-streams.ts'
import { tunnels } from './_suite-tunnels.ts'
import { webSockets } from './_suite-websockets.ts'
import type { World } from './_world.ts'

/**
 * The conformance suite: what the client of a draining server sees, the same in every world.
 * Scenarios that wait run beside each other; those that load the machine or block the loop run alone.
 */
export function conformance(world: World): void {
  describe(world.name, { concurrency: 8 }, () => {
    for (const register of [requests, connections, framing, pipelines, expects, tunnels, webSockets, limits, phases, eventStreams]) register(world)
  })
  describe(`${world.name}, one at a time`, { concurrency: 1 }, () => {
    for (const register of [bodies, load]) register(world)
  })
}
