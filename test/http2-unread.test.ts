// Requests over HTTP/2 that are answered before their body has come.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from '../src/core/index.ts'
import { outcome, until } from './_http2.ts'
import { endLeftovers, leftover } from './_leftovers.ts'
import { QUICK } from './_world.ts'

after(endLeftovers)

type Handler = (req: http2.Http2ServerRequest, res: http2.Http2ServerResponse) => void

/** A server, and a client whose upload does not end by itself. */
async function upload(handler: Handler) {
  const server = http2.createServer()
  const duck = wrap(server, { ...QUICK, lingerMs: 200 })
  server.on('request', handler)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const session = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  session.on('error', () => {})
  leftover(() => session.destroy())
  leftover(() => server.close())
  const stream = session.request({ ':method': 'POST', ':path': '/' }, { endStream: false })
  const seen = outcome(stream)
  stream.write(Buffer.alloc(100_000))
  await once(stream, 'response')
  return { duck, stream, seen }
}

for (const [how, handler] of Object.entries<Handler>({
  'has stopped to read': (req, res) => {
    req.once('data', () => {
      req.pause()
      res.writeHead(413).end('too large')
    })
  },
  'has not begun to read': (_req, res) => void res.writeHead(413).end('too large'),
})) {
  test(`an upload that is refused by an application that ${how}: its client has the answer, and the drain does not wait for the rest`, async () => {
    const { duck, seen } = await upload(handler)
    const report = await duck.drain()
    const { text, code } = await seen
    assert.deepEqual([text, code], ['too large', 0])
    assert.deepEqual([report.outcome, report.destroyed], ['clean', []])
    assert.ok(report.durationMs < 3_000, `${report.durationMs} ms`)
  })
}

test('an upload that is read on behind its answer, however slowly it comes, arrives whole', async () => {
  let received = 0
  const { duck, stream, seen } = await upload((req, res) => {
    res.writeHead(202).end('thanks')
    req.on('data', (chunk: Buffer) => {
      received += chunk.length
    })
  })
  await until('answered', () => received === 100_000)
  const drained = duck.drain()
  for (let i = 0; i < 3; i++) {
    await sleep(500)
    stream.write(Buffer.alloc(1_000))
  }
  stream.end()
  const report = await drained
  assert.equal((await seen).text, 'thanks')
  assert.deepEqual([report.outcome, received], ['clean', 103_000])
})
