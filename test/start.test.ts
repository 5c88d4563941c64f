import assert from 'node:assert/strict'
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { stripVTControlCharacters } from 'node:util'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import pc from 'picocolors'
import { failures, sentence, table, type Outcome } from '../examples/_verdict.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

/** What `npm start` runs, in a pipe. */
function start(t: TestContext, env: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, ['--import', 'tsx', 'examples/start.ts'], {
    cwd: root, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  const output = { text: '', errors: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => { output.text += text })
  child.stderr.setEncoding('utf8').on('data', (text: string) => { output.errors += text })
  /** The pids of its services, in the middle of a drain. */
  const services = async () => {
    for (;;) {
      if (output.text.includes('SIGTERM to pid')) return pids(output.text)
      assert.equal(child.exitCode, null, `ended before the first SIGTERM: ${output.errors}`)
      await sleep(20)
    }
  }
  return { child, output, services }
}

const pids = (text: string) => [...text.matchAll(/\(pid (\d+)\)/g)].map(([, pid]) => Number(pid))

function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

async function assertGone(services: number[]): Promise<void> {
  assert.equal(services.length, 3)
  for (let i = 0; i < 100 && services.some(alive); i++) await sleep(20)
  assert.deepEqual(services.filter(alive), [], 'orphans')
}

/** The rows of the table by their variant, as text. */
function readTable(text: string): Map<string, string[]> {
  const lines = text.split('\n').filter((line) => line.startsWith('│'))
  const rows = lines.map((line) => line.split('│').slice(1, -1).map((cell) => cell.trim()))
  return new Map(rows.map(([variant = '', ...cells]) => [variant, cells]))
}

test('npm start shows that lameduck loses nothing, and says in words what its table says', async (t) => {
  const began = performance.now()
  // What makes colour libraries colour a pipe.
  const { child, output } = start(t, { CI: '1', FORCE_COLOR: '1' })
  const [code] = await once(child, 'close')
  const { text, errors } = output

  assert.equal(code, 0, text + errors)
  assert.ok(performance.now() - began < 30_000, 'takes 30 s or more')
  assert.equal(text, stripVTControlCharacters(text), 'escape codes in a pipe')
  assert.match(text, /lameduck: SIGTERM: out of rotation, serving on/, "lameduck's own log")
  assert.match(text, / lame duck +\d+ +\d+ +[\d,]+ +0 +0\n/, 'counters of the lame duck')

  const rows = readTable(text)
  const closing = text.trimEnd().split('\n').at(-1) ?? ''
  const clauses = closing.slice(0, -1).split('; ')
  for (const [index, variant] of ['lameduck', 'server.close()', 'stoppable'].entries()) {
    const row = rows.get(variant) ?? assert.fail(`no row ${variant}`)
    const [served = '', after = '', lost = '', ghosts = '', drain = '', exit = ''] = row
    const clause = clauses[index] ?? ''
    assert.ok(clause.startsWith(`${variant} `), clause)
    if (lost === '0') assert.ok(clause.includes(` answered all ${served} requests, ${after} of them after SIGTERM`), clause)
    else assert.match(clause, new RegExp(` lost ${lost} of .+ requests, ${ghosts === '0' ? 'none' : ghosts} of them executed,`))
    if (drain.startsWith('> ')) assert.ok(clause.endsWith(`had to be killed after ${drain.slice(2)}`), clause)
    else assert.ok(clause.endsWith(`exited with ${exit} after ${drain}`), clause)
  }
  const [, after, lost, ghosts, , exit] = rows.get('lameduck') ?? []
  assert.deepEqual({ lost, ghosts, exit }, { lost: '0', ghosts: '0', exit: '0' })
  assert.notEqual(after, '0', 'nothing was in flight')
  await assertGone(pids(text))
})

const endings: Record<string, (child: ChildProcessByStdio<null, Readable, Readable>) => unknown> = {
  'Ctrl-C': (child) => child.kill('SIGINT'),
  'a reader that goes away': (child) => child.stdout.destroy(),
  'SIGKILL': (child) => child.kill('SIGKILL'),
}

for (const [name, end] of Object.entries(endings)) {
  test(`${name} in the middle of a drain ends npm start, and no service is left`, async (t) => {
    const { child, services } = start(t)
    const all = await services()
    const exited = once(child, 'exit')
    end(child)
    const [code] = await exited
    if (name === 'Ctrl-C') assert.equal(code, 130)
    else assert.notEqual(code, 0)
    await assertGone(all)
  })
}

const good: Outcome = {
  variant: 'lameduck', inFlight: 60, served: 1_500, servedAfter: 200, errors: 0, lost: 0, ghosts: 0,
  code: 0, signal: null, drainMs: 2_100, killed: false,
}

test('the verdict of npm start is a success only when lameduck lost nothing under a load that proves it', () => {
  const killed = { code: null, signal: 'SIGKILL', killed: true } as const
  const cases: [Partial<Outcome>, RegExp | undefined][] = [
    [{}, undefined],
    [{ lost: 1 }, /^lameduck lost 1 request$/],
    [{ ghosts: 2 }, /^lameduck left 2 requests executed but unanswered$/],
    [{ errors: 3 }, /^lameduck answered 3 requests with an error status$/],
    [{ code: 1 }, /^lameduck ended with exit code 1, not 0$/],
    [{ code: null, signal: 'SIGSEGV' }, /^lameduck ended with exit code 139, not 0$/],
    [killed, /^lameduck was not done after 2\.1 s and had to be killed$/],
    [{ inFlight: 9 }, /^the load proves nothing about lameduck: 9 requests in flight/],
  ]
  // What the others lose is no failure of ours; that nothing was asked of them would be.
  const peer: Outcome = { ...good, variant: 'stoppable', lost: 5, ghosts: 2, ...killed }
  for (const [change, expected] of cases) {
    const found = failures([{ ...good, ...change }, peer])
    assert.equal(found.length, expected ? 1 : 0, found.join())
    if (expected) assert.match(found[0] ?? '', expected)
  }
  assert.equal(failures([good, { ...peer, inFlight: 0 }]).length, 1)
  assert.equal(failures([peer]).length, 1)
})

test('the closing sentence and the table of npm start are made of the figures', () => {
  const outcomes: Outcome[] = [
    good,
    { ...good, variant: 'a', lost: 12, ghosts: 5, code: null, signal: 'SIGKILL', killed: true, drainMs: 5_012 },
    { ...good, variant: 'b', lost: 1, errors: 4, code: 7 },
  ]
  assert.equal(sentence(outcomes),
    'lameduck answered all 1,500 requests, 200 of them after SIGTERM, and exited with 0 after 2.1 s; ' +
    'a lost 12 of 1,512 requests, 5 of them executed, and had to be killed after 5.0 s; ' +
    'b lost 1 of 1,505 requests, none of them executed, answered 4 with an error, and exited with 7 after 2.1 s.')
  assert.deepEqual(readTable(table(outcomes, pc.createColors(false))).get('a'), ['1,500', '200', '12', '5', '> 5.0 s', '137'])
})
