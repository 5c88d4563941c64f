import assert from 'node:assert/strict'
import { createWriteStream } from 'node:fs'
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { finished } from 'node:stream/promises'
import { keptName, Names, USE } from '../src/ops/heap/names.ts'
import { redact, type Redacted } from '../src/ops/heap/redact.ts'
import { FormatError } from '../src/ops/heap/snapshot-file.ts'
import { Child } from './_child.ts'
import { HeapSnapshot } from './_heap-snapshot.ts'

let folder = ''
let secrets: string[] = []
let raw: HeapSnapshot
let blank: HeapSnapshot
let result: Redacted
let [rawText, blankText] = ['', '']

async function redactFile(from: string, to: string): Promise<Redacted> {
  const file = await open(from)
  const stream = createWriteStream(to)
  try {
    return await redact(file, bytes => new Promise((resolve, reject) => {
      stream.write(bytes, error => (error ? reject(error) : resolve()))
    }))
  } finally {
    stream.end()
    await finished(stream)
    await file.close()
  }
}

before(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'lameduck-redact-'))
  const [snapshot, list, out] = ['raw', 'list', 'blank'].map(name => path.join(folder, name)) as [string, string, string]
  const child = new Child('ops-heap-secrets.ts', [snapshot, list])
  await child.says(/written/)
  await child.exited
  secrets = JSON.parse(await readFile(list, 'utf8')) as string[]
  result = await redactFile(snapshot, out)
  rawText = await readFile(snapshot, 'utf8')
  blankText = await readFile(out, 'utf8')
  raw = new HeapSnapshot(rawText)
  blank = new HeapSnapshot(blankText)
})

after(() => rm(folder, { recursive: true, force: true }))

test('of 1,000 secrets in values, keys, closures, errors, symbols, sources and names none is left in a redacted file', () => {
  assert.ok(secrets.length >= 1_000)
  assert.equal(new Set(secrets).size, secrets.length)
  const [before, after] = [raw.raw.strings.join('\n'), blank.raw.strings.join('\n')]
  // V8 keeps some in pieces; nearly all must be in the raw file, or this test proves nothing.
  const there = secrets.filter(secret => before.includes(secret))
  assert.ok(there.length > 0.9 * secrets.length, `${there.length} of ${secrets.length} are in the raw file`)
  assert.deepEqual(secrets.filter(secret => after.includes(secret) || blankText.includes(secret)), [])
  // Nor a part of one that has parts.
  const parts = secrets.flatMap(secret => secret.split(/[^A-Za-z0-9]+/)).filter(part => part.length >= 7)
  assert.deepEqual(parts.filter(part => blankText.includes(part)), [])
})

test('the nodes, the edges and every number of a redacted file are what they were, byte by byte', () => {
  const end = rawText.indexOf('"strings":[')
  assert.ok(end > 0)
  assert.ok(blankText.startsWith(rawText.slice(0, end)))
  assert.equal(blank.raw.strings.length, raw.raw.strings.length)
  assert.equal(result.strings, raw.raw.strings.length)
  assert.equal(result.blanked, raw.raw.strings.filter((text, at) => blank.raw.strings[at] !== text && blank.raw.strings[at] === `*${at}`).length)
})

test('a redacted file is whole: every edge leads to a node, every name to a string', () => {
  assert.deepEqual(raw.faults(), [])
  assert.deepEqual(blank.faults(), [])
})

test('constructor names and the names on a retaining path stay in a redacted file', () => {
  const find = (snapshot: HeapSnapshot) => {
    const context = snapshot.follow(snapshot.find('synthetic', '(GC roots)'))
    assert.ok(context)
    for (let index = 0; index < snapshot.raw.snapshot.node_count; index++) {
      const found = snapshot.follow(snapshot.node(index), 'ledgerRegistry', 'mainLedger')
      if (found) return { ledger: found, invoices: snapshot.follow(found, 'openInvoices'), notes: snapshot.follow(found, 'ownerNotes') }
    }
    return undefined
  }
  const [before, after] = [find(raw), find(blank)]
  assert.ok(before)
  assert.deepEqual(after, before)
  assert.equal(after?.ledger.name, 'InvoiceLedger')
  assert.equal(after?.invoices?.name, 'Map')
})

test('a redacted file keeps nearly all property names that code gave, and the names of all classes and functions', () => {
  const names = (snapshot: HeapSnapshot) => {
    const [properties, constructors]: [string[], string[]] = [[], []]
    for (let index = 0; index < snapshot.raw.snapshot.node_count; index++) {
      const { type, name } = snapshot.node(index)
      if (type === 'object') constructors.push(name)
      for (const edge of snapshot.edges(index)) if (edge.type === 'property') properties.push(String(edge.name))
    }
    return { properties, constructors }
  }
  const [before, after] = [names(raw), names(blank)]
  const kept = after.properties.filter(name => !/^\*\d+$/.test(name)).length
  assert.ok(kept > 0.6 * before.properties.length, `${kept} of ${before.properties.length} property names`)
  const lost = new Set(before.constructors.filter((name, at) => after.constructors[at] !== name))
  assert.deepEqual([...lost].filter(name => !secrets.includes(name)), [])
})

test('a key that came in as data goes although it looks like an identifier, one that code mentions stays', () => {
  const known = new Names()
  known.add('statusCode')
  assert.equal(keptName('statusCode', USE.property, known), 'statusCode')
  assert.equal(keptName('get statusCode', USE.property, known), 'get statusCode')
  assert.equal(keptName('<symbol statusCode>', USE.property, known), '<symbol statusCode>')
  assert.equal(keptName('<symbol Symbol.iterator>', USE.property, known), '<symbol Symbol.iterator>')
  assert.equal(keptName('hunter', USE.property, known), undefined)
  assert.equal(keptName('<symbol hunter>', USE.property, known), undefined)
  assert.equal(keptName('hunter', USE.object, known), undefined)
  assert.equal(keptName('statusCode', 0, known), undefined)
})

test('a token or a long number goes even where code mentions it', () => {
  const known = new Names()
  for (const name of ['tok_1234567890', 'a1b2c3d4e5f6', 'x'.repeat(70)]) {
    known.add(name)
    assert.equal(keptName(name, USE.property, known), undefined)
  }
})

test('what a WeakMap holds does not stay in the name of its edge, whose form stays for DevTools', () => {
  const text = '12 / part of key (Object @6189) -> value (hunter @ 2 -> value (x @54021) pair in WeakMap (table @54015)'
  const kept = keptName(text, USE.internal, new Names())
  assert.equal(kept, '12 / part of key (* @6189) -> value (* @54021) pair in WeakMap (table @54015)')
})

test('100,000 names are found again, and no others', () => {
  const names = new Names()
  for (let at = 0; at < 100_000; at++) names.add(`name${at}`)
  for (let at = 0; at < 100_000; at += 97) assert.ok(names.has(`name${at}`))
  for (let at = 0; at < 1_000; at++) assert.ok(!names.has(`other${at}`))
})

for (const [what, make] of [
  ['that is cut off', (text: string) => text.slice(0, text.length / 2)],
  ['without strings', (text: string) => text.slice(0, text.indexOf('"strings":['))],
  ['of no form that is known', () => '{"snapshot":{"meta":{"node_fields":["name"],"node_types":[[]],"edge_fields":[],"edge_types":[[]]}},"nodes":[],"edges":[],"strings":[]}'],
  ['that is empty', () => ''],
] as const) {
  test(`a file ${what} is refused, not half redacted`, async () => {
    const file = path.join(folder, 'broken')
    await writeFile(file, make(rawText))
    await assert.rejects(redactFile(file, path.join(folder, 'broken.out')), FormatError)
  })
}
