// The endpoint's thread: a worker of the process that it looks into.
import { getPriority, setPriority } from 'node:os'
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

/** So much nicer than the application: a quarter of a core that it wants for itself, all of one that it does not. */
const NICE = 5

// On Linux a priority is a thread's own (setpriority(2), "C library/kernel differences"): the application's thread comes first, whatever strangers
// send, or operators ask for. Elsewhere it would be the whole process's.
if (process.platform === 'linux') {
  try {
    setPriority(0, Math.min(19, getPriority(0) + NICE))
  } catch {
    // Forbidden here, as by some sandboxes: it works without.
  }
}

const { port, settings, heartbeat } = workerData as WorkerData
assemble(new Link(port), settings, new Heartbeat(heartbeat), true)
