import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { test } from 'node:test'
import { EXIT } from '../src/cli/failure.ts'
import { makeProgram } from '../src/cli/program.ts'
import { RUN_OPTIONS, variableOf } from '../src/cli/run-options.ts'
import { Terminal } from './fixtures/cli-endpoint.ts'

const read = (path: string) => readFileSync(new URL(path, import.meta.url), 'utf8')
const document = read('../docs/cli.md')

test('the document lists every error code of the command line, and no other', () => {
  const source = readdirSync(new URL('../src/cli', import.meta.url)).map(name => read(`../src/cli/${name}`)).join('\n')
  const codes = (text: string) => [...new Set([...text.matchAll(/ERR_LAMEDUCK_CLI_[A-Z]+/g)].map(([code]) => code))].sort()
  // What a broken connection without a code of its own is called on the way: it comes out as UNREACHABLE.
  assert.deepEqual(codes(document), codes(source).filter(code => code !== 'ERR_LAMEDUCK_CLI_CONNECTION'))
})

test('the document lists every option of run with its key and its variable, every exit code and every command', () => {
  for (const option of RUN_OPTIONS) assert.match(document, new RegExp(`^\\| \`${option.name}\` \\| \`--${option.flag} .*\`${variableOf(option)}\``, 'm'))
  for (const code of Object.values(EXIT)) assert.match(document, new RegExp(`^\\| ${code} \\|`, 'm'))
  const program = makeProgram(new Terminal())
  const ops = program.commands.find(command => command.name() === 'ops')
  for (const command of [...program.commands, ...ops?.commands ?? []]) assert.match(document, new RegExp(`\`(?:lameduck )?${command.name()}\\b`), command.name())
})

test('every command has a description', () => {
  const walk = (command: ReturnType<typeof makeProgram>): void => {
    assert.notEqual(command.description(), '', command.name())
    for (const one of command.commands) walk(one)
  }
  walk(makeProgram(new Terminal()))
})
