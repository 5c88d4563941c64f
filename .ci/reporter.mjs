// Node's spec reporter, with one thing more: the run fails when a test that is written down did not run. The runner itself
// does not see that. A file that registers no test, or whose process ends early with 0, is one more passed test to it.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { spec } from 'node:test/reporters'

const folder = resolve('test')
// With LAMEDUCK_SUBSET (.ci/run, on further versions of Node) only the files that were asked for count.
const asked = process.argv.filter(name => name.endsWith('.test.ts')).map(name => basename(name))
const sources = process.env.LAMEDUCK_SUBSET ? reached(asked) : readdirSync(folder).filter(name => name.endsWith('.ts'))
const declaration = /(?<![\w.])(?:t\.)?(test|scenario)\(\s*(?:\w+,\s*)?(?:'((?:[^'\\\n]|\\.)*)'|`((?:[^`\\]|\\.)*)`)/g

/** These files, and those of this folder that they import. */
function reached(names) {
  const all = new Set(names)
  for (const name of all) {
    for (const [, imported] of readFileSync(resolve(folder, name), 'utf8').matchAll(/from '\.\/(_[\w-]+\.ts)'/g)) all.add(imported)
  }
  return [...all]
}

/**
 * The names in `test('…')` and `scenario(world, '…')` as patterns, with a wildcard for each `${…}`. What a file calls a scenario
 * it may run under longer names: with the world before it, with the outcome behind it.
 */
function declared() {
  return sources.flatMap(source => {
    const text = readFileSync(resolve(folder, source), 'utf8')
    return [...text.matchAll(declaration)].map(([, kind, plain, template]) => {
      const name = (plain ?? template).replaceAll(/\\(.)/g, '$1')
      const parts = plain === undefined ? name.split(/\$\{[^}]*\}/) : [name]
      const pattern = parts.map(part => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`)).join('.*')
      return { source, name, pattern: new RegExp(kind === 'scenario' ? `^(?:.*: )?${pattern}(?:: .*)?$` : `^${pattern}$`, 's') }
    })
  })
}

/** Passes the events on, and keeps the names of the tests that ran or were skipped for a reason that is given, and the files with one that failed. */
async function* note(events, ran, failed) {
  for await (const event of events) {
    const { name, skip, todo, file, details } = event.data
    if (/^test:(?:pass|fail)$/.test(event.type) && skip !== true && !todo) ran.push(name)
    // Each file is a test of its own, named by its path or by its last part.
    if (event.type === 'test:complete' && file?.endsWith(name) && !details.passed) failed.push(file)
    yield event
  }
}

export default async function* reporter(events) {
  const ran = []
  const failed = []
  yield* Readable.from(note(events, ran, failed)).pipe(new spec())

  const all = declared()
  const absent = all.filter(({ pattern }) => !ran.some(name => pattern.test(name)))
  // The runner reports a file that no test came from as a test, by its path.
  const silent = sources.filter(source => !source.startsWith('_') && ran.some(name => resolve(name) === resolve(folder, source)))
  for (const source of silent) yield `✖ test/${source} registered no test, or ended early\n`
  for (const { source, name } of absent) yield `✖ test/${source}: "${name}" did not run\n`
  if (absent.length + silent.length > 0) process.exitCode = 1
  // For .ci/run, which has a second look at them. A test that did not run in a file that passed needs none: it is a defect.
  // A hook in a helper fails in its name, and does not say whose test file that was.
  const named = failed.every(file => file.endsWith('.test.ts'))
  const broken = new Set(failed.map(file => basename(file)))
  const missing = [...silent, ...absent.map(({ source }) => source)].filter(source => !broken.has(source))
  if (process.env.LAMEDUCK_FAILED && named && missing.length === 0) writeFileSync(process.env.LAMEDUCK_FAILED, failed.map(file => `${file}\n`).join(''))
  yield `ℹ ran ${all.length - absent.length} of the ${all.length} names that the tests declare\n`
}
