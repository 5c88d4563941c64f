import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { withProxyTables } from '../bench/_proxy-doc.ts'
import { variants } from '../bench/_proxy-variants.ts'

const page = readFileSync(new URL('../docs/proxies.md', import.meta.url), 'utf8')

test('docs/proxies.md: its measured tables are those of bench/results', () => {
  assert.equal(page, withProxyTables(page))
  for (const name of ['nginx', 'haproxy', 'supervised', 'reload', 'kills', 'cluster']) assert.match(page, new RegExp(`<!-- ${name} -->\n\\| `), `no table of ${name}`)
})

test('docs/proxies.md: what it says of unix sockets is what the bench and the test of them run', () => {
  const app = variants.nginx['lameduck, unix sockets']?.app ?? assert.fail('no such variant')
  const text = app(readFileSync(new URL('../examples/nginx/app.mjs', import.meta.url), 'utf8'))
  for (const line of ["if (state === 'draining') unlinkSync(process.env.PORT)", 'server.listen({ path: process.env.PORT, writableAll: true })']) {
    assert.ok(page.includes(line) && text.includes(line), line)
  }
})
