/** The page of the maintenance endpoint: what it shows, to whom. */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import express from 'express'
import { mount } from '../src/adapters/express.ts'
import { ops } from '../src/ops/index.ts'
import { LeakWatch } from '../src/ops/watch/leak-watch.ts'
import { ask, freshToken } from './_ops.ts'
import { contrast, enter, focused, logIn, openPage, site, skip, text, until } from './_page.ts'

test('with a token the page shows the process, its requests and connections; a path that looks like markup is text', { skip }, async t => {
  const { app, child } = site()
  const slow = http.get(`${app.url}`, { path: '/slow/60000/<img/src=x/onerror=alert(1)>' }).on('error', () => {})
  t.after(() => slow.destroy())
  const { page, complaints } = await enter(t)
  await text(page, 'badge', /^in rotation$/)
  await text(page, 'process', new RegExp(`pid ${child.process.pid} on .*Node ${process.version}`))
  assert.match(await text(page, 'requests', /slow/), /^GET \/slow\/60000\/<img\/src=x\/onerror=alert\(1\)>\s/)
  assert.equal(await page.locator('#requests img').count(), 0)
  assert.match(await text(page, 'states', /active\s+1/), /idle\s+0/)
  await text(page, 'inflight', /^1$/)
  for (const id of ['heap', 'rss']) await text(page, id, /^\d+\.\d MB$/)
  await text(page, 'delays', /longest\s+[\d.]+ ms/)
  await text(page, 'verdict', /^Leak watch: too early to say\.$/)
  assert.deepEqual(complaints, [])
})

test('the token is in no URL, no storage, no cookie and not in the document; nothing comes from elsewhere, and nothing offends the policy', { skip }, async t => {
  const { at, tokens } = site()
  const { page, complaints, requests } = await enter(t)
  const token = tokens.ann
  const places = 'JSON.stringify([location.href, document.cookie, { ...localStorage }, { ...sessionStorage }, history.state, document.documentElement.outerHTML, document.getElementById("token").value])'
  assert.ok(!(await page.evaluate<string>(places)).includes(token))
  assert.deepEqual(await page.context().cookies(), [])
  assert.ok(requests.some(request => request.headers().authorization === `Bearer ${token}`))
  for (const request of requests) {
    assert.ok(!request.url().includes(token), request.url())
    assert.ok(request.url().startsWith(`${at.url}/`) || request.url() === 'data:,', request.url())
  }
  assert.deepEqual(complaints, [])
  // The browser would have said so.
  await page.evaluate('document.body.append(Object.assign(document.createElement("script"), { textContent: "globalThis.hacked = 1" }))')
  await page.evaluate('document.body.append(Object.assign(document.createElement("img"), { src: "http://127.0.0.1:9/x" }))')
  await until(async () => complaints.length, count => count >= 2)
  assert.ok(complaints.every(line => /Content Security Policy/.test(line)), complaints.join('\n'))
  assert.equal(await page.evaluate('globalThis.hacked'), undefined)
  // After a reload nobody is logged in.
  await page.reload()
  assert.equal(await page.locator('#login').isVisible(), true)
  assert.equal(await page.locator('#all').isVisible(), false)
})

test('without JavaScript the form sends the token nowhere', { skip }, async t => {
  const { at, tokens } = site()
  const { page, requests } = await openPage(t, at.url, { javaScriptEnabled: false })
  await page.fill('#token', tokens.ann)
  await page.keyboard.press('Enter')
  await sleep(300)
  assert.equal(page.url(), `${at.url}/`)
  assert.deepEqual(requests.filter(request => request.method() !== 'GET').map(request => request.url()), [])
})

test('a wrong token is told, and the right one works after it', { skip }, async t => {
  const { page } = await openPage(t)
  await logIn(page, freshToken())
  await text(page, 'refused', /^This is not a token of this endpoint\.$/)
  assert.deepEqual([await focused(page), await page.locator('#all').isVisible()], ['token', false])
  await page.keyboard.press('Control+A')
  await logIn(page, site().tokens.ann)
  await text(page, 'badge', /rotation/)
})

test('who may only read sees the figures and no button, and is told which scope is missing', { skip }, async t => {
  const { page } = await enter(t, site().tokens.reader)
  for (const id of ['snapshot', 'cpu-profile', 'stack', 'collect', 'lameduck', 'drain']) assert.equal(await page.locator(`#${id}`).isVisible(), false, id)
  const told = await page.locator('[data-without]:visible').allTextContents()
  assert.deepEqual(told, ['diag', 'control'].map(scope => `This needs the scope ${scope}, which reader does not have.`))
})

test('who may not even read is told so', { skip }, async t => {
  const { page } = await openPage(t)
  await logIn(page, site().tokens.mover)
  await text(page, 'refused', /needs the scope read, which mover does not have/)
})

test('while the main thread is blocked the page says so with the age of what it shows, lets people in, and shows what blocks it', { skip }, async t => {
  const { app, at, tokens } = site()
  const { page, complaints } = await enter(t)
  const second = await openPage(t, at.url)
  assert.equal(await page.locator('#stale').isVisible(), false)
  const dir = mkdtempSync(join(tmpdir(), 'ld-block-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const blocked = ask(app, `/block/40000/${encodeURIComponent(join(dir, 'over'))}`)
  const first = await text(page, 'stale', /^The main thread is blocked\. For [\d.]+ m?s\. What is shown is [\d.]+ m?s old\.$/)
  const age = async () => Number(/is ([\d.]+) s old/.exec(await text(page, 'stale', /is [\d.]+ s old/))?.[1])
  const early = await age()
  await until(age, later => later >= early + 0.9)
  await logIn(second.page, tokens.ann)
  await text(second.page, 'stale', /^The main thread is blocked\./)
  await page.click('#stack')
  await text(page, 'stack-text', /ops-service\.ts:\d+:\d+/)
  writeFileSync(join(dir, 'over'), '')
  await blocked
  await text(page, 'stale', /^\(hidden\)$/)
  await text(second.page, 'process', /pid \d+/)
  assert.deepEqual(complaints, [], first)
})

test('the leak watch\'s trend is drawn as a line through what major GCs left, with the verdict of each series', { skip }, async t => {
  const { page, complaints } = await openPage(t)
  const { rows } = JSON.parse(readFileSync(new URL('fixtures/heap-series/cache.json', import.meta.url), 'utf8')) as { rows: [number, number, number, number, number][] }
  const watch = new LeakWatch({ limit: 2 ** 32 })
  for (const [at, usedHeap, external, arrayBuffers, rss] of rows) watch.add({ at, usedHeap, external, arrayBuffers, rss, forced: false })
  const majors = rows.slice(-100).map(([at, used, external, arrayBuffers, rss]) => ({ at, forced: false, after: { used, external, arrayBuffers, rss } }))
  // A leak takes more GCs than a test has time for: the recorded ones, as the endpoint would tell of them.
  await page.route('**/leaks', route => route.fulfill({ json: { ...watch.report(), grown: { from: 1, to: 2, stacks: [{ grew: 12_345_678, stack: ['remember <b>cache.js:12'] }] } } }))
  await page.route('**/gc?last=100', async route => {
    const response = await route.fetch()
    await route.fulfill({ response, json: { ...await response.json() as object, majors } })
  })
  await logIn(page, site().tokens.ann)
  assert.match(await text(page, 'verdict', /leak suspected/), /^Leak watch: leak suspected\.$/)
  const { perHour, window } = watch.report().series.usedHeap
  await text(page, 'trend-caption', new RegExp(`last of 100 major GCs;.*Dashed: ${(perHour / 2 ** 30).toFixed(1)} GB an hour, over ${window?.gcs} GCs\\.$`))
  assert.equal(await page.locator('#trend circle').count(), 100)
  const points = async (name: string) => (await page.locator(`#trend path.${name}`).getAttribute('d') ?? '').slice(1).split('L').map(point => point.split(' ').map(Number) as [number, number])
  const [[x1, y1] = [0, 0], [x2, y2] = [0, 0]] = await points('slope.suspected')
  assert.ok(x2 > x1 && y2 < y1, 'the line does not rise')
  const off = (await points('levels')).map(([x, y]) => Math.abs(y - y1 - ((y2 - y1) * (x - x1)) / (x2 - x1)))
  assert.ok(Math.max(...off) < 30, `the line is not where the levels are: ${off.map(Math.round).join(' ')} px`)
  await text(page, 'watch', /Used heap\s+suspected\s.*\nBuffers\s+steady/)
  await text(page, 'grown', /11\.8 MB more, still held, from\s+remember <b>cache\.js:12/)
  await page.locator('#series').selectOption('RSS')
  await text(page, 'trend-caption', /^RSS: [\d.]+ MB after/)
  assert.deepEqual(complaints, [])
})

test('mounted under a path, on the main thread: it works, and when that thread hangs the page says that there is no answer', { skip }, async t => {
  const token = freshToken()
  const endpoint = ops({ thread: false, listen: false, hosts: ['127.0.0.1'], auth: { tokens: [{ name: 'ann', scopes: ['read', 'diag'], token }] } })
  await endpoint.ready
  const app = express()
  mount(app as never, '/ops', endpoint)
  const server = http.createServer(app)
  await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve))
  t.after(async () => {
    server.close().closeAllConnections()
    await endpoint.close()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const { page, complaints, requests } = await openPage(t, `${url}/ops/`)
  await logIn(page, token)
  await text(page, 'process', new RegExp(`pid ${process.pid}`))
  // No duck, no connections.
  for (const id of ['badge', 'states', 'rotation']) assert.equal(await page.locator(`#${id}`).isVisible(), false, id)
  assert.ok(requests.every(request => request.url().startsWith(`${url}/ops/`) || request.url() === 'data:,'))
  await page.click('#stack')
  await text(page, 'said', /would be its own.*\(ERR_LAMEDUCK_OPS_THREAD\)/)
  await page.evaluate('globalThis.told = []; new MutationObserver(() => told.push(document.getElementById("stale").innerText)).observe(document.getElementById("stale"), { childList: true, subtree: true })')
  const end = performance.now() + 8_000
  while (performance.now() < end);
  const told = await page.evaluate<string[]>('told')
  assert.ok(told.some(line => /^No answer from the endpoint\. What is shown is [\d.]+ s old\.$/.test(line)), told.join('\n'))
  await text(page, 'stale', /^\(hidden\)$/)
  assert.ok(complaints.every(line => /501/.test(line)), complaints.join('\n'))
})

test('everything that can be used has a name; a phone does not scroll sideways; text can be read in light and dark', { skip }, async t => {
  const { page } = await openPage(t)
  assert.match(await page.locator('body').ariaSnapshot(), /textbox "Token"[\s\S]*button "Look"/)
  await logIn(page, site().tokens.ann)
  await text(page, 'badge', /rotation/)
  const tree = await page.locator('body').ariaSnapshot()
  const controls = tree.split('\n').filter(line => /- (?:button|combobox|checkbox|textbox|region|img|link)\b/.test(line))
  assert.ok(controls.length >= 12, tree)
  assert.deepEqual(controls.filter(line => !/- \w+ "\S/.test(line)), [])
  await page.click('#cpu-profile')
  await text(page, 'jobs', /CPU profile/)
  for (const width of [320, 360]) {
    await page.setViewportSize({ width, height: 700 })
    assert.equal(await page.evaluate('document.documentElement.scrollWidth'), width)
  }
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme })
    for (const [ink, ground] of ['ink', 'faint', 'accent', 'bad', 'watch', 'good'].flatMap(ink => [[ink, 'panel'], [ink, 'ground']] as const)) {
      const ratio = await contrast(page, ink, ground)
      assert.ok(ratio >= 4.5, `${colorScheme}: ${ink} on ${ground} is ${ratio.toFixed(2)}`)
    }
  }
})
