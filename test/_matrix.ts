// The conformance suite on one library and one transport, for `npm run conformance`, which reads its events (_matrix-events.ts).
import { isPeer } from '../bench/_peers.ts'
import { conformance } from './_conformance.ts'
import { http2World, isHttp2 } from './_http2.ts'
import { peerWorld } from './_peer-world.ts'
import { registered } from './_scenario.ts'
import { sessions } from './_suite-sessions.ts'
import { rawWorld } from './_world.ts'

const { LAMEDUCK_PEER: name = '', LAMEDUCK_OVER: over = '' } = process.env
if (!isPeer(name)) throw new Error(`no such library: ${name}`)

if (isHttp2(over)) sessions(name === 'lameduck' ? http2World(over) : peerWorld(name, over))
else if (over === 'http' || over === 'https') conformance(name === 'lameduck' ? rawWorld(over === 'https') : peerWorld(name, over))
else throw new Error(`no such transport: ${over}`)
// A scenario that waits for a connection that is gone must run into its own limit, not end the rest. The parent ends the process.
setInterval(() => {}, 1_000)
process.send?.({ rows: [...registered] })
