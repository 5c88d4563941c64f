import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { assertGone, inTerminal, lacksTerminal, pids } from './_start.ts'
import { Window } from './_window.ts'

/** What a window shows. */
function look(text: string, size: { columns: number, rows: number }): Window {
  const window = new Window(size.columns, size.rows)
  window.write(text)
  return window
}

/** What stays of `fixtures/start-screen.ts`, in a window of 60 columns. */
const KEPT = `
One process gets SIGTERM, as in any deploy, and this line is
wider than the window.
   0.0 s  SIGTERM to pid 4711: 200 connections open, 40
          requests in flight
   0.1 s  │ lameduck: SIGTERM: out of rotation, serving on
          │ for at most 2000 ms
   2.3 s  gone, exit code 0

Two workers are reloaded
   0.9 s  worker 0 of generation 2: ready
lameduck lost 1 of 2,006 requests.
`.trim()

/** What it draws below that. */
const STOP = `
          state                   draining
          connections open             20  ━━──────────────
          requests in flight            5  ────────────────
          answered                  2,000
          lost                          1
          executed but unanswered       0
`.trim()

const RELOAD = `
          state                   reloading, 2 of 2 ready
          worker  pid      release  state
          0       100      1.0      ready
          0       101      2.0      starting
          1       102      1.0      ready
          connections open             20  ━━━━━━━━━━━━━━━━
          requests per second          50  ━━━━━━━━────────
          answered                    700
          lost                          0
          executed but unanswered       0
          executed twice                0
`.trim()

test('in a terminal npm start redraws one picture below what has happened, no line wider than the window, and takes it away at the end', { skip: lacksTerminal }, async (t) => {
  // Less high than all of it: the first lines scroll away.
  const size = { columns: 60, rows: 14 }
  const { child, output } = inTerminal(t, 'test/fixtures/start-screen.ts', [], size)
  const [code] = await once(child, 'close')
  assert.equal(code, 0, output.text)
  const { pictures, text, cursor, styled } = look(output.text, size)
  assert.equal(text, KEPT)
  assert.ok(cursor && styled > 0)
  const drawn: string[] = []
  for (const picture of pictures) {
    const [above = '', below, ...more] = picture.split(/\n\n {10}(?=state )/)
    assert.ok(KEPT.startsWith(above), `what had happened is not to be seen any more:\n${picture}`)
    assert.equal(more.length, 0, `two pictures:\n${picture}`)
    if (below !== undefined) drawn.push(below)
  }
  assert.ok(drawn.includes(STOP) && drawn.includes(RELOAD), drawn.join('\n\n'))
  // One for each show(), and one below each thing that happened meanwhile; each as many lines as it has, and no line in two.
  const heights = drawn.map(picture => picture.split('\n').length)
  assert.deepEqual(heights, [6, 6, 6, 6, 6, 6, 6, 10, 11, 11, 10])
})

test('a terminal that does not say how large it is gets the lines of a pipe', { skip: lacksTerminal }, async (t) => {
  const { child, output } = inTerminal(t, 'test/fixtures/start-screen.ts', [], { columns: 0, rows: 0 })
  const [code] = await once(child, 'close')
  assert.equal(code, 0, output.text)
  assert.ok(!output.text.includes('\x1b'), output.text)
  assert.match(output.text, /^ +2\.1 s +draining +20 +5 +2,000 +1 +0\r$/m)
  assert.match(output.text, /^lameduck lost 1 of 2,006 requests\.\r$/m)
})

test('Ctrl-C typed in the middle of a drain: one picture is left, the cursor is shown again, no process is left', { skip: lacksTerminal }, async (t) => {
  const size = { columns: 120, rows: 40 }
  const { child, output } = inTerminal(t, 'examples/start.ts', ['stop'], size)
  while (!output.text.includes('SIGTERM: out of rotation')) {
    assert.equal(child.exitCode, null, output.text)
    await sleep(20)
  }
  const closed = once(child, 'close')
  child.stdin.write('\x03')
  const [code] = await closed
  assert.equal(code, 130, output.text)
  const { text, cursor, pictures } = look(output.text, size)
  assert.ok(pictures.length > 10, `redrawn ${pictures.length} times`)
  for (const picture of [...pictures, text]) assert.ok((picture.match(/^ +requests in flight +\d+ /gm) ?? []).length <= 1, picture)
  assert.match(text, /^ +requests in flight +\d+ /m)
  assert.ok(output.text.includes('\x1b[?25l') && cursor)
  await assertGone(pids(text), 3)
})
