// docs/cluster.md is true: its program runs, its options and codes are those of the code.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { DEFAULTS } from '../src/cluster/options.ts'
import { readPage, root, start } from './_snippets.ts'

const { text, snippets } = readPage('docs/cluster.md')
const temp = mkdtempSync(join(tmpdir(), 'lameduck-cluster-docs-'))
after(() => rmSync(temp, { recursive: true, force: true }))

const source = (name: string) => readFileSync(join(root, 'src/cluster', name), 'utf8')

test('docs/cluster.md: every option of supervise() is there, and no other, with its default', () => {
  const [, body = ''] = /export interface SuperviseOptions \{\n([^]*?)\n\}/.exec(source('options.ts')) ?? []
  const options = [...body.matchAll(/^ {2}(\w+)\??:/gm)].map(([, name = '']) => name)
  const rows = [...text.matchAll(/^\| (`\w+`(?:, `\w+`)*) \|(.*?)\| /gm)]
  const documented = rows.flatMap(([, names = '']) => [...names.matchAll(/`(\w+)`/g)].map(([, name = '']) => name)).filter(name => !name.startsWith('ERR_'))
  assert.deepEqual(documented.toSorted(), options.toSorted())
  for (const [, names = '', column = ''] of rows) {
    const given = column.trim()
    const usual = (DEFAULTS as Record<string, unknown>)[names.replaceAll('`', '')]
    if (typeof usual === 'number' && usual !== Infinity) assert.equal(Number(given.replaceAll(' ', '')), usual, names)
    else if (usual === Infinity) assert.equal(given, 'never', names)
    else if (typeof usual === 'string' || typeof usual === 'boolean') assert.equal(given, `\`${typeof usual === 'string' ? `'${usual}'` : usual}\``, names)
  }
})

test('docs/cluster.md: every code of a ClusterError is there, and no other', () => {
  const codes = (of: string) => [...new Set([...of.matchAll(/ERR_LAMEDUCK_CLUSTER_[A-Z_]*[A-Z]/g)].map(([code]) => code))].toSorted()
  assert.deepEqual(codes(text), codes(source('errors.ts')))
})

test('docs/cluster.md: the program supervises, tells each step and reloads', async () => {
  const [program] = snippets.filter(({ mark }) => mark === 'program')
  assert.ok(program)
  const server = join(temp, 'server.mjs')
  const core = JSON.stringify(join(root, 'src/core/index.ts'))
  writeFileSync(server, `import http from 'node:http'\nimport { wrap } from ${core}\nconst server = http.createServer((req, res) => res.end('hello'))\nwrap(server)\nserver.listen(0)\n`)
  const { child, exit, output } = start({ ...program, code: program.code.replace("'server.mjs'", JSON.stringify(server)) })
  while (!output().includes('never fewer than') && child.exitCode === null) await new Promise(resolve => void setTimeout(resolve, 50))
  child.kill('SIGTERM')
  const { code } = await exit
  assert.match(output(), /^step: worker 1 of generation 2 ready/m)
  assert.match(output(), /^reloaded never fewer than 2 ready$/m)
  assert.equal(code, 0, output())
})
