import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rates } from '../bench/leaks.ts'
import { FAMILIES, series, TEST, TUNING } from './_leak-series.ts'

/** Of each family, and of each that may have an alarm. The docs' table has 1,000. */
const SEEDS = 10
const SLOW_SEEDS = 40

/** May have some: up to its end a linear fill is the same series as a leak. */
const SLOW = ['warm-up slow', 'warm-up linear', 'warm-up linear, long']

const rowOf = new Map(Object.keys(FAMILIES).map(family => [family, rates(family, TEST, SLOW.includes(family) ? SLOW_SEEDS : SEEDS)]))
const ours = (family: string) => rowOf.get(family)?.rates.ours as NonNullable<ReturnType<typeof rowOf.get>>['rates']['ours']

for (const family of Object.keys(FAMILIES).filter(name => !FAMILIES[name]?.leaks && !SLOW.includes(name))) {
  test(`no alarm on ${family}`, () => {
    assert.equal(ours(family).called, 0)
  })
}

test('an alarm on less than 10 % of slow warm-ups', () => {
  const called = SLOW.reduce((sum, family) => sum + ours(family).called, 0)
  assert.ok(called < 0.1 * SLOW.length * SLOW_SEEDS, `${called} of ${SLOW.length * SLOW_SEEDS}`)
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
  const all = clean.reduce((sum, row) => sum + row.series, 0)
  assert.ok(called > 0.5 * all, `${called} of ${all}`)
})

test('a series is the same for the same seed, and another one on the tuning seeds', () => {
  assert.deepEqual(series('leak 1 %', TEST), series('leak 1 %', TEST))
  assert.notDeepEqual(series('leak 1 %', TEST).values, series('leak 1 %', TUNING).values)
  assert.ok(TEST - TUNING > 1_000_000)
})
