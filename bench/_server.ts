/**
 * The server child: a plain http server with one of the peers attached.
 * What it tells must survive process.exit and SIGKILL, so it writes to files, synchronously, and never at the end.
 */
import { openSync, writeSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { parseArgs } from 'node:util'
import { isPeer, peer } from './_peers.ts'

/** A question of the bench, and its answer. */
export type Question = 'cpu' | 'memory'
export interface Usage { cpuMicros: number }
export interface Memory { heapUsed: number, rss: number, external: number }

const { values } = parseArgs({
  options: {
    peer: { type: 'string' },
    'handler-ms': { type: 'string' },
    journal: { type: 'string' },
    stalls: { type: 'string' },
    'lameduck-ms': { type: 'string' },
  },
})
const { peer: name = '', journal, stalls } = values
if (!isPeer(name)) throw new Error(`no such peer: ${name}`)

const handlerMs = Number(values['handler-ms'] ?? 0)
const lameduckMs = values['lameduck-ms'] === undefined ? undefined : Number(values['lameduck-ms'])

const server = createServer(journal ? journalled(openSync(journal, 'a')) : hello)

// What a server behind a load balancer is told to have: no connection of a bench ends by Node's 5 s.
server.keepAliveTimeout = 65_000

// Before the peer's own listener, so that the first stall counts. `once`: a second SIGTERM must not find a listener.
if (stalls) process.once('SIGTERM', () => watchStalls(openSync(stalls, 'w')))

const drain = await peer(name).attach(server, { lameduckMs })
if (drain) process.once('SIGTERM', () => { void drain().then(() => process.exit(0)) })

process.on('message', (question: Question) => { process.send?.(answer(question)) })
process.on('disconnect', () => process.exit(1)) // the bench died
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  process.send?.({ port: (server.address() as AddressInfo).port })
})

function hello(...[, res]: Parameters<RequestListener>): void {
  res.end('hello world')
}

/** Executed means: the application was called. It works for `handlerMs`, then it answers. */
function journalled(fd: number): RequestListener {
  return (req, res) => {
    writeSync(fd, `${req.url?.slice(1)}\n`)
    req.resume()
    if (handlerMs > 0) setTimeout(() => res.end('done'), handlerMs)
    else res.end('done')
  }
}

/**
 * Writes the longest loop iteration so far, in ms, each time there is a longer one: by the clock, and by the CPU time that
 * was used in it. On a machine that does other things as well, the first contains what those took.
 */
function watchStalls(fd: number): void {
  const longest = new Float64Array(2)
  let last = performance.now()
  let lastCpu = cpuMs()
  const measure = () => {
    const wall = performance.now() - last
    const cpu = Math.min(wall, cpuMs() - lastCpu) // that of other threads counts in it, too
    if (wall > (longest[0] ?? 0) || cpu > (longest[1] ?? 0)) {
      longest.set([Math.max(wall, longest[0] ?? 0), Math.max(cpu, longest[1] ?? 0)])
      writeSync(fd, longest, 0, 16, 0)
    }
    last = performance.now()
    lastCpu = cpuMs()
  }
  const tick = () => {
    measure()
    setImmediate(tick)
  }
  setImmediate(tick)
  process.once('exit', measure) // a drain that is over within one iteration
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

function answer(question: Question): Usage | Memory {
  if (question === 'cpu') {
    return { cpuMicros: cpuMs() * 1000 }
  }
  if (!globalThis.gc) throw new Error('memory needs --expose-gc')
  for (let i = 0; i < 4; i++) globalThis.gc() // what has weak references or finalizers takes more than one
  const { heapUsed, rss, external } = process.memoryUsage()
  return { heapUsed, rss, external }
}
