// The spec of @godaddy/terminus, as its package has it, run by mocha against lameduck/terminus.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { build } from 'tsup'
import { freePorts } from '../bench/_ports.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const original = join(root, 'node_modules/@godaddy/terminus')
const require = createRequire(import.meta.url)

/** What mocha's JSON reporter says of a case. */
interface Case {
  title: string
  fullTitle: string
  err: { message?: string }
}

interface Result {
  stats: { tests: number, passes: number }
  passes: Case[]
  failures: Case[]
  pending: Case[]
}

/** In the place of the original's own two files; its index.js has both. */
const OURS = {
  'lib/terminus.js': `exports.createTerminus = require('lameduck/terminus').createTerminus\n`,
  'lib/terminus-error.js': `exports.HealthCheckError = require('lameduck/terminus').HealthCheckError\n`,
}

/**
 * The spec asks a process 300 ms after it has started it. Where that is too early, nobody listens yet: here it asks again. Nothing else
 * is done to what it asks, and to the answer.
 */
const FETCH = `
const fetch = require(${JSON.stringify(require.resolve('node-fetch'))})
module.exports = async (...asked) => {
  for (const until = Date.now() + 20_000;;) {
    try {
      return await fetch(...asked)
    } catch (error) {
      if (error.code !== 'ECONNREFUSED' || Date.now() > until) throw error
      await new Promise(resolve => setTimeout(resolve, 5))
    }
  }
}
`

/** The spec, its programs and its index.js beside lameduck instead of the original. The ports in them are fixed ones: others may have those. */
async function layOut(folder: string): Promise<void> {
  const modules = join(folder, 'node_modules')
  await build({
    entry: { terminus: join(root, 'src/adapters/terminus.ts') }, outDir: join(modules, 'lameduck'), config: false, format: 'cjs', target: 'node20',
    outExtension: () => ({ js: '.cjs' }), removeNodeProtocol: false, silent: true,
  })
  writeFileSync(join(modules, 'lameduck/package.json'), '{ "name": "lameduck", "exports": { "./terminus": "./terminus.cjs" } }')
  symlinkSync(dirname(require.resolve('chai/package.json')), join(modules, 'chai'))
  mkdirSync(join(modules, 'node-fetch'))
  writeFileSync(join(modules, 'node-fetch/index.js'), FETCH)

  mkdirSync(join(folder, 'lib/standalone-tests'), { recursive: true })
  copyFileSync(join(original, 'index.js'), join(folder, 'index.js'))
  for (const [file, text] of Object.entries(OURS)) writeFileSync(join(folder, file), text)
  const ports = await freePorts(3)
  for (const file of [...specs, ...readdirSync(join(original, 'lib/standalone-tests')).map(file => `standalone-tests/${file}`)]) {
    const text = readFileSync(join(original, 'lib', file), 'utf8')
    writeFileSync(join(folder, 'lib', file), text.replace(/\b800([012])\b/g, (_, n: string) => String(ports[Number(n)])))
  }
}

const specs = readdirSync(join(original, 'lib')).filter(file => file.endsWith('.spec.js'))

/** Runs mocha, as the original's `npm test` does. */
async function mocha(t: TestContext, folder: string): Promise<Result> {
  const args = ['--no-config', '--no-package', '--reporter', 'json', '--reporter-option', 'output=result.json', '--timeout', '60000', 'lib/**/*.spec.js']
  const child = spawn(process.execPath, [require.resolve('mocha/bin/mocha.js'), ...args], {
    cwd: folder,
    // The spec starts its programs as `node`.
    env: { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}`, NODE_OPTIONS: '', NODE_TEST_CONTEXT: undefined },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text))
  await once(child, 'close')
  try {
    return JSON.parse(readFileSync(join(folder, 'result.json'), 'utf8')) as Result
  } catch (error) {
    throw new Error(`mocha told no result: ${output}`, { cause: error })
  }
}

test('the whole spec of @godaddy/terminus passes with lameduck/terminus, as many of it as our documents say', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-terminus-spec-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  await layOut(folder)
  const { stats, passes, failures, pending } = await mocha(t, folder)

  assert.deepEqual(failures.map(({ fullTitle, err }) => `${fullTitle}: ${err.message}`), [])
  assert.deepEqual(pending.map(({ fullTitle }) => fullTitle), [])
  // Every case that the spec declares was run: none was left out, or lost in a file that was not read.
  const declared = specs.flatMap(file => [...readFileSync(join(original, 'lib', file), 'utf8').matchAll(/^\s*it\('(.*?)', /gm)].map(([, title = '']) => title))
  assert.deepEqual(passes.map(({ title }) => title).toSorted(), declared.toSorted())
  assert.deepEqual([stats.passes, stats.tests], [declared.length, declared.length])

  const figure = `${stats.passes} of ${stats.tests}`
  assert.match(readFileSync(join(root, 'docs/drop-ins.md'), 'utf8'), new RegExp(`The package's own spec passes: ${figure} `))
  assert.match(readFileSync(join(root, 'CHANGELOG.md'), 'utf8'), new RegExp(`@godaddy/terminus \\(its own spec passes, ${figure}\\)`))
})
