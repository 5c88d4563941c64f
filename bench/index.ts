/**
 * npm run bench                     race, idle and overhead
 * npm run bench -- race idle        only these; also: interval (how the default of lameduckMs was
 *                                   chosen), cost (µs of JavaScript per request), websockets
 * What follows is shown, and not kept in bench/results:
 *   --quick                         fewer rounds: does it run at all
 *   --peer NAME (may be repeated)   only these libraries
 */
import { parseArgs } from 'node:util'
import { buildCore } from './_build.ts'
import type { Options } from './_options.ts'
import { isPeer, peerNames, type PeerName } from './_peers.ts'

const benches: Record<string, () => Promise<{ run(options: Options): Promise<void> }>> = {
  race: () => import('./race.ts'),
  idle: () => import('./idle.ts'),
  overhead: () => import('./overhead.ts'),
  cost: () => import('./cost.ts'),
  websockets: () => import('./websockets.ts'),
  snapshot: () => import('./snapshot.ts'),
  gc: () => import('./gc.ts'),
  ops: () => import('./ops.ts'),
  'ops-file': () => import('./ops-file.ts'),
  interval: () => import('./interval.ts'),
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    peer: { type: 'string', multiple: true, default: [] },
  },
})

const names = positionals.length > 0 ? positionals : ['race', 'idle', 'overhead']
const loaders = names.map((name) => oneOf(benches, name))
const peers = values.peer.length > 0 ? values.peer.map(asPeer) : peerNames

using _core = await buildCore()
for (const load of loaders) await (await load()).run({ peers, quick: values.quick, partial: values.quick || values.peer.length > 0 })

function oneOf<T>(table: Record<string, T>, name: string): T {
  const found = Object.hasOwn(table, name) ? table[name] : undefined
  if (!found) throw new Error(`no bench "${name}": ${Object.keys(table).join(', ')}`)
  return found
}

function asPeer(name: string): PeerName {
  if (!isPeer(name)) throw new Error(`no peer "${name}": ${peerNames.join(', ')}`)
  return name
}
