// The services of examples/frameworks, as they stand there.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { WebSocket } from 'ws'
import { Client } from './_client.ts'
import { fromSource, root, startFile } from './_snippets.ts'

const examples = join(root, 'examples/frameworks')

// Inside the repository, so that `import 'express'` finds the package.
const copies = mkdtempSync(join(root, 'node_modules', '.examples-'))
after(() => rmSync(copies, { recursive: true, force: true }))
const names = readdirSync(examples).filter(name => name.endsWith('.mjs'))
for (const name of names) writeFileSync(join(copies, name), fromSource(readFileSync(join(examples, name), 'utf8')))

/** Starts one, and leaves nothing of it. */
async function service(name: string, run: (port: number, stop: () => Promise<string>) => Promise<void>): Promise<void> {
  const { child, exit, output } = startFile(join(copies, name))
  try {
    const port = await Promise.race([once(child, 'message').then(([{ port }]) => port as number), exit.then(() => 0)])
    assert.ok(port > 0, output())
    await run(port, async () => {
      child.kill('SIGTERM')
      const { code, signal } = await exit
      assert.deepEqual({ code, signal }, { code: 0, signal: null }, output())
      return output()
    })
  } finally {
    child.kill('SIGKILL')
    await exit
  }
}

const services = names.filter(name => name !== 'database.mjs')

for (const name of services) {
  test(`examples/frameworks/${name}: orders under way at SIGTERM are answered, the database is closed after them, exit code 0`, () => service(name, async (port, stop) => {
    const address = { host: '127.0.0.1', port }
    const clients = await Promise.all(Array.from({ length: 5 }, () => Client.open(address)))
    try {
      for (const client of clients) {
        client.request('/readyz')
        assert.deepEqual(JSON.parse((await client.answer()).text), { status: 'ok', state: 'running', checks: { database: 'ok' } })
        client.request('/')
        assert.equal((await client.answer()).text, 'hello\n')
      }
      for (const client of clients) client.request('/orders', { method: 'POST', body: '{"item":1}', headers: { 'Content-Type': 'application/json' } })
      await Promise.all(clients.map(client => client.flushed()))
      const stopped = stop()
      const answers = await Promise.all(clients.map(client => client.answer()))
      assert.deepEqual(answers.map(({ status }) => status), [201, 201, 201, 201, 201])
      assert.deepEqual(answers.map(({ text }) => text).sort(), [1, 2, 3, 4, 5].map(number => `order ${number}\n`))
      const output = await stopped
      assert.match(output, /database: closed with 5 orders\n/)
      assert.match(output, /lameduck: drained in .*served 5,/)
    } finally {
      for (const client of clients) client.destroy()
    }
  }))
}

test('examples/frameworks/raw.mjs: a long poll ends as the drain begins', () => service('raw.mjs', async (port, stop) => {
  const poll = fetch(`http://127.0.0.1:${port}/news`)
  // It is there before the signal: behind it another one has been answered.
  await (await fetch(`http://127.0.0.1:${port}/`)).text()
  await stop()
  assert.equal(await (await poll).text(), 'ask again\n')
}))

test('examples/frameworks/ws.mjs: an order by WebSocket is answered, and each client is sent 1001', () => service('ws.mjs', async (port, stop) => {
  const client = new WebSocket(`ws://127.0.0.1:${port}/orders`)
  await once(client, 'open')
  const closed = once(client, 'close')
  client.send('tea')
  const [answer] = await once(client, 'message')
  assert.equal(String(answer), 'order 1')
  await stop()
  assert.equal((await closed)[0], 1001)
}))

test('examples/frameworks/README.md names each of them', () => {
  const text = readFileSync(join(examples, 'README.md'), 'utf8')
  assert.deepEqual(new Set([...text.matchAll(/^\| \[(.*?)\]/gm)].map(([, name]) => name)), new Set(services))
})
