import assert from 'node:assert/strict'
import type { ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { test } from 'node:test'
import { assertGone, start } from './_start.ts'

const endings: Record<string, (child: ChildProcessByStdio<null, Readable, Readable>) => unknown> = {
  'Ctrl-C': (child) => child.kill('SIGINT'),
  'a reader that goes away': (child) => child.stdout.destroy(),
  'SIGKILL': (child) => child.kill('SIGKILL'),
}

const moments = [
  { part: 'stop', moment: 'a drain', said: 'SIGTERM to pid', least: 3 },
  // Two of them serve, and a third one starts.
  { part: 'reload', moment: 'a reload', said: 'of generation 2: starting', least: 3 },
] as const

for (const { part, moment, said, least } of moments) {
  for (const [name, end] of Object.entries(endings)) {
    test(`${name} in the middle of ${moment} ends npm start, and no process is left`, async (t) => {
      const { child, says } = start(t, [part])
      const all = await says(said)
      const exited = once(child, 'exit')
      end(child)
      const [code] = await exited
      if (name === 'Ctrl-C') assert.equal(code, 130)
      else assert.notEqual(code, 0)
      await assertGone(all, least)
    })
  }
}

test('npm start with a part that there is not: exit code 2, and which there are', async (t) => {
  const { child, output } = start(t, ['stpo'])
  const [code] = await once(child, 'close')
  assert.equal(code, 2)
  assert.equal(output.errors, 'npm start: there is no part "stpo"; there are: stop, reload\n')
  assert.equal(output.text, '')
})
