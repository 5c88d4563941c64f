import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { freshToken } from './_ops.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

// The halves of each secret are known to it anyway, by its arguments.
const PROGRAM = `
import v8 from 'node:v8'
import { ops } from './src/ops/index.ts'
const [, a, b, c, d, how] = process.argv
const whole = (one, two) => Buffer.from([...Buffer.from(one), ...Buffer.from(two)]).toString()
globalThis.control = whole(c, d)
const tokens = () => [{ name: 'inline', scopes: ['read'], token: whole(a, b) }]
const open = () => ops({ listen: { port: 0 }, audit: false, auth: { tokens: tokens(), ...(how === 'authorize' && { authorize: () => null }) } })
globalThis.endpoint = open()
await endpoint.ready
for await (const chunk of v8.getHeapSnapshot()) await new Promise(done => process.stdout.write(chunk, done))
process.exit()
`

for (const how of ['tokens', 'authorize']) test(`a token that the options hold as such is in no heap snapshot of the process: auth with ${how}`, async () => {
  const halves = (text: string) => [text.slice(0, 20), text.slice(20)]
  const [token, control] = [freshToken(), freshToken()]
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', PROGRAM, ...halves(token), ...halves(control), how],
    { cwd: root, maxBuffer: 2 ** 30, env: { ...process.env, NODE_OPTIONS: '' } })
  assert.ok(stdout.includes(control), 'the snapshot shows what is kept')
  assert.ok(!stdout.includes(token))
})
