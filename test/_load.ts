import { Worker } from 'node:worker_threads'
import type { LoadOptions, LoadResult } from './fixtures/load.ts'

/** Clients in another thread. */
export interface Load {
  /** Blocks this thread until all connections are made. */
  block(): void
  /** Waits for that without blocking. */
  made(): Promise<void>
  /** Lets the uploads begin. */
  go(): void
  result: Promise<LoadResult>
}

let worker: Worker | undefined

/** One thread for all load of a test file: to start it takes longer than most tests. */
function thread(): Worker {
  if (worker) return worker
  const href = new URL('fixtures/load.ts', import.meta.url).href
  // Node 20 has no way to preload a loader into a worker: hence tsx's own.
  const boot = `import('tsx/esm/api').then(({ register }) => { register(); return import(${JSON.stringify(href)}) })`
  worker = new Worker(boot, { eval: true })
  worker.setMaxListeners(0)
  return worker
}

/** Starts clients in another thread: they go on while the server's event loop is blocked. One load at a time. */
export function startLoad(options: Omit<LoadOptions, 'gate'>): Load {
  const gate = new SharedArrayBuffer(4)
  const made = new Int32Array(gate)
  const clients = thread()
  const limit = performance.now() + 20_000
  const late = () => {
    if (performance.now() > limit) throw new Error(`only ${Atomics.load(made, 0)} of ${options.connections} connections`)
  }
  clients.ref()
  clients.postMessage({ ...options, gate } satisfies LoadOptions)
  const result = new Promise<LoadResult>((resolve, reject) => {
    clients.once('message', resolve)
    clients.once('error', reject)
  })
  return {
    block() {
      for (let have = 0; have < options.connections; have = Atomics.load(made, 0)) {
        late()
        Atomics.wait(made, 0, have, 20)
      }
    },
    async made() {
      for (; Atomics.load(made, 0) < options.connections; late()) await new Promise(resolve => setTimeout(resolve, 2))
    },
    go: () => clients.postMessage('go'),
    result: result.finally(() => clients.unref()),
  }
}

/** Blocks the event loop. */
export function blockFor(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}
