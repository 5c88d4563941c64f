import { access } from 'node:fs'
import { MessageChannel, Worker } from 'node:worker_threads'
import { assemble } from './assemble.ts'
import type { Heartbeat } from './heartbeat.ts'
import { Link } from './link.ts'
import type { Settings } from './options.ts'
import { mainFile } from './peer.ts'
import type { WorkerData } from './worker.ts'

/** An endpoint's thread that has been started. */
export interface Thread {
  link: Link
  /** Undefined on the main thread. */
  endpoint: ReturnType<typeof assemble> | undefined
  /** Settles when it has ended: with what ended it, or nothing. Never on the main thread before `end()`. */
  ended: Promise<Error | undefined>
  end(): Promise<void>
}

/**
 * Of what V8 may take for the endpoint: a fault in it is not to become one of the process. In MiB. The young generation holds garbage only, and how
 * much of it decides when buffers that are used no more are given back: with 16 a snapshot's redaction took 8 MiB more, in no less time.
 */
const LIMITS = { maxOldGenerationSizeMb: 192, maxYoungGenerationSizeMb: 4 }

/** The worker's program, beside this one. From source, as in this repository's tests, it needs its loader (Node 20 gives a worker none). */
function program(): { source: URL | string; eval: boolean } {
  const { href } = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './ops-worker.js', import.meta.url)
  if (!href.endsWith('.ts')) return { source: new URL(href), eval: false }
  const url = JSON.stringify(href)
  return { source: `import('tsx/esm/api').then(({ tsImport }) => tsImport(${url}, ${url}))`, eval: true }
}

/** Starts the endpoint in a worker thread: it answers while the main thread hangs. */
export function startWorker(settings: Settings, heartbeat: Heartbeat): Thread {
  const { port1, port2 } = new MessageChannel()
  const data: WorkerData = { port: port2, settings, heartbeat: heartbeat.buffer, mainFile }
  // libuv's pool has the priority of the thread that first uses it: that is to be the application's, not the endpoint's.
  access('/', () => {})
  const { source, eval: evaluated } = program()
  const worker = new Worker(source, {
    eval: evaluated,
    name: 'lameduck ops',
    workerData: data,
    transferList: [port2],
    resourceLimits: LIMITS,
    // Secrets of the environment are not for it; and what was meant for the main thread (a debugger, a loader, a heap limit) neither.
    env: {},
    execArgv: [],
    argv: [],
  })
  // It ends with the process, and does not keep that alive.
  worker.unref()
  const ended = new Promise<Error | undefined>(resolve => {
    let cause: Error | undefined
    worker.on('error', error => {
      cause = error as Error
    })
    worker.on('exit', code => resolve(cause ?? (code === 0 ? undefined : new Error(`exit code ${code}`))))
  })
  const link = new Link(port1).unref()
  return {
    link,
    endpoint: undefined,
    ended,
    async end() {
      link.close()
      await worker.terminate()
    },
  }
}

/** Starts the endpoint on this thread: it hangs when that hangs. */
export function startHere(settings: Settings, heartbeat: Heartbeat): Thread {
  const { port1, port2 } = new MessageChannel()
  const theirs = new Link(port2).unref()
  const endpoint = assemble(theirs, settings, heartbeat, false)
  const link = new Link(port1).unref()
  let over = () => {}
  const ended = new Promise<undefined>(resolve => {
    over = () => resolve(undefined)
  })
  return {
    link,
    endpoint,
    ended,
    async end() {
      theirs.close()
      link.close()
      over()
    },
  }
}
