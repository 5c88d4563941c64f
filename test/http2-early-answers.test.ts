// Requests over HTTP/2 that are answered before their body has come.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'
import { Writable } from 'node:stream'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { wrap } from '../src/core/index.ts'
import { outcome, until } from './_http2.ts'
import { endLeftovers, leftover } from './_leftovers.ts'
import { QUICK } from './_world.ts'

after(endLeftovers)

/** A sink that holds up what is piped into it. */
const slowly = (write: (chunk: Buffer) => void) => new Writable({
  highWaterMark: 1,
  write(chunk: Buffer, _encoding, done) {
    write(chunk)
    setTimeout(done, 450)
  },
})

/** A server, and a client whose upload does not end by itself. */
async function upload(serve: (server: http2.Http2Server) => void) {
  const server = http2.createServer()
  const duck = wrap(server, { ...QUICK, deadlineMs: 20_000 })
  serve(server)
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

test('an upload that is refused by an application that has not begun to read: its client has the answer, and the drain does not wait for the rest', async () => {
  const { duck, seen } = await upload(server => void server.on('request', (_req, res) => void res.writeHead(413).end('too large')))
  const report = await duck.drain()
  const { text, code } = await seen
  assert.deepEqual([text, code], ['too large', 0])
  assert.deepEqual([report.outcome, report.destroyed], ['clean', []])
})

// Nobody can tell one that has stopped from one that has paused.
test('an upload that is refused by an application that has stopped to read: its client has the answer, and has until the deadline', async () => {
  const { duck, seen } = await upload(server => void server.on('request', (req, res) => {
    req.once('data', () => {
      req.pause()
      res.writeHead(413).end('too large')
    })
  }))
  const report = await duck.drain({ deadlineMs: 500 })
  assert.equal((await seen).text, 'too large')
  assert.deepEqual(report.destroyed.map(({ why, method, path }) => [why, method, path]), [['deadline', 'POST', '/']])
})

test('an upload that is read on behind its answer, however slowly it comes, arrives whole', async () => {
  let received = 0
  const { duck, stream, seen } = await upload(server => void server.on('request', (req, res) => {
    res.writeHead(202).end('thanks')
    req.on('data', (chunk: Buffer) => {
      received += chunk.length
    })
  }))
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

for (const [how, handler] of Object.entries<(req: http2.Http2ServerRequest, took: (chunk: Buffer) => void) => void>({
  'pipes it into a slow sink': (req, took) => void req.pipe(slowly(took)),
  'pipes the stream into a slow sink': ({ stream }, took) => void stream.pipe(slowly(took)),
  'iterates over it': (req, took) => {
    void (async () => {
      for await (const chunk of req) {
        took(chunk as Buffer)
        await sleep(450)
      }
    })().catch(() => {}) // To Node the end of a request that is answered is a premature close.
  },
  'reads when it is ready': (req, took) => void req.on('readable', async () => {
    await sleep(900)
    for (let chunk; (chunk = req.read() as Buffer | null);) took(chunk)
  }),
  'pauses, with its listener on': (req, took) => {
    req.on('data', took).pause()
    setTimeout(() => req.resume(), 1_500)
  },
  'begins to read when it has looked who sends it': (req, took) => {
    req.pause()
    setTimeout(() => req.on('data', took).resume(), 1_500)
  },
  'takes a piece now and then': (req, took) => {
    req.read(0)
    const timer = setInterval(() => {
      const chunk = req.read(4_096) as Buffer | null
      if (chunk) took(chunk)
    }, 50).unref()
    req.on('end', () => clearInterval(timer))
  },
})) {
  test(`an upload that is answered early by an application that ${how} arrives whole`, async () => {
    let received = 0
    const { duck, stream } = await upload(server => void server.on('request', (req, res) => {
      res.writeHead(202).end('thanks')
      handler(req, chunk => {
        received += chunk.length
      })
    }))
    stream.end()
    const report = await duck.drain()
    // The request ends when all has come; what is in the application's hands by then it reads by itself.
    await until('read', () => received === 100_000)
    assert.equal(report.outcome, 'clean')
  })
}
