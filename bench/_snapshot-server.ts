/**
 * An instance with a heap of small objects, for snapshot.ts: `--heap-mb N --handler-ms N`. Over IPC it is told to take a
 * snapshot, isolated or not, or to be busy for as long, out of rotation in the same way; and says what that took.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { tmpdir } from 'node:os'
import { parseArgs } from 'node:util'
import v8 from 'node:v8'
import { MessageChannel } from 'node:worker_threads'
import { wrap } from '../src/core/index.ts'
import { leaveRotation } from '../src/ops/heap/isolate.ts'
import { heapOutpost, type SnapshotOrder } from '../src/ops/heap/outpost.ts'
import type { Taken } from '../src/ops/heap/take.ts'
import { Link } from '../src/ops/link.ts'
import { DEFAULTS, type Settings } from '../src/ops/options.ts'

export interface Started {
  port: number
  heapMB: number
}

export type Order = { isolate: boolean } | { busyMs: number }

const { values } = parseArgs({ options: { 'heap-mb': { type: 'string', default: '200' }, 'handler-ms': { type: 'string', default: '5' } } })
const handlerMs = Number(values['handler-ms'])

const used = () => v8.getHeapStatistics().used_heap_size / 2 ** 20
const held: object[][] = []
// Or V8 would see that nobody looks at it again.
Object.assign(globalThis, { held })
while (used() < Number(values['heap-mb'])) held.push(Array.from({ length: 1_000 }, (_, at) => ({ at, next: { at } })))

const server = createServer((_req, res) => {
  setTimeout(() => res.end('hello\n'), handlerMs)
})
const duck = wrap(server, { signals: false })
const { port1, port2 } = new MessageChannel()
const endpoint = new Link(port2)
heapOutpost()({ duck, link: new Link(port1), settings: { heap: DEFAULTS.heap } as Settings })

process.on('message', (message: Order | 'end') => {
  if (message === 'end') process.exit()
  else if ('busyMs' in message) void busy(message.busyMs)
  else void snapshot(message.isolate)
})

/** The control: a pause that is none of V8's. */
async function busy(ms: number): Promise<void> {
  const comeBack = await leaveRotation(duck, DEFAULTS.heap, false, new AbortController().signal)
  for (const until = performance.now() + ms; performance.now() < until;);
  comeBack()
  process.send?.({ pauseMs: ms })
}

async function snapshot(isolate: boolean): Promise<void> {
  const path = join(tmpdir(), `lameduck-bench-${process.pid}-${Date.now()}.heapsnapshot`)
  const order: SnapshotOrder = { id: 'bench', path, when: 'now', isolate, recycle: false, force: false }
  try {
    const { pauseMs, bytes, usedHeap } = await endpoint.call<Taken>('heap.snapshot', order, { timeoutMs: 0 })
    process.send?.({ pauseMs, bytes, usedHeap })
  } catch (error) {
    process.send?.({ error: String(error) })
  } finally {
    rmSync(path, { force: true })
  }
}

server.listen(0, '127.0.0.1', () => {
  process.send?.({ port: (server.address() as AddressInfo).port, heapMB: Math.round(used()) } satisfies Started)
})
