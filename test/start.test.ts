import assert from 'node:assert/strict'
import { once } from 'node:events'
import { stripVTControlCharacters } from 'node:util'
import { test } from 'node:test'
import pc from 'picocolors'
import * as reload from '../examples/_reload-verdict.ts'
import { failures, sentence, table, type Outcome } from '../examples/_stop-verdict.ts'
import { assertGone, pids, start } from './_start.ts'

const plain = pc.createColors(false)

/** The rows of the table by their variant, as text. */
function readTable(text: string): Map<string, string[]> {
  const lines = text.split('\n').filter((line) => line.startsWith('│'))
  const rows = lines.map((line) => line.split('│').slice(1, -1).map((cell) => cell.trim()))
  return new Map(rows.map(([variant = '', ...cells]) => [variant, cells]))
}

/** The sentence about lameduck, server.close() and stoppable says what their table says. */
function assertStops(text: string, closing: string): void {
  const rows = readTable(text)
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
}

/** So does the one about the reloads. */
function assertReloads(text: string, closing: string): void {
  const rows = readTable(text)
  const row = (release: string) => rows.get(`release ${release}`) ?? assert.fail(`no row of release ${release}`)
  const [, , , , , executedBefore] = row('1.0')
  const [became, after, ready, meanwhile, , executed] = row('2.0')
  const [becameBad, afterBad, readyBad, meanwhileBad, , executedBad] = row('3.0')
  const [, , , answered] = rows.get('in all') ?? []
  assert.deepEqual([became, becameBad], ['live', 'rolled back'])
  assert.deepEqual([ready, readyBad], ['2 of 2', '2 of 2'])
  assert.equal(executedBad, '0')
  for (const count of [executedBefore, executed, meanwhile, meanwhileBad]) assert.ok(count !== undefined && count !== '0', 'no load')
  assert.ok(closing.startsWith(`lameduck's supervisor answered all ${answered} requests through 2 reloads, with 2 of 2 workers ready at the least: `), closing)
  assert.ok(closing.includes(`release 2.0 was live after ${after}; release 3.0 was rolled back after ${afterBad} (it `), closing)
  assert.ok(closing.endsWith('; 2.0 serves on. 0 lost, 0 executed but unanswered, 0 executed twice.'), closing)
}

test('npm start shows that lameduck and its supervisor lose nothing, and says in words what its tables say', async (t) => {
  const began = performance.now()
  // What makes colour libraries colour a pipe.
  const { child, output } = start(t, [], { CI: '1', FORCE_COLOR: '1' })
  const [code] = await once(child, 'close')
  const { text, errors } = output

  assert.equal(code, 0, text + errors)
  // Half of that on a quiet machine; this one may have a suite of tests to run beside it.
  assert.ok(performance.now() - began < 80_000, 'takes 80 s or more')
  assert.equal(text, stripVTControlCharacters(text), 'escape codes in a pipe')
  assert.match(text, /lameduck: SIGTERM: out of rotation, serving on/, "lameduck's own log")
  assert.match(text, / lame duck +\d+ +\d+ +[\d,]+ +0 +0\n/, 'counters of the lame duck')
  assert.match(text, / reloading +2 of 2 +\d+ +[\d,]+ +[\d,]+ +0 +0\n/, 'counters of a reload')
  assert.match(text, /worker 1 \(pid \d+\) of generation 2: ready\n/, 'steps of the workers')

  const [stops = '', , reloads = ''] = text.trimEnd().split('\n').slice(-3)
  assertStops(text, stops)
  assertReloads(text, reloads)
  // Three services; two workers each of two releases, and one of the third.
  await assertGone(pids(text).filter((pid) => pid !== child.pid), 8)
})

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

const deploy: reload.Deploy = {
  release: '2', expected: 'reloaded', outcome: 'reloaded', generation: 2, durationMs: 4_200, cut: 0, readyBefore: 2, readyLeast: 2, served: 4_200,
}
const bad: reload.Deploy = {
  ...deploy, release: '3', expected: 'rolled-back', outcome: 'rolled-back', generation: 3, code: 'ERR_LAMEDUCK_CLUSTER_UNREADY',
  reason: 'worker 0 (pid 7, generation 3): it was not ready within 5000 ms: /readyz says 503',
}
const smooth: reload.Reloads = {
  workers: 2, first: { release: '1', durationMs: 1_000, served: 900 }, deploys: [deploy, bad], live: ['2'],
  served: 10_000, errors: 0, lost: 0, ghosts: 0, twice: 0, executed: new Map([['1', 3_000], ['2', 7_000]]),
  stop: { outcome: 'clean', code: 0, reason: 'SIGTERM', durationMs: 100 },
}

test('the verdict on the reloads is a success only when nothing was lost, and the bad release was rolled back under load', () => {
  const cases: [Partial<reload.Reloads>, RegExp | undefined][] = [
    [{}, undefined],
    [{ lost: 1 }, /^the supervisor lost 1 request$/],
    [{ ghosts: 2 }, /^the supervisor left 2 requests executed but unanswered$/],
    [{ twice: 3 }, /^the supervisor had 3 requests executed twice$/],
    [{ errors: 4 }, /^the supervisor answered 4 requests with an error status$/],
    [{ deploys: [deploy, { ...bad, outcome: 'reloaded' }] }, /^release 3 ought to be rolled back, and was live/],
    [{ deploys: [deploy, { ...bad, outcome: 'mixed' }] }, /^release 3 ought to be rolled back, and was half live \(it was not ready/],
    [{ deploys: [{ ...deploy, outcome: 'rolled-back', reason: 'env' }, bad] }, /^release 2 ought to be live, and was rolled back \(env\)$/],
    [{ deploys: [{ ...deploy, readyLeast: 1 }, bad] }, /^only 1 of 2 workers were ready while release 2 was deployed$/],
    [{ deploys: [deploy, { ...bad, served: 9 }] }, /^the load proves nothing about release 3: 9 requests answered/],
    [{ executed: new Map([['1', 9_000]]) }, /^release 2 was live, and executed nothing$/],
    [{ executed: new Map([...smooth.executed, ['3', 1]]) }, /^release 3 was rolled back, and had executed 1 request$/],
    [{ live: ['1', '2'] }, /^at the end 1 and 2 was live, not 2$/],
    [{ live: [] }, /^at the end no release was live, not 2$/],
    [{ stop: { ...smooth.stop, outcome: 'forced', code: 1 } }, /^the supervisor's end was forced: SIGTERM$/],
  ]
  for (const [change, expected] of cases) {
    const found = reload.failures({ ...smooth, ...change })
    assert.equal(found.length, expected ? 1 : 0, found.join())
    if (expected) assert.match(found[0] ?? '', expected)
  }
})

test('the sentence on the reloads and its table are made of the figures', () => {
  assert.equal(reload.sentence({ ...smooth, deploys: [{ ...deploy, readyLeast: 1 }, bad], errors: 5, lost: 12, ghosts: 3, twice: 1 }),
    "lameduck's supervisor lost 12 of 10,017 requests, 3 of them executed, answered 5 with an error, through 2 reloads, " +
    'with 1 of 2 workers ready at the least: release 2 was live after 4.2 s; ' +
    'release 3 was rolled back after 4.2 s (it was not ready within 5000 ms: /readyz says 503); 2 serves on. ' +
    '12 lost, 3 executed but unanswered, 1 executed twice.')
  const rows = readTable(reload.table(smooth, plain))
  assert.deepEqual(rows.get('release 1'), ['live', '', '', '900', '900', '3,000'])
  assert.deepEqual(rows.get('release 2'), ['live', '4.2 s', '2 of 2', '4,200', '1,000', '7,000'])
  assert.deepEqual(rows.get('release 3'), ['rolled back', '4.2 s', '2 of 2', '4,200', '1,000', '0'])
  assert.deepEqual(rows.get('in all'), ['', '', '', '10,000', '', '10,000'])
})
