import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { DEFAULTS } from '../src/ops/options.ts'
import { readPage, root } from './_snippets.ts'

/** The members of an interface of src/ops/options.ts. */
function membersOf(name: string): string[] {
  const source = readFileSync(join(root, 'src/ops/options.ts'), 'utf8')
  const [, body = ''] = new RegExp(`export interface ${name} \\{\\n([^]*?)\\n\\}`).exec(source) ?? []
  return [...body.matchAll(/^ {2}(\w+)\??:/gm)].map(([, member = '']) => member)
}

const groups = { auth: 'AuthOptions', limits: 'LimitOptions', files: 'FileOptions', heavy: 'HeavyOptions', heap: 'HeapOptions', health: 'ProbeOptions' }

test('docs/ops.md: every option of ops() is there, and no other, with its default', () => {
  const [table = ''] = /<!-- options -->[^]*<!-- \/options -->/.exec(readPage('docs/ops.md').text) ?? []
  const rows = new Map([...table.matchAll(/^\| `([\w.]+)` \| (.*?) \|/gm)].map(([, name = '', usual = '']) => [name, usual.replaceAll('`', '')]))
  const grouped = Object.entries(groups).flatMap(([group, of]) => membersOf(of).map(member => `${group}.${member}`))
  const alone = membersOf('OpsOptions').filter(member => !(member in groups))
  assert.deepEqual([...rows.keys()].toSorted(), [...grouped, ...alone].toSorted())
  for (const [group, defaults] of Object.entries(DEFAULTS)) {
    for (const [member, usual] of Object.entries(defaults)) {
      const pairs = Object.entries(usual as object).map(([key, value]) => `${key}: ${value}`)
      const text = typeof usual === 'number' ? String(usual) : pairs.length === 0 ? 'none' : `{ ${pairs.join(', ')} }`
      assert.equal(rows.get(`${group}.${member}`), text, `${group}.${member}`)
    }
  }
})
