import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

/** The dependency direction of the design: what each part may import, and what it may not. */
const parts: Record<string, { may: string[], mayNot: string[] }> = {
  core: {
    may: ['node:http', 'node:fs/promises', './b.ts'],
    mayNot: [
      'http', 'express', '@hapi/hapi', 'lameduck', 'lameduck/koa', '#core', '../adapters/b.ts', './../adapters/b.ts',
      '../ops/b.ts', '../cluster/b.ts', '../cli/b.ts', '../../test/b.ts', '../../bench/b.ts', '../../node_modules/koa',
    ],
  },
  adapters: {
    may: ['node:http', '../core/b.ts', './wrap-app.ts'],
    mayNot: [
      'express', '@hapi/hapi', './b.ts', './koa.ts', '../ops/b.ts', '../cluster/b.ts', '../cli/b.ts', '../../examples/b.ts',
      '../core/../ops/b.ts',
    ],
  },
  ops: { may: ['node:http', './b.ts', './http/b.ts', '../core/b.ts'], mayNot: ['express', '../adapters/b.ts', '../cluster/b.ts', '../cli/b.ts'] },
  'ops/http': {
    may: ['node:http', './b.ts', '../b.ts', '../heap/b.ts', '../../core/b.ts'],
    mayNot: ['express', '../../adapters/b.ts', '../../cluster/b.ts', '../../cli/b.ts', '../../../test/b.ts'],
  },
  cluster: { may: ['node:http', './b.ts', '../core/b.ts'], mayNot: ['express', '../adapters/b.ts', '../ops/b.ts', '../cli/b.ts'] },
  cli: { may: ['node:http', './b.ts', '../ops/b.ts', '../cluster/b.ts'], mayNot: ['express', '../core/b.ts', '../adapters/b.ts'] },
}

/** Every way to depend on another file. */
const forms = [
  (from: string) => `import x from '${from}'\nconsole.debug(x)\n`,
  (from: string) => `import '${from}'\n`,
  (from: string) => `import type { X } from '${from}'\nexport type Y = X\n`,
  (from: string) => `export * from '${from}'\n`,
  (from: string) => `export { x } from '${from}'\n`,
  (from: string) => `export const x = await import('${from}')\n`,
]

/** Writes files into an empty tree that has our lint configuration, lints it, and tells which rules each file broke. */
function lint(files: Map<string, string>): Map<string, Set<string>> {
  const tree = realpathSync(mkdtempSync(join(tmpdir(), 'lameduck-lint-')))
  try {
    cpSync(join(root, '.oxlintrc.json'), join(tree, '.oxlintrc.json'))
    for (const [file, text] of files) {
      mkdirSync(dirname(join(tree, file)), { recursive: true })
      writeFileSync(join(tree, file), text)
    }
    const oxlint = join(root, 'node_modules/oxlint/bin/oxlint')
    const args = [oxlint, '--config', join(tree, '.oxlintrc.json'), '--format', 'json', tree]
    const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
    const { diagnostics } = JSON.parse(stdout || stderr) as { diagnostics: { code: string, filename: string }[] }
    const broken = new Map<string, Set<string>>()
    for (const { code, filename } of diagnostics) {
      const file = relative(tree, resolve(root, filename))
      broken.set(file, (broken.get(file) ?? new Set()).add(code))
    }
    return broken
  } finally {
    rmSync(tree, { recursive: true })
  }
}

test('the linter refuses every import against the dependency direction, in every form, and no other', () => {
  const files = new Map<string, string>()
  const forbidden = new Set<string>()
  for (const [part, { may, mayNot }] of Object.entries(parts)) {
    files.set(`src/${part}/b.ts`, 'export const x = 1\nexport default x\nexport type X = number\n')
    for (const [i, from] of [...may, ...mayNot].entries()) {
      for (const [j, form] of forms.entries()) {
        const file = `src/${part}/${i}-${j}.ts`
        files.set(file, form(from))
        if (i >= may.length) forbidden.add(file)
      }
    }
  }
  const broken = lint(files)
  const wrong = [...files].filter(([file]) => {
    const refused = broken.get(file)?.has('eslint(no-restricted-imports)') ?? false
    return refused !== forbidden.has(file)
  })
  assert.deepEqual(wrong.map(([file, text]) => `${file} ${forbidden.has(file) ? 'passed' : 'refused'}: ${text}`), [])
})

test('the linter refuses a type borrowed from a framework, require(), process.exit() and private fields in src', () => {
  const broken = lint(new Map([
    ['src/adapters/type.ts', `export type App = import('express').Application\n`],
    ['src/core/require.ts', `import http = require('node:http')\nexport { http }\n`],
    ['src/core/exit.ts', 'export function leave(): void {\n  process.exit(1)\n}\n'],
    ['src/core/lifecycle.ts', 'export function leave(): void {\n  process.exit(1)\n}\n'],
    ['src/core/private.ts', 'export function peek(socket: { _httpMessage: unknown }): unknown {\n  return socket._httpMessage\n}\n'],
    ['test/private.ts', 'export function peek(socket: { _httpMessage: unknown }): unknown {\n  return socket._httpMessage\n}\n'],
  ]))
  assert.deepEqual(Object.fromEntries([...broken].map(([file, codes]) => [file, [...codes]])), {
    'src/adapters/type.ts': ['typescript(consistent-type-imports)'],
    'src/core/require.ts': ['typescript(no-require-imports)'],
    'src/core/exit.ts': ['unicorn(no-process-exit)'],
    'src/core/private.ts': ['eslint(no-underscore-dangle)'],
  })
})
