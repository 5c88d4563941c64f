import { http2World, KINDS } from './_http2.ts'
import { sessions } from './_suite-sessions.ts'

for (const kind of KINDS) sessions(http2World(kind))
