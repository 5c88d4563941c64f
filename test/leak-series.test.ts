import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rates } from '../bench/leaks.ts'
import { FAMILIES, series, TEST, TUNING } from './_leak-series.ts'

/** Of each family; 10 x 18 series. The docs' table has 200 of each. */
const SEEDS = 10

/** On these the issue has the last word; the others are in the docs' tables. */
const SLOW = ['warm-up slow', 'warm-up linear']
const UNDECIDED = ['warm-up linear, long']

const rowOf = new Map(Object.keys(FAMILIES).map(family => [family, rates(family, TEST, SEEDS)]))
const ours = (family: string) => rowOf.get(family)?.rates.ours as NonNullable<ReturnType<typeof rowOf.get>>['rates']['ours']

for (const family of Object.keys(FAMILIES).filter(name => !FAMILIES[name]?.leaks && !SLOW.includes(name) && !UNDECIDED.includes(name))) {
  test(`no alarm on ${family}`, () => {
    assert.equal(ours(family).called, 0)
  })
}

test('an alarm on less than 10 % of slow warm-ups', () => {
  const called = SLOW.reduce((sum, family) => sum + ours(family).called, 0)
  assert.ok(called < 0.1 * SLOW.length * SEEDS, `${called} of ${SLOW.length * SEEDS}`)
})

for (const family of ['leak 1 %', 'leak 2 %']) {
  test(`every ${family} found by GC 150, at noise of 2 to 8 %`, () => {
    assert.equal(ours(family).by150, SEEDS)
  })
}

test('at least 90 % of leaks of 0.2 % found, at noise of 2 %', () => {
  assert.ok(ours('leak 0.2 %').called >= 0.9 * SEEDS)
})

test('leaks on top of a daily wave, autocorrelated noise or a warm-up are found, if later', () => {
  for (const family of ['leak 1 %, diurnal', 'leak 1 %, autocorrelated', 'leak 1 %, late']) assert.equal(ours(family).called, SEEDS, family)
})

test('the rule of memwatch calls most leak-free series a leak, on the same series', () => {
  const clean = [...rowOf.values()].filter(({ leaks }) => !leaks)
  const called = clean.reduce((sum, row) => sum + row.rates.memwatch.called, 0)
  assert.ok(called > 0.5 * clean.length * SEEDS, `${called} of ${clean.length * SEEDS}`)
})

test('a series is the same for the same seed, and another one on the tuning seeds', () => {
  assert.deepEqual(series('leak 1 %', TEST), series('leak 1 %', TEST))
  assert.notDeepEqual(series('leak 1 %', TEST).values, series('leak 1 %', TUNING).values)
  assert.ok(TEST - TUNING > 1_000_000)
})
