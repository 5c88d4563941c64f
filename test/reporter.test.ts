import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Runs the tests of a fixture as `npm test` runs ours. @param more Of the environment. */
function run(name: string, more: NodeJS.ProcessEnv = {}): { code: number | null, lines: string[] } {
  const cwd = join(root, 'test/fixtures/reporter', name)
  const files = readdirSync(join(cwd, 'test')).map(file => join('test', file))
  const reporter = join(root, '.ci/reporter.mjs')
  const args = [join(root, 'node_modules/tsx/dist/cli.mjs'), '--test', `--test-reporter=${reporter}`, ...files]
  // Without it, the inner runner takes itself for a test file of the outer one.
  const { NODE_TEST_CONTEXT: _, LAMEDUCK_FAILED: __, ...env } = process.env
  const { status, stdout } = spawnSync(process.execPath, args, { cwd, env: { ...env, ...more }, encoding: 'utf8' })
  return { code: status, lines: stdout.split('\n').filter(line => / (did not run|registered no test)|^ℹ ran/.test(line)) }
}

test('a run in which every declared test ran ends with 0', () => {
  assert.deepEqual(run('complete'), { code: 0, lines: ['ℹ ran 4 of the 4 names that the tests declare'] })
})

test('a run ends with 1 and names each test that is declared and did not run, although none failed', () => {
  assert.deepEqual(run('gaps'), {
    code: 1,
    lines: [
      '✖ test/early.test.ts registered no test, or ended early',
      '✖ test/empty.test.ts registered no test, or ended early',
      '✖ test/early.test.ts: "ends the process" did not run',
      '✖ test/early.test.ts: "behind it" did not run',
      '✖ test/some.test.ts: "on a condition" did not run',
      '✖ test/some.test.ts: "without a reason" did not run',
      '✖ test/some.test.ts: "later" did not run',
      'ℹ ran 1 of the 6 names that the tests declare',
    ],
  })
})

test('the files in which a test failed, or that were ended before all of theirs had run, are written down for .ci/run; not when a test did not run in one that passed', () => {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-reporter-'))
  try {
    const [failed, gaps] = [join(folder, 'failed'), join(folder, 'gaps')]
    assert.equal(run('failing', { LAMEDUCK_FAILED: failed }).code, 1)
    assert.deepEqual(readFileSync(failed, 'utf8').trimEnd().split('\n').toSorted(), ['bad', 'ended'].map(name => join(root, `test/fixtures/reporter/failing/test/${name}.test.ts`)))
    run('gaps', { LAMEDUCK_FAILED: gaps })
    assert.ok(!existsSync(gaps))
  } finally {
    rmSync(folder, { recursive: true })
  }
})
