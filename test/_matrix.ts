// The conformance suite on one library and one transport, for `npm run conformance`, which reads its events (_matrix-events.ts).
import { isPeer } from '../bench/_peers.ts'
import { conformance } from './_conformance.ts'
import { peerWorld } from './_peer-world.ts'
import { registered } from './_scenario.ts'
import { rawWorld } from './_world.ts'

const { LAMEDUCK_PEER: name = '', LAMEDUCK_TLS } = process.env
if (!isPeer(name)) throw new Error(`no such library: ${name}`)

const isTls = LAMEDUCK_TLS === '1'
conformance(name === 'lameduck' ? rawWorld(isTls) : peerWorld(name, isTls))
// A scenario that waits for a connection that is gone must run into its own limit, not end the rest. The parent ends the process.
setInterval(() => {}, 1_000)
process.send?.({ rows: [...registered] })
