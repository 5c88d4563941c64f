import assert from 'node:assert/strict'
import http from 'node:http'
import { Writable } from 'node:stream'
import { test } from 'node:test'
import { pino } from 'pino'
import winston from 'winston'
import { wrap, type Logger } from '../src/core/index.ts'

/** A sink that keeps what is written to it. */
function sink(): { stream: Writable; text: () => string } {
  let text = ''
  const stream = new Writable({
    write(chunk, _encoding, done) {
      text += String(chunk)
      done()
    },
  })
  return { stream, text: () => text }
}

async function drainWith(logger: Logger): Promise<void> {
  const duck = wrap(http.createServer(), { signals: false, logger })
  duck.onDrain('db', () => {
    throw new Error('gone')
  })
  await duck.drain({ lameduckMs: 0 })
  duck.unwrap()
}

const expected = [/drain\(\): draining/, /hook db: failed after \d+\.\d s: gone/, /drained in \d+\.\d s: .*hooks that failed: db/]

test('pino gets one line a phase, and warnings as such', async () => {
  const { stream, text } = sink()
  await drainWith(pino(stream))
  const lines = text().trim().split('\n').map(line => JSON.parse(line) as { level: number; msg: string })
  for (const [i, pattern] of expected.entries()) assert.match(lines[i]?.msg ?? '', pattern)
  assert.deepEqual(lines.map(({ level }) => level), [30, 40, 40])
})

test('winston gets one line a phase, and warnings as such', async () => {
  const { stream, text } = sink()
  await drainWith(winston.createLogger({ transports: [new winston.transports.Stream({ stream })] }))
  const lines = text().trim().split('\n').map(line => JSON.parse(line) as { level: string; message: string })
  for (const [i, pattern] of expected.entries()) assert.match(lines[i]?.message ?? '', pattern)
  assert.deepEqual(lines.map(({ level }) => level), ['info', 'warn', 'warn'])
})
