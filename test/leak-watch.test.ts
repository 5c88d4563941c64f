import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { LeakWatch, type Sample } from '../src/ops/watch/leak-watch.ts'
import { withRates } from '../bench/leaks.ts'
import { recorded, type Recording } from './_heap-recorder.ts'
import { random, samples } from './_leak-series.ts'

const MB = 2 ** 20
const LIMIT = 4_144 * MB

/** Feeds a watch with levels of the used heap. @returns The verdicts, GC by GC. */
function feed(watch: LeakWatch, values: readonly number[], from = 0): string[] {
  return samples(values).map(sample => {
    watch.add({ ...sample, at: sample.at + from * 30_000 })
    return watch.verdict
  })
}

/** Levels with 3 % of noise, MB. */
function noisy(length: number, level: (n: number) => number, seed = 5): number[] {
  const r = random(seed)
  return Array.from({ length }, (_, n) => level(n) * MB * (1 + 0.03 * r.normal()))
}

const folder = new URL('fixtures/heap-series/', import.meta.url)
const recordings = readdirSync(folder).map(name => JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as Recording)

for (const recording of recordings) {
  const { program, leaks, node } = recording
  test(`${program}, recorded from a real process: ${leaks ? 'suspected' : 'never suspected'}`, t => {
    const watch = new LeakWatch({ limit: LIMIT })
    let suspectedAt = 0
    for (const sample of recorded(recording)) {
      watch.add(sample)
      if (watch.verdict === 'suspected') suspectedAt ||= watch.report().gcs
    }
    const { series } = watch.report()
    t.diagnostic(`${node}: ${suspectedAt ? `suspected at GC ${suspectedAt}` : 'not suspected'}; ${series.usedHeap.reason}`)
    assert.equal(suspectedAt > 0, leaks)
  })
}

test('six programs were recorded, four of which leak', () => {
  assert.deepEqual(recordings.map(({ program }) => program).sort(), [
    'Buffer leak', 'bounded LRU', 'bursty load', 'closure leak', 'listener leak', 'unbounded cache',
  ])
  assert.equal(recordings.filter(({ leaks }) => leaks).length, 4)
})

test('a Buffer leak is found in the array buffers, not in the used heap', () => {
  const watch = new LeakWatch({ limit: LIMIT })
  for (const sample of recorded(recordings.find(({ program }) => program === 'Buffer leak') as Recording)) watch.add(sample)
  const { growing, series } = watch.report()
  assert.equal(growing[0], 'arrayBuffers')
  assert.notEqual(series.usedHeap.verdict, 'suspected')
})

test('the report of a leak has slope, confidence, window and evidence', () => {
  const watch = new LeakWatch({ limit: LIMIT })
  feed(watch, noisy(150, n => 100 + n))
  const { verdict, growing, gcs, series: { usedHeap } } = watch.report()
  assert.equal(verdict, 'suspected')
  assert.deepEqual(growing, ['usedHeap'])
  assert.equal(gcs, 150)
  assert.ok(Math.abs(usedHeap.perGc / MB - 1) < 0.1, `${usedHeap.perGc} bytes per GC`)
  // A major GC every 30 s.
  assert.ok(Math.abs(usedHeap.perHour / MB - 120) < 12, `${usedHeap.perHour} bytes per hour`)
  assert.ok(usedHeap.confidence > 0.9 && usedHeap.confidence <= 1, `${usedHeap.confidence}`)
  assert.ok(usedHeap.window && usedHeap.window.gcs >= 120 && usedHeap.window.to > usedHeap.window.from)
  const { points, tau, pace, growth, growthNeeded } = usedHeap.evidence as NonNullable<typeof usedHeap.evidence>
  assert.equal(points.length, (usedHeap.window?.gcs ?? 0) / 5)
  assert.ok(tau > 0.9 && pace > 0.7 && growth >= growthNeeded)
})

test('the report of a flat heap has no slope to speak of, and low confidence', () => {
  const watch = new LeakWatch({ limit: LIMIT })
  feed(watch, noisy(300, () => 100))
  const { verdict, growing, series: { usedHeap } } = watch.report()
  assert.equal(verdict, 'steady')
  assert.deepEqual(growing, [])
  assert.ok(Math.abs(usedHeap.perGc) < 0.05 * MB)
  assert.equal(usedHeap.reason, 'does not grow beyond its own noise')
})

test('warming until 60 major GCs were seen, with the reason', () => {
  const watch = new LeakWatch({ limit: LIMIT })
  const verdicts = feed(watch, noisy(60, () => 100))
  assert.deepEqual(new Set(verdicts.slice(0, 59)), new Set(['warming']))
  assert.equal(verdicts[59], 'steady')
  const young = new LeakWatch()
  feed(young, noisy(7, () => 100))
  assert.equal(young.report().series.usedHeap.reason, '7 major GCs so far; it takes 60')
})

test('a cache that fills up is watched, with the reason that it slows down, and comes to rest', () => {
  const watch = new LeakWatch({ limit: LIMIT })
  const verdicts = feed(watch, noisy(150, n => 100 + 300 * (1 - Math.exp(-n / 100))))
  assert.ok(verdicts.includes('watch'))
  assert.match(watch.report().series.usedHeap.reason, /slows down/)
  const later = feed(watch, noisy(600, () => 370), 150)
  assert.ok(!later.includes('suspected'))
  assert.equal(later.at(-1), 'steady')
})

test('a cache that fills evenly for 350 GCs is watched, never suspected; a leak that does not stop there is suspected, as what it may be', () => {
  const fill = new LeakWatch({ limit: LIMIT })
  const verdicts = feed(fill, noisy(900, n => 100 + 120 * Math.min(1, n / 350)))
  assert.ok(verdicts.includes('watch') && !verdicts.includes('suspected'))
  assert.equal(verdicts.at(-1), 'steady')
  const leak = new LeakWatch({ limit: LIMIT })
  const found = feed(leak, noisy(560, n => 100 + 120 * n / 350)).indexOf('suspected')
  assert.ok(found > 350, `found at ${found}`)
  assert.match(leak.report().series.usedHeap.reason, /a leak, or a cache that still fills/)
})

test('slow growth that takes half of the room to the heap limit is suspected without waiting', () => {
  const roomy = feed(new LeakWatch({ limit: LIMIT }), noisy(300, n => 100 + 0.4 * n))
  const tight = feed(new LeakWatch({ limit: 250 * MB }), noisy(300, n => 100 + 0.4 * n))
  assert.ok(!roomy.includes('suspected') && tight.includes('suspected'))
})

test('a suspect that is flat from then on comes back to steady, and is suspected again when it leaks again', () => {
  const watch = new LeakWatch({ limit: LIMIT })
  assert.equal(feed(watch, noisy(200, n => 100 + n)).at(-1), 'suspected')
  assert.equal(feed(watch, noisy(150, () => 300), 200).at(-1), 'steady')
  assert.ok(feed(watch, noisy(400, n => 300 + 3 * n), 350).includes('suspected'))
})

test('a suspect that falls back comes back to steady soon', () => {
  const watch = new LeakWatch({ limit: LIMIT })
  assert.equal(feed(watch, noisy(200, n => 100 + n)).at(-1), 'suspected')
  assert.equal(feed(watch, noisy(30, () => 100), 200).at(-1), 'steady')
})

test('a leak in a process that ran for long is found', () => {
  const watch = new LeakWatch({ limit: LIMIT })
  assert.ok(!feed(watch, noisy(5_000, () => 100)).includes('suspected'))
  assert.ok(feed(watch, noisy(200, n => 100 + n), 5_000).includes('suspected'))
})

test('a leak of 0.02 % per GC is found within 5,000 GCs', () => {
  const watch = new LeakWatch({ limit: LIMIT })
  const found = feed(watch, noisy(5_000, n => 100 + 0.02 * n)).indexOf('suspected')
  assert.ok(found > 0, `found at ${found}`)
})

test('a leak that fills half of the heap limit within a dozen major GCs is found on the way', () => {
  const watch = new LeakWatch({ limit: 2_048 * MB })
  const found = feed(watch, Array.from({ length: 13 }, (_, n) => 30 * 1.4 ** n * MB)).indexOf('suspected')
  assert.ok(found >= 8 && found < 13, `at GC ${found + 1}`)
  assert.match(watch.report().series.usedHeap.reason, /quadrupled/)
})

test('a process that loads its data and then rests is no suspect', () => {
  const watch = new LeakWatch({ limit: 2_048 * MB })
  const verdicts = feed(watch, noisy(300, n => Math.min(900, 30 * 1.4 ** n)))
  assert.ok(!verdicts.includes('suspected'))
  assert.equal(verdicts.at(-1), 'steady')
})

test('less than 16 MB is nobody\'s leak', () => {
  const watch = new LeakWatch({ limit: LIMIT })
  const verdicts = feed(watch, noisy(400, n => 4 + 0.02 * n))
  assert.deepEqual(new Set(verdicts), new Set(['warming', 'steady']))
})

test('GCs that we forced do not count', () => {
  const plain = new LeakWatch({ limit: LIMIT })
  const disturbed = new LeakWatch({ limit: LIMIT })
  for (const sample of samples(noisy(200, n => 100 + n))) {
    plain.add(sample)
    disturbed.add(sample)
    disturbed.add({ ...sample, usedHeap: MB, forced: true })
  }
  assert.equal(disturbed.report().forced, 200)
  assert.deepEqual(disturbed.report().series, plain.report().series)
})

test('30,000 GCs leave the watch no bigger than 1,000 do', () => {
  const size = (gcs: number) => {
    const watch = new LeakWatch({ limit: LIMIT })
    const one: Sample = { at: 0, usedHeap: 100 * MB, external: MB, arrayBuffers: MB, rss: 200 * MB, forced: false }
    for (let n = 0; n < gcs; n++) watch.add({ ...one, at: n * 1_000, usedHeap: (100 + (n % 7)) * MB })
    return JSON.stringify(watch.report()).length
  }
  assert.ok(size(30_000) < 2 * size(1_000))
})

test('docs/leak-watch.md says what bench/results/leaks.json says', () => {
  const doc = readFileSync(new URL('../docs/leak-watch.md', import.meta.url), 'utf8')
  assert.equal(doc, withRates(doc))
})
