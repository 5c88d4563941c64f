/** DevTools' own parser, as Chromium carries it: raw and redacted snapshots are fed to it, in a page of the DevTools front end. */
import assert from 'node:assert/strict'
import { createWriteStream, existsSync } from 'node:fs'
import fs from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { finished } from 'node:stream/promises'
import { after, before, test } from 'node:test'
import { chromium, type Browser, type Page } from 'playwright-core'
import { redact } from '../src/ops/heap/redact.ts'
import { Child } from './_child.ts'

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium'
const skip = existsSync(CHROMIUM) ? false : 'there is no Chromium here'

interface View {
  totalSize: number
  statistics: unknown
  classes: string[]
  /** From an InvoiceLedger up: names of edges and of what holds them. */
  path: string[]
}

let folder = ''
let browser: Browser | undefined
const views: Record<string, View> = {}
let secrets: string[] = []

/** Runs in the page. What it calls are the front end's own modules. */
async function parse(): Promise<View> {
  interface Serialized { items: { name: string; nodeIndex?: number; node?: { name: string; nodeIndex: number } }[] }
  interface Provider { serializeItemsRange(from: number, to: number): Serialized }
  interface Snapshot {
    totalSize: number
    getStatistics(): unknown
    aggregatesWithFilter(filter: object): Record<string, { name: string; count: number }>
    createNodesProviderForClass(key: string, filter: object): Provider
    createRetainingEdgesProvider(node: number): Provider
  }
  const module = 'devtools://devtools/bundled/entrypoints/heap_snapshot_worker/heap_snapshot_worker.js'
  const { HeapSnapshotLoader: loaders, HeapSnapshot: snapshots } = await import(module) as {
    HeapSnapshotLoader: { HeapSnapshotLoader: new (dispatcher: object) => { write(text: string): Promise<void>; close(): Promise<void>; buildSnapshot(port: unknown): Promise<Snapshot> } }
    HeapSnapshot: { SecondaryInitManager: new (port: unknown) => object }
  }
  const loader = new loaders.HeapSnapshotLoader({ sendEvent() {} })
  const read = (globalThis as unknown as { readPart(at: number): Promise<string> }).readPart
  for (let at = 0; ;) {
    const text = await read(at)
    if (text === '') break
    at += text.length
    await loader.write(text)
  }
  await loader.close()
  const { port1, port2 } = new MessageChannel()
  const second = new snapshots.SecondaryInitManager(port2)
  const snapshot = await loader.buildSnapshot(port1)
  const aggregates = snapshot.aggregatesWithFilter({})
  const key = Object.keys(aggregates).find(key => aggregates[key]?.name === 'InvoiceLedger') ?? ''
  const up = ['(none)']
  // The planted one is held by a property; the others lie in an array.
  const all = key === '' ? [] : snapshot.createNodesProviderForClass(key, {}).serializeItemsRange(0, 100).items
  for (const { nodeIndex = -1 } of all) {
    const holders = snapshot.createRetainingEdgesProvider(nodeIndex).serializeItemsRange(0, 20).items
    const main = holders.find(({ name }) => name === 'mainLedger')
    if (!main?.node) continue
    const registry = snapshot.createRetainingEdgesProvider(main.node.nodeIndex).serializeItemsRange(0, 20).items
    up.splice(0, 1, main.name, main.node.name, ...registry.map(({ name }) => name).filter(name => name === 'ledgerRegistry').slice(0, 1))
    break
  }
  const classes = Object.values(aggregates).map(({ name, count }) => `${name} × ${count}`).sort()
  return { totalSize: snapshot.totalSize, statistics: snapshot.getStatistics(), classes: second ? classes : [], path: up }
}

async function view(file: string): Promise<View> {
  const page: Page = await (browser as Browser).newPage()
  const handle = await fs.open(file)
  try {
    await page.exposeFunction('readPart', async (at: number) => {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(2 ** 20), 0, 2 ** 20, at)
      return buffer.subarray(0, bytesRead).toString('latin1')
    })
    await page.goto('devtools://devtools/bundled/js_app.html')
    // tsx names functions by a helper that the page does not have.
    await page.evaluate('globalThis.__name = target => target')
    return await page.evaluate(parse)
  } finally {
    await handle.close()
    await page.close()
  }
}

before(async () => {
  if (skip) return
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'lameduck-devtools-'))
  const [raw, blank, list] = ['raw', 'redacted', 'list'].map(name => path.join(folder, name)) as [string, string, string]
  const child = new Child('ops-heap-secrets.ts', [raw, list])
  await child.says(/written/)
  await child.exited
  secrets = JSON.parse(await fs.readFile(list, 'utf8')) as string[]
  const file = await fs.open(raw)
  const stream = createWriteStream(blank)
  await redact(file, bytes => new Promise((resolve, reject) => stream.write(bytes, error => (error ? reject(error) : resolve()))))
  stream.end()
  await finished(stream)
  await file.close()
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] })
  ;[views.raw, views.redacted] = await Promise.all([view(raw), view(blank)])
})

after(async () => {
  await browser?.close()
  if (folder) await fs.rm(folder, { recursive: true, force: true })
})

const of = (name: 'raw' | 'redacted') => views[name] ?? assert.fail(`no ${name} view`)

test('DevTools opens the raw snapshot and finds a class of the application and what holds it', { skip }, () => {
  assert.ok(of('raw').totalSize > 1_000_000)
  const [by, , from] = of('raw').path
  assert.deepEqual([by, from], ['mainLedger', 'ledgerRegistry'])
})

test('DevTools opens the redacted snapshot, with the same sizes and statistics', { skip }, () => {
  assert.equal(of('redacted').totalSize, of('raw').totalSize)
  assert.deepEqual(of('redacted').statistics, of('raw').statistics)
})

test('DevTools shows the same classes and the same retaining path in the redacted snapshot', { skip }, () => {
  assert.deepEqual(of('redacted').path, of('raw').path)
  const lost = of('raw').classes.filter(name => !of('redacted').classes.includes(name))
  // A secret that was made a class's name has gone, and plain objects that DevTools names by their keys have other names.
  const unexpected = lost.filter(name => !/^\{.*\} × \d+$/.test(name) && !name.startsWith('Object × ') && !secrets.some(secret => name.includes(secret)))
  assert.deepEqual(unexpected, [])
})
