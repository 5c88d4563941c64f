import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from './_client.ts'
import { readPage, start, type Program } from './_snippets.ts'

const { text, snippets } = readPage('docs/migrating.md')
const programs = snippets.map(snippet => {
  const [, kind = '', library = ''] = /^(before|step|after): (.+)$/.exec(snippet.mark ?? '') ?? []
  return { ...snippet, kind, library }
})

const libraries = [
  'stoppable', 'terminus', 'http-terminator', 'http-graceful-shutdown', 'lightship', 'close-with-grace', 'server.close',
]

test('migrating: a before and an after for each library, and nothing that is not run', () => {
  assert.deepEqual(programs.filter(({ kind }) => kind === 'before').map(({ library }) => library), libraries)
  assert.deepEqual(programs.filter(({ kind }) => kind === 'after').map(({ library }) => library), libraries)
  for (const { line, kind, language } of programs) assert.ok(kind !== '' && language === 'js', `line ${line} is run by no test`)
})

test('migrating: a drop-in differs from the original by its import', () => {
  const steps = programs.filter(({ kind, code }) => kind === 'step' && code.includes('\'lameduck/'))
  assert.deepEqual(steps.map(({ library }) => library), ['stoppable', 'terminus', 'http-terminator'])
  for (const { library, code } of steps) {
    const before = programs.find(one => one.kind === 'before' && one.library === library)?.code.split('\n') ?? []
    const changed = code.split('\n').filter((line, i) => line !== before[i])
    assert.equal(changed.length, 1)
    assert.match(changed[0] ?? '', /^import .* from 'lameduck\//)
  }
})

test('migrating: no option of a program is left out of its table', () => {
  for (const { library, code, kind } of programs) {
    if (kind !== 'before') continue
    const heading = library === 'server.close' ? '## server.close()' : `## ${library}`
    const section = text.slice(text.indexOf(`\n${heading}\n`) + 1)
    const table = section.slice(section.indexOf('\n|'), section.indexOf('\n## ', 1))
    const names = code.matchAll(/^ {2}(\w+): |[{,] (port|\w*[dD]elay|\w*Timeout): /gm)
    for (const [, long, short] of names) assert.match(table, new RegExp(`\\b${long ?? short}\\b`), `${library}: ${long ?? short}`)
  }
})

/** The port of the server that says hello: lightship has one of its own. */
async function greeter({ ports, exit, output }: Program): Promise<number> {
  const ended = exit.then(() => true)
  for (const limit = performance.now() + 20_000; performance.now() < limit;) {
    for (const port of ports) {
      const answer = await fetch(`http://127.0.0.1:${port}/`, { headers: { Connection: 'close' } }).catch(() => undefined)
      if (answer?.status === 200 && (await answer.text()) === 'hello\n') return port
    }
    if (await Promise.race([ended, sleep(20)])) break
  }
  throw new Error(`no server that says hello:\n${output()}`)
}

/** Less than `quietMs` of lameduck, by enough. */
const PAUSE_MS = 50

/**
 * Asks on one connection until it is told to go. @param begun Called with the first answer. @returns How many answers came.
 */
async function askUntilClose(port: number, begun: () => void): Promise<number> {
  const client = await Client.open({ host: '127.0.0.1', port })
  try {
    for (let askedAt = performance.now(); ;) {
      const pausedMs = performance.now() - askedAt
      askedAt += pausedMs
      client.request('/')
      const answer = await client.answer().catch((error: unknown) => {
        // This process stood still meanwhile: the connection was quiet, and may be closed without a word.
        if (pausedMs < PAUSE_MS || client.end !== 'fin') throw error
        return undefined
      })
      if (!answer) break
      begun()
      assert.equal(answer.status, 200)
      if (/close/i.test(answer.header('connection') ?? '')) break
      await sleep(1)
    }
    assert.equal(await client.ended(), 'fin')
    return client.answers.length
  } finally {
    client.destroy()
  }
}

const titles = { before: 'before', step: 'in one step', after: 'after' } as const

for (const snippet of programs) {
  const { kind, library, line, code } = snippet
  test(`migrating from ${library}, ${titles[kind as 'after']} (line ${line}): it serves, SIGTERM ends it with 0, and it has cleaned up`, async () => {
    const program = start(snippet)
    const { child, exit, output } = program
    try {
      const port = await greeter(program)
      const path = /'(\/health\w*|\/ready)'/.exec(code)?.[1]
      if (path !== undefined) assert.equal((await fetch(`http://127.0.0.1:${port}${path}`, { headers: { Connection: 'close' } })).status, 200)
      // The originals may lose what is on a kept-alive connection; that is why one moves.
      let asking: Promise<number> | undefined
      if (kind !== 'before') await new Promise<void>((resolve, reject) => {
        asking = askUntilClose(port, resolve)
        asking.catch(reject)
      })
      await sleep(50)
      child.kill('SIGTERM')
      if (asking !== undefined) assert.ok(await asking > 0)
      const { code: exitCode, signal } = await exit
      assert.deepEqual({ exitCode, signal }, { exitCode: 0, signal: null }, output())
      assert.match(output(), /database closed/)
      if (code.includes('bye')) assert.match(output(), /database closed[^]*bye/)
    } finally {
      child.kill('SIGKILL')
    }
  })
}
