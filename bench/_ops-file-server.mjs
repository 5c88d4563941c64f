// A process whose memory is looked at while a heap snapshot of it is taken, made into a file and fetched; see _ops-file.ts. Plain Node on the built package, since
// a TypeScript loader has a memory of its own. Argument: JSON with `built`, `heapMB`, `token` and `files` (both for an endpoint), `standIn` (a snapshot to copy in V8's place).
import { copyFileSync, readFileSync } from 'node:fs'
import http from 'node:http'
import { syncBuiltinESMExports } from 'node:module'
import { pathToFileURL } from 'node:url'
import v8 from 'node:v8'
import threads from 'node:worker_threads'

const { built, heapMB, token, files, standIn } = JSON.parse(process.argv[2])
const LOOK_MS = 10

// Now, and at most since the last look: of the endpoint's thread its heap (as it takes it from the machine) with its external memory, and that alone.
const cells = new Float64Array(new SharedArrayBuffer(4 * 8))
/** Runs in the endpoint's thread, before its own program. */
const watch = ms => {
  const { cells } = require('node:worker_threads').workerData
  setInterval(() => {
    const { heapTotal, external } = process.memoryUsage()
    cells[0] = heapTotal + external
    cells[1] = Math.max(cells[1], cells[0])
    cells[2] = external
    cells[3] = Math.max(cells[3], external)
  }, ms).unref()
}
threads.Worker = class extends threads.Worker {
  constructor(program, options) {
    const source = `(${watch.toString()})(${LOOK_MS}); import(${JSON.stringify(program.href)})`
    super(source, { ...options, eval: true, workerData: { ...options.workerData, cells } })
  }
}
syncBuiltinESMExports()

let ours = process.memoryUsage.rss()
setInterval(() => {
  ours = Math.max(ours, process.memoryUsage.rss())
}, LOOK_MS).unref()

/** The most ever. From the kernel's mouth: getrusage(2) would also count what the bench had when it forked this. Linux only. */
function peak() {
  try {
    return Number(/^VmHWM:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1_024
  } catch {
    return NaN
  }
}

/** Also begins anew with what was most. */
function look() {
  const now = process.memoryUsage.rss()
  const seen = { rss: now, rssMost: Math.max(ours, now), peak: peak(), own: cells[0], ownMost: cells[1], externalMost: cells[3] }
  ours = now
  cells[1] = cells[0]
  cells[3] = cells[2]
  return seen
}

const held = []
// Or V8 would see that nobody looks at it again.
Object.assign(globalThis, { held })
while (v8.getHeapStatistics().used_heap_size < heapMB * 2 ** 20) held.push(Array.from({ length: 1_000 }, (_, at) => ({ at, next: { at } })))

const write = v8.writeHeapSnapshot
if (standIn) v8.writeHeapSnapshot = path => (copyFileSync(standIn, path), path)

let endpoint
if (token) {
  const load = name => import(pathToFileURL(`${built}/${name}.js`).href)
  const [{ wrap }, { ops }] = [await load('index'), await load('ops')]
  const server = http.createServer((_req, res) => res.end('hello world'))
  await new Promise(resolve => {
    server.listen(0, '127.0.0.1', resolve)
  })
  endpoint = await ops({
    duck: wrap(server),
    listen: { port: 0 },
    auth: { tokens: [{ name: 'bench', scopes: ['read', 'diag'], token }] },
    audit: false,
    files: { dir: files },
    heavy: { cooldownMs: 0 },
  }).ready
}

process.on('message', ({ look: looks, path }) => {
  if (looks) return process.send(look())
  write(path)
  return process.send({ rss: process.memoryUsage.rss() })
})
process.on('disconnect', () => process.exit(1))
process.send({ url: endpoint?.url ?? '' })
