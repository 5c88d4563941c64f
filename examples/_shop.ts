/**
 * The program of the supervisor's workers: what a release of the shop runs. It needs no line more than without a supervisor.
 */
import { openSync, writeSync } from 'node:fs'
import express from 'express'
import { lameduck } from '../src/adapters/express.ts'
import { shop } from './_service.ts'

/** What it is told by its environment. */
export interface Environment {
  /** Where it listens, like the other workers. */
  PORT: string
  /** A file: gets the path of each request that reaches the application, and the release. */
  JOURNAL: string
  RELEASE: string
  /** A release that is deployed without it is not ready: what a readiness check is for. */
  DATABASE_URL?: string
}

const { PORT, JOURNAL = '', RELEASE, DATABASE_URL }: Partial<Environment> = process.env
const journal = openSync(JOURNAL, 'a')

const app = express()
const { server } = lameduck(app, { health: { checks: { database: () => DATABASE_URL !== undefined } } })
// Synchronously: what was executed must be known after a SIGKILL, too.
app.use((req, _res, next) => {
  writeSync(journal, `${req.path} ${RELEASE}\n`)
  next()
})
app.use(shop())

// What a server behind a proxy or load balancer is told to have: no connection ends by Node's 5 s.
server.keepAliveTimeout = 65_000
server.listen(Number(PORT), '127.0.0.1')
