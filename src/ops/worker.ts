// The endpoint's thread: a worker of the process that it looks into.
import { workerData, type MessagePort } from 'node:worker_threads'
import { assemble } from './assemble.ts'
import { Heartbeat } from './heartbeat.ts'
import { Link } from './link.ts'
import type { Settings } from './options.ts'

/** What the main thread gives the worker. */
export interface WorkerData {
  port: MessagePort
  settings: Settings
  heartbeat: SharedArrayBuffer
  /** See `peer.ts`. */
  mainFile: string | undefined
}

const { port, settings, heartbeat } = workerData as WorkerData
assemble(new Link(port), settings, new Heartbeat(heartbeat), true)
