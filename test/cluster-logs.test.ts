import assert from 'node:assert/strict'
import { PassThrough, Writable } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Lines } from '../src/cluster/lines.ts'
import { Logs } from '../src/cluster/logs.ts'
import { until, world } from './_cluster.ts'

class Sink extends Writable {
  text = ''
  slow = false
  #wake = () => {}

  constructor() {
    super({ highWaterMark: 1_024 })
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString()
    if (this.slow) this.#wake = done
    else done()
  }

  go(): void {
    this.slow = false
    this.#wake()
  }
}

function setup(logs: 'prefix' | 'plain' | 'json') {
  const stdout = new Sink()
  const stderr = new Sink()
  return { stdout, stderr, logs: new Logs({ logs, stdout, stderr }) }
}

test('lines come out whole, however they were cut, with the slot before them; the last one needs no end', async () => {
  const { stdout, stderr, logs } = setup('prefix')
  const [a, b, c] = [new PassThrough(), new PassThrough(), new PassThrough()]
  logs.attach(a, { slot: 0, pid: 10, stream: 'stdout' })
  logs.attach(b, { slot: 1, pid: 11, stream: 'stdout' })
  logs.attach(c, { slot: 1, pid: 11, stream: 'stderr' })
  const euro = Buffer.from('price: 5 €\n')
  a.write(euro.subarray(0, 11))
  b.write('one\ntwo\nthr')
  await sleep(10)
  a.write(euro.subarray(11))
  b.write('ee\n\n')
  c.end('bad')
  a.end('no end')
  b.end()
  await logs.flushed(5_000)
  assert.deepEqual(stdout.text.split('\n').sort(), ['', '[0] no end', '[0] price: 5 €', '[1] ', '[1] one', '[1] three', '[1] two'])
  assert.equal(stderr.text, '[1] bad\n')
})

test('as JSON, and as they are', async () => {
  const json = setup('json')
  const plain = setup('plain')
  for (const { logs } of [json, plain]) {
    const source = new PassThrough()
    logs.attach(source, { slot: 3, pid: 42, stream: 'stdout' })
    source.end('say "hi"\n')
    await logs.flushed(5_000)
  }
  const { time, ...rest } = JSON.parse(json.stdout.text) as { time: string }
  assert.ok(Date.parse(time) > 0)
  assert.deepEqual(rest, { slot: 3, pid: 42, stream: 'stdout', line: 'say "hi"' })
  assert.equal(plain.stdout.text, 'say "hi"\n')
})

test('a destination that takes no more stops the reading, of those that come later as well; nothing is lost', async () => {
  const { stdout, logs } = setup('plain')
  stdout.slow = true
  const [a, b] = [new PassThrough(), new PassThrough()]
  logs.attach(a, { slot: 0, pid: 1, stream: 'stdout' })
  for (let i = 0; i < 2_000; i++) a.write(`line ${i} ${'x'.repeat(50)}\n`)
  await sleep(20)
  assert.equal(a.isPaused(), true)
  logs.attach(b, { slot: 1, pid: 2, stream: 'stdout' })
  b.end('late\n')
  assert.equal(b.isPaused(), true)
  a.end()
  assert.ok(stdout.writableLength < 200_000)
  stdout.go()
  await logs.flushed(5_000)
  const lines = stdout.text.trim().split('\n')
  assert.equal(lines.length, 2_001)
  assert.deepEqual(lines.filter(line => line !== 'late').map(line => Number(line.split(' ')[1])), Array.from({ length: 2_000 }, (_, i) => i))
})

test('a line that never ends is cut at a megabyte, an output that is closed is no reason to stop', async () => {
  const lengths: number[] = []
  const lines = new Lines(line => lengths.push(line.length))
  for (let i = 0; i < 40; i++) lines.push(Buffer.alloc(65_536, 'x'))
  lines.end()
  assert.deepEqual(lengths, [1_048_576, 1_048_576, 524_288])

  const { stdout, logs } = setup('plain')
  const source = new PassThrough()
  logs.attach(source, { slot: 0, pid: 1, stream: 'stdout' })
  const closed = new Promise(resolve => stdout.once('close', resolve))
  stdout.destroy(new Error('EPIPE'))
  await closed
  source.end('nobody reads this\n')
  await logs.flushed(5_000)
})

test('what a worker wrote before it was killed comes out, the last line without its end included', () => world(async it => {
  await until(() => it.out.includes('[0] started'), 'what it said at its start')
  await it.get(`/print?text=${encodeURIComponent('half a line')}`)
  process.kill((await it.who()).pid, 'SIGKILL')
  await until(() => it.out.includes('[0] half a line\n'), 'its last line')
  await until(() => it.steps.filter(({ what }) => what === 'ready').length === 2, 'the next worker')
  await it.get(`/print?text=${encodeURIComponent(`${'y'.repeat(100)}\nlast words`)}`)
  await it.supervisor.stop()
  assert.match(it.out, /\[0\] y{100}\n\[0\] last words\n$/)
}, { workers: 1 }, { says: 'started\n' }))
