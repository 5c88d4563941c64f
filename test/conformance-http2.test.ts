import { describe } from 'node:test'
import { http2World, KINDS } from './_http2.ts'
import { sessions } from './_suite-sessions.ts'

for (const kind of KINDS) describe(kind, { concurrency: 4 }, () => sessions(http2World(kind)))
