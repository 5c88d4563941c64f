// HEAD, on a server that Node is told to be strict for.
import assert from 'node:assert/strict'
import http from 'node:http'
import { after, test } from 'node:test'
import { wrap, type Options } from '../src/core/index.ts'
import { Client } from './_client.ts'
import { endLeftovers, leftover } from './_leftovers.ts'
import { addressOf, listen, QUICK } from './_world.ts'

after(endLeftovers)

async function strict(options: Options) {
  const server = http.createServer({ rejectNonStandardBodyWrites: true }, (_req, res) => void res.end())
  const faults: string[] = []
  const duck = wrap(server, { ...QUICK, lameduckMs: 0, ...options })
  duck.on('fault', ({ where }) => faults.push(where))
  leftover(() => void duck.abort('the tests are over'))
  await listen(server)
  return { duck, faults, client: await Client.open(addressOf(server)) }
}

test('HEAD for a health endpoint is answered where rejectNonStandardBodyWrites is set', async () => {
  const { client, faults } = await strict({ health: { checks: { database: () => false } } })
  for (const [path, status] of [['/livez', 200], ['/readyz', 503]] as const) {
    client.request(path, { method: 'HEAD' })
    const answer = await client.answer()
    assert.deepEqual([answer.status, answer.text, Number(answer.header('content-length')) > 0], [status, '', true])
  }
  assert.deepEqual(faults, [])
})

for (const [how, reject] of [['the default', undefined], ['a reject that throws', () => { throw new Error('no') }]] as const) {
  test(`HEAD that is rejected while draining gets its 503 where rejectNonStandardBodyWrites is set: ${how}`, async () => {
    const { duck, client, faults } = await strict({ admit: 'reject', quietMs: 1_000, ...(reject && { reject }) })
    client.request('/')
    assert.equal((await client.answer()).status, 200)
    const drained = duck.drain()
    client.request('/', { method: 'HEAD' })
    assert.equal((await client.answer()).status, 503)
    assert.equal((await drained).outcome, 'clean')
    assert.deepEqual(faults, reject ? ['reject'] : [])
  })
}

test('a 503 that somebody\'s patch makes impossible ends the connection, and not the drain at its deadline', async () => {
  const server = http.createServer((_req, res) => void res.end('hello'))
  const faults: string[] = []
  const duck = wrap(server, { ...QUICK, lameduckMs: 0, quietMs: 1_000, admit: 'reject' })
  duck.on('fault', ({ where }) => faults.push(where))
  await listen(server)
  const client = await Client.open(addressOf(server))
  client.request('/')
  await client.answer()
  const drained = duck.drain()
  const { writeHead } = http.ServerResponse.prototype
  http.ServerResponse.prototype.writeHead = () => {
    throw new Error('patched')
  }
  leftover(() => {
    http.ServerResponse.prototype.writeHead = writeHead
  })
  client.request('/')
  await client.ended()
  http.ServerResponse.prototype.writeHead = writeHead
  assert.notEqual((await drained).forcedBy, 'deadline')
  assert.deepEqual(faults, ['reject', 'reject'])
})
