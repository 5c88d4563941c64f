import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { withFigures } from '../bench/_ops-doc.ts'
import { ask, freshToken } from './_ops.ts'
import { document, jsonText, withRoutes } from './_ops-docs.ts'
import { wrongWith } from './_shell-lines.ts'
import { readPage, root, start } from './_snippets.ts'

const { text, snippets } = readPage('docs/ops.md')
const temp = mkdtempSync(join(tmpdir(), 'lameduck-ops-docs-'))
after(() => rmSync(temp, { recursive: true, force: true }))

const marked = (mark: string) => snippets.filter(snippet => snippet.mark === mark)

test('docs/openapi.json is what the endpoint serves, and docs/ops.md lists its routes', async () => {
  const made = await document()
  assert.equal(readFileSync(join(root, 'docs/openapi.json'), 'utf8'), jsonText(made), 'npx tsx test/_ops-docs.ts brings it up to date')
  assert.equal(text, withRoutes(text, made), 'npx tsx test/_ops-docs.ts brings it up to date')
})

test('docs/ops.md: its figures are those of bench/results', () => {
  assert.equal(text, withFigures(text), 'npx tsx bench/_ops-doc.ts brings it up to date')
})

test('docs/ops.md: the first program serves, has its endpoint on a unix socket, and SIGTERM ends it', async () => {
  const [program] = marked('program')
  assert.ok(program)
  const { child, exit, output } = start(program)
  await once(child, 'message')
  while (!/maintenance endpoint: .*path: '([^']+)'/.test(output())) await new Promise(resolve => void setTimeout(resolve, 50))
  const [, path = ''] = /path: '([^']+)'/.exec(output()) ?? []
  assert.equal((await ask({ path }, '/state')).json.state, 'running')
  child.kill('SIGTERM')
  assert.deepEqual((({ code, signal }) => ({ code, signal }))(await exit), { code: 0, signal: null }, output())
})

test('docs/ops.md: the mounted endpoint answers under its path, beside the application', async () => {
  const [program] = marked('mount')
  assert.ok(program)
  const token = freshToken()
  const { child, ports, output } = start(program, `process.env.OPS_TOKEN = ${JSON.stringify(token)}\n`)
  await once(child, 'message')
  const at = { url: `http://localhost:${ports[0]}` }
  assert.equal((await ask(at, '/')).text, 'hello\n', output())
  for (let i = 0; i < 400 && (await ask(at, '/ops/livez')).status === 503; i++) await new Promise(resolve => void setTimeout(resolve, 50))
  assert.equal((await ask(at, '/ops/state', { token })).status, 200)
  assert.equal((await ask(at, '/ops/state')).status, 401)
  child.kill('SIGKILL')
})

for (const snippet of marked('fragment')) {
  test(`docs/ops.md line ${snippet.line}: the fragment runs`, async () => {
    const tokenFile = join(temp, 'token')
    writeFileSync(tokenFile, freshToken(), { mode: 0o600 })
    const prelude = `
import http from 'node:http'
import { wrap } from 'lameduck'
import { ops as open } from 'lameduck/ops'
process.env.OPS_READ_TOKEN = ${JSON.stringify(freshToken())}
const tokenFile = ${JSON.stringify(tokenFile)}
const auditFile = ${JSON.stringify(join(temp, 'audit.log'))}
const duck = wrap(http.createServer(), { signals: false })
const made = []
const ops = options => made[made.push(open({ files: { dir: ${JSON.stringify(join(temp, 'files'))} }, ...options })) - 1]
const maintenance = ${snippet.code.includes('maintenance') ? `ops({ duck, listen: { path: ${JSON.stringify(join(temp, 'private', 'ops.sock'))} } })` : 'undefined'}
`
    const tail = '\nfor (const one of made) { await one.ready; await one.close() }\nconsole.log("fragment done", made.length)\n'
    const { exit } = start({ ...snippet, code: prelude + snippet.code + tail })
    const { code, output } = await exit
    assert.equal(code, 0, output)
    assert.match(output, /fragment done 1/)
  })
}

test('docs/ops.md: each command of lameduck exists, with its options', () => {
  const lines = snippets.filter(({ language }) => language === 'sh').flatMap(({ code }) => code.split('\n')).filter(line => line.startsWith('npx lameduck'))
  assert.ok(lines.length > 3)
  for (const line of lines) assert.equal(wrongWith(line.replace(/\s*#.*/, '')), undefined)
})

test('docs/ops.md: the heap snapshot after a GC, in its three lines', async () => {
  const [program] = marked('gc-program')
  assert.ok(program)
  const dir = join(temp, 'heap')
  const code = `${program.code.replace("'./heap'", JSON.stringify(dir)).replace('snapshotAfterGC(', 'const standing = snapshotAfterGC(').replace('0.7 *', '0 *')}
let keep = []
const timer = setInterval(() => { keep = []; for (let i = 0; i < 20_000; i++) keep.push({ i }) }, 5)
const [taken] = await standing.done
clearInterval(timer)
console.log('taken', taken.path, taken.bytes)
`
  const { exit } = start({ ...program, code })
  const { code: status, output } = await exit
  assert.equal(status, 0, output)
  assert.match(output, /^taken .*heapsnapshot \d{6,}$/m)
})
