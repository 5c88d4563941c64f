/** The page of the maintenance endpoint: its buttons. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { ask } from './_ops.ts'
import { enter, focused, site, skip, startSite, tabTo, text } from './_page.ts'

test('by keyboard alone: out of rotation after a question, which Escape and No answer with no, and back', { skip }, async t => {
  const { at, tokens } = site()
  const { page, complaints } = await enter(t)
  const state = async () => (await ask(at, '/state', { token: tokens.ann })).json.state
  await tabTo(page, 'lameduck')
  await page.keyboard.press('Enter')
  await text(page, 'sure', /Readiness fails/)
  assert.equal(await focused(page), 'No')
  await page.keyboard.press('Escape')
  await text(page, 'sure', /^\(hidden\)$/)
  assert.deepEqual([await focused(page), await state()], ['lameduck', 'running'])
  await page.keyboard.press('Space')
  await text(page, 'sure', /Readiness fails/)
  await page.keyboard.press('Enter')
  await text(page, 'sure', /^\(hidden\)$/)
  assert.equal(await state(), 'running')
  await page.keyboard.press('Enter')
  await text(page, 'sure', /Readiness fails/)
  await page.keyboard.press('Tab')
  assert.equal(await focused(page), 'sure-yes')
  await page.keyboard.press('Enter')
  await text(page, 'badge', /^out of rotation$/)
  assert.deepEqual([await focused(page), await state()], ['lameduck', 'lameduck'])
  await text(page, 'said', /^Out of rotation: done\.$/)
  assert.equal(await page.locator('#lameduck').getAttribute('aria-disabled'), 'true')
  await page.keyboard.press('Enter')
  assert.equal(await page.locator('#sure').isVisible(), false)
  await tabTo(page, 'resume')
  await page.keyboard.press('Enter')
  await text(page, 'badge', /^in rotation$/)
  assert.equal(await state(), 'running')
  assert.deepEqual(complaints, [])
})

test('a heap snapshot: what it costs is asked first; it becomes a file, which is fetched whole, and deleted', { skip }, async t => {
  const { at, tokens } = site()
  const { page, complaints } = await enter(t)
  await tabTo(page, 'snapshot')
  await page.keyboard.press('Enter')
  assert.match(await text(page, 'sure', /stands still/), /leaves rotation, .*stands still for about [\d.]+ m?s, with [\d.]+ MB of heap/)
  await page.locator('#sure-yes').press('Enter')
  await text(page, 'said', /^Heap snapshot: done: [\d.]+ [kM]B, listed below\.$/, 30_000)
  await text(page, 'badge', /^in rotation$/)
  await text(page, 'jobs', /Heap snapshot\s+ann\s+done/)
  const [{ name }] = (await ask(at, '/artifacts', { token: tokens.ann })).json.artifacts as [{ name: string }]
  await text(page, 'artifacts', new RegExp(name.replaceAll('.', '\\.')))
  const fetched = page.waitForEvent('download')
  await page.getByRole('button', { name: `Download ${name}` }).press('Enter')
  const download = await fetched
  assert.equal(download.suggestedFilename(), name.replace(/\.gz$/, ''))
  const { snapshot, strings } = JSON.parse(readFileSync(await download.path(), 'utf8')) as { snapshot: { node_count: number }; strings: string[] }
  assert.ok(snapshot.node_count > 1_000 && strings.length > 1_000)
  const deleting = page.getByRole('button', { name: `Delete ${name}` })
  await deleting.press('Enter')
  await page.locator('#sure-yes').press('Enter')
  await text(page, 'artifacts-table', /^\(hidden\)$/)
  assert.deepEqual((await ask(at, '/artifacts', { token: tokens.ann })).json.artifacts, [])
  assert.deepEqual(complaints, [])
})

test('a job can be cancelled, and whoever is on its button with the keyboard stays there while its progress is drawn', { skip }, async t => {
  const { page } = await enter(t)
  await page.click('#cpu-profile')
  const cancel = page.getByRole('button', { name: 'Cancel: CPU profile' })
  await cancel.focus()
  const before = await text(page, 'jobs', /sampling\s+\d+ %/)
  await text(page, 'jobs', new RegExp(`sampling\\s+(?!${/\d+ %/.exec(before)?.[0]})\\d+ %`))
  assert.equal(await focused(page), 'Cancel')
  await page.keyboard.press('Enter')
  await text(page, 'jobs', /cancelled/)
})

test('collecting garbage tells before and after, shows the GC, and a second one within the minute says when', { skip }, async t => {
  const { page, complaints } = await enter(t)
  await page.click('#collect')
  await text(page, 'said', /^Collect garbage: [\d.]+ MB of heap before, [\d.]+ MB after; it stood still for [\d.]+ ms\.$/)
  await text(page, 'trend-caption', /^Used heap: [\d.]+ MB after the last of \d+ major GCs;.*Hollow: we made it collect\.$/)
  assert.ok(await page.locator('#trend circle.forced').count() > 0)
  await text(page, 'pauses', /major: all objects\s+\d+\s/)
  await page.click('#collect')
  await text(page, 'said', /one collection a minute; again in \d+ s \(ERR_LAMEDUCK_OPS_COOLDOWN\)\.$/)
  // The refusal itself is what the browser notes.
  assert.ok(complaints.every(line => /429/.test(line)), complaints.join('\n'))
})

test('a drain: the page shows who holds it, its outcome, and that the endpoint has gone after it', { skip }, async t => {
  const { app, at, tokens, close } = await startSite()
  t.after(close)
  const slow = ask(app, '/slow/4000/export')
  const { page } = await enter(t, tokens.ann, at.url)
  await tabTo(page, 'drain')
  await page.keyboard.press('Enter')
  await text(page, 'sure', /leaves rotation for good/)
  await page.locator('#sure-yes').press('Enter')
  await text(page, 'badge', /^draining$/)
  await text(page, 'holding-title', /^Who is holding the drain$/)
  await text(page, 'requests', /^GET \/slow\/4000\/export/)
  assert.equal((await ask(at, '/state', { token: tokens.ann })).json.state, 'draining')
  assert.equal((await slow).status, 200)
  await text(page, 'said', /^Drain: clean, in [\d.]+ s; 1 served\.$/)
  await text(page, 'stale', /^No answer from the endpoint\. What is shown is [\d.]+ m?s old\.$/)
})
