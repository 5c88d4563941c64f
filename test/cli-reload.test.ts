// The real command line against a real supervisor, with bad releases: the exit code is what a deploy goes by.
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { test } from 'node:test'
import { lastLine, Site, taken, Visitor } from './_cli-site.ts'
import type { App } from './fixtures/cluster-app.ts'

type Bad = [what: Partial<App> | 'no script' | 'no variables', code: string, reason: RegExp]

/** Reloads a bad release, under load. */
async function fails(site: Site, visitor: Visitor, [what, code, reason]: Bad): Promise<void> {
  if (what === 'no script') site.point('nowhere')
  else if (what === 'no variables') rmSync(site.variables)
  else site.tell({ version: 'new', ...what })
  const { answered } = visitor
  const result = await site.reload()
  assert.deepEqual([result.code, result.stdout], [5, ''], result.stderr)
  const line = lastLine(result.stderr)
  assert.match(line, reason)
  assert.ok(line.startsWith('lameduck: rolled back: ') && line.endsWith(`; the release before it serves as before [ERR_LAMEDUCK_CLUSTER_${code}]`), line)
  assert.ok(visitor.answered > answered)
  if (what === 'no script') site.point('r1')
}

// Beside each other: each takes the whole of that time.
const endless: Bad[] = [
  [{ fault: 'silent' }, 'SILENT', /it did not listen within 15000 ms/],
  [{ fault: 'unready' }, 'UNREADY', /it was not ready within 15000 ms: \/readyz says 503/],
]

test('a bad release that does not end by itself: `lameduck reload` ends with 5 when its time to get ready is over, and the one before it serves on', { timeout: 300_000 }, async () => {
  await Promise.all(endless.map(release => Site.with(['--ready-timeout', '15s'], async site => {
    const visitor = new Visitor(site)
    await fails(site, visitor, release)
    await visitor.stop()
    assert.deepEqual([[...visitor.versions], visitor.failed], [['old'], []])
  })))
})

test('a bad release, whatever is wrong with it: `lameduck reload` ends with 5, its reason and its code, and the one before it serves on', { timeout: 300_000 }, () => Site.with([], async site => {
  const before = await site.status()
  const visitor = new Visitor(site)
  const bad: Bad[] = [
    [{ fault: 'throws' }, 'DIED', /generation \d+\): it ended with exit code 1 before it was ready: Error: no such module: config/],
    [{ fault: 'exits' }, 'DIED', /it ended with exit code 0 before it was ready/],
    [{ fault: 'dies' }, 'DIED', /it ended with exit code 3 before it was ready/],
    [{ port: taken }, 'DIED', new RegExp(`before it was ready: Error: .*EADDRINUSE.*:${taken}`)],
    [{ second: taken }, 'DIED', new RegExp(`before it was ready: Error: .*EADDRINUSE.*:${taken}`)],
    ['no script', 'SCRIPT', /cannot run .*ENOENT/],
    ['no variables', 'ENV', /cannot tell the workers' environment: ENOENT/],
  ]
  for (const release of bad) await fails(site, visitor, release)
  // Its second worker fails: the first one of it has served for a moment.
  site.tell({ version: 'new', badSlot: '1' })
  await visitor.stop()
  assert.deepEqual([...visitor.versions], ['old'])
  const half = new Visitor(site)
  const { code, stderr } = await site.reload()
  assert.equal(code, 5, stderr)
  assert.match(lastLine(stderr), /bad slot.*\[ERR_LAMEDUCK_CLUSTER_DIED\]$/)
  await half.stop()
  assert.deepEqual([...visitor.failed, ...half.failed], [])

  const { generation, state, ready, workers: all } = await site.status()
  // What failed may still be on its way out.
  const workers = all.filter(worker => worker.state === 'ready')
  assert.deepEqual([generation, state, ready, workers.map(worker => worker.generation)], [1, 'running', 2, [1, 1]])
  // The one that nothing came near to is the same process as ever.
  assert.equal(workers[1]!.pid, before.workers[1]!.pid)
  site.tell({ version: 'good' })
  const good = await site.reload()
  assert.equal(good.code, 0, good.stderr)
  assert.match(good.stdout, /^reloaded: generation 10 in .*; 2 ready before, never fewer than 2\n$/)
  const { client, who } = await site.use()
  assert.equal(who.version, 'good')
  client.destroy()
}))
