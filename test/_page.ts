/** The endpoint's page in Chromium, against a service of its own. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { chromium, type Browser, type Page, type Request } from 'playwright-core'
import type { Scope } from '../src/ops/http/route.ts'
import { Child } from './_child.ts'
import { freshToken, type Target } from './_ops.ts'

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium'
export const skip = existsSync(CHROMIUM) ? false : 'there is no Chromium here'
const QUIET = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

/** Who has a token of the service. */
const PEOPLE = { ann: ['read', 'diag', 'control'], reader: ['read'], mover: ['control'] } satisfies Record<string, Scope[]>

/** A service with an endpoint. */
export interface Site {
  child: Child
  /** Of the application. */
  app: Target
  /** Of the endpoint, and its page. */
  at: Target & { url: string }
  tokens: Record<keyof typeof PEOPLE, string>
  close(): Promise<void>
}

export interface Window {
  page: Page
  /** What the browser complained of: in the console, by an exception, with a dialog. */
  complaints: string[]
  requests: Request[]
}

let browser: Browser
let shared: Site

/** The service that most tests look at. */
export const site = () => shared

before(async () => {
  if (skip) return
  ;[browser, shared] = await Promise.all([chromium.launch({ executablePath: CHROMIUM, headless: true, args: QUIET }), startSite()])
})

after(async () => {
  await shared?.close()
  await inTime(browser?.close(), 'the end of the browser')
})

export async function startSite(): Promise<Site> {
  const dir = mkdtempSync(join(tmpdir(), 'lameduck-page-'))
  const tokens = { ann: freshToken(), reader: freshToken(), mover: freshToken() }
  const people = Object.entries(PEOPLE).map(([name, scopes]) => ({ name, scopes, token: tokens[name as keyof typeof PEOPLE] }))
  const child = new Child('ops-service.ts', [JSON.stringify({ listen: { port: 0 }, auth: { tokens: people }, files: { dir: join(dir, 'files') }, heavy: { cooldownMs: 0 } })], { ipc: true })
  const { port, url } = JSON.parse(await child.says(/^ready (.*)$/m)) as { port: number; url: string }
  return {
    child,
    tokens,
    app: { url: `http://127.0.0.1:${port}` },
    at: { url },
    async close() {
      await child.close()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

/** A browser without a past, at an address. */
export async function openPage(t: TestContext, url = shared.at.url, options: Parameters<Browser['newContext']>[0] = {}): Promise<Window> {
  const context = await browser.newContext({ viewport: { width: 1_000, height: 800 }, ...options })
  t.after(() => context.close())
  const page = await context.newPage()
  page.setDefaultTimeout(30_000)
  const [complaints, requests]: [string[], Request[]] = [[], []]
  page.on('console', message => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(`${message.text()} ${message.location().url}`)
  })
  page.on('pageerror', error => complaints.push(String(error.stack)))
  page.on('dialog', dialog => {
    complaints.push(`dialog: ${dialog.message()}`)
    void dialog.dismiss()
  })
  page.on('request', request => requests.push(request))
  await page.goto(url)
  return { page, complaints, requests }
}

/** With the keyboard. */
export async function logIn(page: Page, token: string): Promise<void> {
  await page.keyboard.insertText(token)
  await page.keyboard.press('Enter')
}

/** The shared service's page with somebody logged in. */
export async function enter(t: TestContext, token = shared.tokens.ann, url = shared.at.url): Promise<Window> {
  const window = await openPage(t, url)
  await logIn(window.page, token)
  await text(window.page, 'badge', /^(?:in|out of) rotation$/)
  return window
}

/** For what Playwright sets no limit to. */
export async function inTime<T>(what: Promise<T> | undefined, name: string, ms = 30_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${name}: not within ${ms} ms`)), ms)
  })
  return Promise.race([what as Promise<T>, late]).finally(() => clearTimeout(timer))
}

export async function until<T>(what: () => Promise<T>, is: (value: T) => boolean, ms = 30_000): Promise<T> {
  const end = performance.now() + ms
  for (;;) {
    const value = await inTime(what(), 'the page')
    if (is(value)) return value
    if (performance.now() > end) assert.fail(`it never became as wished: ${JSON.stringify(value)}`)
    await sleep(50)
  }
}

/** The text of an element that is shown, once it is as wished. */
export const text = (page: Page, id: string, pattern: RegExp, ms?: number): Promise<string> =>
  until(() => page.evaluate<string>(`(e => e.checkVisibility() ? e.innerText : '(hidden)')(document.getElementById('${id}'))`), found => pattern.test(found), ms)

/** Which element the keyboard is at. */
export const focused = (page: Page): Promise<string> => page.evaluate<string>('document.activeElement.id || document.activeElement.textContent')

/** By the keyboard, as far as it takes. */
export async function tabTo(page: Page, id: string): Promise<void> {
  for (let i = 0; i < 60; i++) {
    if (await focused(page) === id) return
    await page.keyboard.press('Tab')
  }
  assert.fail(`no way to ${id} by Tab`)
}

/** WCAG 2.2, 1.4.3. */
export async function contrast(page: Page, ink: string, ground: string): Promise<number> {
  const colours = await page.evaluate<string[]>(`(() => {
    const probe = document.body.appendChild(document.createElement('p'))
    probe.style.color = 'var(--${ink})'
    probe.style.backgroundColor = 'var(--${ground})'
    const { color, backgroundColor } = getComputedStyle(probe)
    probe.remove()
    return [color, backgroundColor]
  })()`)
  const [a, b] = colours.map(colour => {
    const [red, green, blue] = (colour.match(/[\d.]+/g) ?? []).map(part => {
      const value = Number(part) / 255
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
    }) as [number, number, number]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }) as [number, number]
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
}
