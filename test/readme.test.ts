import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http2 from 'node:http2'
import { join } from 'node:path'
import { test } from 'node:test'
import { withTables } from '../bench/readme.ts'
import { wrongWith } from './_shell-lines.ts'
import { readPage, root, start } from './_snippets.ts'

const { text: readme, snippets } = readPage('README.md')

const programs = snippets.filter(({ language, mark }) => language === 'js' && mark === undefined)

async function getHttp1(port: number, path: string): Promise<{ status: number, text: string }> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`)
  return { status: response.status, text: await response.text() }
}

async function getHttp2(port: number, path: string): Promise<{ status: number, text: string }> {
  const session = http2.connect(`http://127.0.0.1:${port}`)
  const stream = session.request({ ':path': path }).setEncoding('utf8')
  const [headers] = await once(stream, 'response') as [http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader]
  let text = ''
  for await (const chunk of stream) text += chunk
  session.close()
  return { status: headers[':status'] ?? 0, text }
}

for (const snippet of programs) {
  test(`README line ${snippet.line}: the program serves, and SIGTERM ends it with exit code 0`, async () => {
    const { child, exit, output } = start(snippet)
    const port = await Promise.race([once(child, 'message').then(([message]) => message.port as number), exit.then(() => 0)])
    assert.ok(port > 0, output())
    const get = snippet.code.includes('node:http2') ? getHttp2 : getHttp1
    const { status, text } = await get(port, '/')
    assert.equal(status, 200)
    assert.match(text, /hello|running/)
    assert.equal((await get(port, '/readyz')).status, 200)
    child.kill('SIGTERM')
    const { code, signal } = await exit
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, output())
    assert.match(output(), /lameduck: SIGTERM: out of rotation/)
    assert.match(output(), /lameduck: drained in/)
  })
}

test('README: one program for raw http and each framework', () => {
  const imported = programs.map(({ code }) => /from 'lameduck\/?(\w*)'/.exec(code)?.[1])
  assert.deepEqual(imported, ['', 'express', 'koa', 'hapi', 'fastify', '', 'ws'])
})

/** What the fragments take for granted. */
const prelude = `
import http from 'node:http'
import { wrap as wrapServer } from ${JSON.stringify(join(root, 'src/core/index.ts'))}
const calls = []
process.on('exit', () => console.log('calls ' + calls.join()))
const db = { close: async () => calls.push('close'), ping: async () => calls.push('ping') }
const registry = { leave: async () => calls.push('leave') }
const server = http.createServer((req, res) => res.end('hello'))
const wrap = (server, options) => wrapServer(server, { ...options, signals: false })
server.listen(0)
`
const fragments = snippets.filter(({ mark }) => mark === 'fragment')

for (const snippet of fragments) {
  test(`README line ${snippet.line}: the fragment runs`, async () => {
    const { child, exit, output } = start(snippet, prelude)
    if (snippet.code.includes('health')) {
      const [{ port }] = await once(child, 'message')
      const response = await fetch(`http://127.0.0.1:${port}/healthz/ready`)
      assert.deepEqual([response.status, await response.json()], [200, { status: 'ok', state: 'running', checks: { database: 'ok' } }])
      child.kill('SIGTERM')
      assert.equal((await exit).signal, 'SIGTERM')
      return
    }
    const { code } = await exit
    assert.equal(code, 0, output())
    assert.match(output(), /clean \d+ \[\]/)
    assert.match(output(), /calls leave,close/)
  })
}

test('README: the maintenance endpoint, in its two lines', async () => {
  const [snippet] = snippets.filter(({ mark }) => mark === 'ops')
  assert.ok(snippet)
  const end = '\nawait maintenance.ready\nconsole.log("open", maintenance.address.path)\nawait maintenance.close()\nserver.close()\n'
  const { exit } = start({ ...snippet, code: snippet.code + end }, `${prelude}const duck = wrap(server)\n`)
  const { code, output } = await exit
  assert.equal(code, 0, output)
  assert.match(output, /^open \/.*ops\.sock$/m)
})

test('README: every shell line is a script of this package, or installs it', () => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> }
  const lines = snippets.filter(({ language }) => language === 'sh').flatMap(({ code }) => code.trim().split('\n'))
  assert.ok(lines.length > 0)
  for (const line of lines) {
    for (const command of line.replace(/\s*#.*/, '').split(' && ')) {
      if (command.startsWith('npx lameduck')) {
        assert.equal(wrongWith(command), undefined)
        continue
      }
      const script = /^npm (?:run )?(start|test|[\w:]+)(?: --.*)?$/.exec(command)?.[1] ?? ''
      assert.ok(['npm ci', 'npm install lameduck'].includes(command) || script in scripts, `no such command: ${command}`)
    }
  }
})

test('README: each option of the table exists, with that default, and none is missing', async () => {
  const { DEFAULTS } = await import('../src/core/index.ts')
  const table = readme.slice(readme.indexOf('| option | default |'))
  const rows = [...table.slice(0, table.indexOf('\n\n')).matchAll(/^\| `(\w+)` \| (.*?) \|/gm)]
  assert.deepEqual(rows.map(([, name]) => name), Object.keys(DEFAULTS).sort())
  for (const [, name = '', text = ''] of rows) {
    const value = DEFAULTS[name as keyof typeof DEFAULTS]
    if (typeof value === 'number') assert.equal(text.replace(/\s/g, ''), String(value), name)
    if (typeof value === 'string' || typeof value === 'boolean') assert.equal(text, `\`${typeof value === 'string' ? `'${value}'` : value}\``, name)
    if (Array.isArray(value)) assert.equal(text, value.join(', '), name)
  }
})

test('README: its measured tables are those of bench/results', () => {
  assert.equal(readme, withTables(readme))
})
