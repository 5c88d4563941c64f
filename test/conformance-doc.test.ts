import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import net from 'node:net'
import { test } from 'node:test'
import { conformanceDoc, transports, type Conformance, type Transport } from '../bench/_conformance-doc.ts'
import { Child } from './_child.ts'
import { Client } from './_client.ts'
import { verdict, type Failure } from './_matrix-events.ts'
import { ROWS } from './_matrix-rows.ts'
import { peerWorld } from './_peer-world.ts'
import { assertCloses, assertKeeps, assertLast } from './_scenario.ts'
import { createServer } from './_world.ts'

const read = (name: string) => readFileSync(new URL(`../${name}`, import.meta.url), 'utf8')
const data = JSON.parse(read('bench/results/conformance.json')) as Conformance
const libraries = Object.keys(data.libraries)
const numbers = Object.keys(ROWS).map(Number)

test('conformance: the page is that of bench/results', () => {
  assert.equal(read('docs/conformance.md'), conformanceDoc(data))
})

test('conformance: each number of the list is a row of the page, or says why it is not', () => {
  assert.deepEqual(numbers, Array.from({ length: 46 }, (_, i) => i + 1))
  const files = readdirSync(new URL('.', import.meta.url))
  for (const number of numbers) {
    const { title, elsewhere } = ROWS[number] ?? {}
    const isRow = read('docs/conformance.md').includes(`\n| **${number}. ${title}** |`)
    assert.notEqual(isRow, elsewhere !== undefined, `${number}. ${title}`)
    for (const [, name = '', title] of elsewhere?.matchAll(/test\/([\w*{},-]+\.test\.ts)(?:, "([^"]+)")?/g) ?? []) {
      const pattern = name.replaceAll('*', '.*').replace(/\{(.*)\}/, (_, list: string) => `(${list.replaceAll(',', '|')})`)
      assert.ok(files.some(file => new RegExp(`^${pattern}$`).test(file)), `${number} is tested elsewhere: there is no test/${name}`)
      if (title !== undefined) assert.match(read(`test/${name}`), new RegExp(`\\btest\\(['\`]${title}`), `${number} is tested elsewhere, and not in test/${name}`)
    }
    for (const [, name] of elsewhere?.matchAll(/npm run bench -- (\w+)/g) ?? []) assert.ok(existsSync(new URL(`../bench/${name}.ts`, import.meta.url)), `${number}: bench ${name}`)
  }
})

/** The scenarios of the suite as it is now, each with its row. */
async function suite(over: Transport): Promise<unknown> {
  const child = new Child('../_matrix.ts', [], { ipc: true, env: { LAMEDUCK_PEER: 'lameduck', LAMEDUCK_OVER: over } })
  try {
    return await new Promise((resolve, reject) => {
      // It goes on to run them: nobody waits for that.
      child.process.once('message', resolve)
      void child.exited.then(() => reject(new Error(`the suite did not begin:\n${child.stderr}`)))
    })
  } finally {
    await child.close()
  }
}

for (const over of transports) {
  test(`conformance: the results over ${over} are those of the suite as it is now, each under its number of the list`, async () => {
    const rows = data.scenarios.filter(scenario => scenario.over === over).map(({ name, row }) => [name, row ?? null])
    assert.deepEqual({ rows }, await suite(over))
  })
}

test('conformance: every library has a result for every scenario on every version of Node', () => {
  assert.deepEqual(Object.keys(data.runs), ['20', '22', '24', '26'])
  for (const over of transports) {
    const scenarios = data.scenarios.filter(scenario => scenario.over === over)
    assert.ok(scenarios.length > 0)
    for (const { name, results } of scenarios) {
      assert.deepEqual(Object.keys(results).sort(), [...libraries].sort(), name)
      for (const library of libraries) assert.deepEqual(Object.keys(results[library] ?? {}), Object.keys(data.runs), `${over}, ${library}: ${name}`)
    }
  }
})

test('conformance: every word of the tables is explained', () => {
  const [, words = ''] = /## The words\n([^]*?)\n## /.exec(read('docs/conformance.md')) ?? []
  const used = new Set(data.scenarios.flatMap(({ results }) => Object.values(results).flatMap(verdicts => Object.values(verdicts))))
  for (const word of used) assert.ok(word === 'ok' || /^\d{3}$/.test(word) || words.includes(`\n| ${word} |`), word)
})

/** What a client that asks once says of a server that does this with the socket. */
async function judge(act: (socket: net.Socket) => void, look: (client: Client) => Promise<unknown>): Promise<string> {
  const server = net.createServer(socket => socket.on('error', () => {}).once('data', () => act(socket)))
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { address, port } = server.address() as net.AddressInfo
  const client = await Client.open({ host: address, port })
  client.request('/')
  try {
    await look(client)
    return 'ok'
  } catch (error) {
    return verdict(error as Failure)
  } finally {
    client.destroy()
    await new Promise(resolve => server.close(resolve))
  }
}

test('conformance: what an assertion of the suite says becomes the right word', async () => {
  const head = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n'
  const words = await Promise.all([
    judge(socket => socket.end(), client => client.answer()),
    judge(socket => socket.resetAndDestroy(), client => client.answer()),
    judge(() => {}, client => client.answer(50)),
    judge(() => {}, client => client.ended(50)),
    judge(socket => socket.write(`${head}\r\n`), async client => assertCloses(await client.answer())),
    judge(socket => socket.write(`${head}Connection: close\r\n\r\n`), async client => assertKeeps(await client.answer())),
    judge(socket => socket.write(head.replace('200', '503') + '\r\n'), client => assertLast(client)),
    judge(socket => socket.resetAndDestroy(), async client => assert.equal(await client.ended(), 'fin')),
    judge(socket => socket.end(`${head}Connection: close\r\n\r\n`), client => assertLast(client)),
  ])
  assert.deepEqual(words, ['lost', 'RST', 'hang', 'stays open', 'no close', 'early close', '503', 'RST', 'ok'])
})

for (const library of libraries) {
  if (library === 'lameduck') continue
  test(`conformance: ${library} is drained by a call, without a signal and without the end of the process`, async () => {
    const listeners = () => process.eventNames().map(event => [event, process.listenerCount(event as 'SIGTERM')])
    const before = listeners()
    const site = await peerWorld(library as Parameters<typeof peerWorld>[0], 'http').start(() => ({ body: 'hello' }))
    try {
      assert.deepEqual(listeners(), before)
      const client = await Client.open(site.address)
      client.request('/', { headers: { Connection: 'close' } })
      assert.equal((await client.answer()).text, 'hello')
      await client.ended()
      await site.drain()
      assert.equal(site.server.listening, false)
      // The port is free again.
      const { host = '', port = 0 } = site.address
      const next = createServer(false)
      await new Promise<void>((resolve, reject) => next.once('error', reject).listen(port, host, resolve))
      await new Promise(resolve => next.close(resolve))
    } finally {
      await site.close()
    }
  })
}
