import assert from 'node:assert/strict'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { PROBE } from '../src/cluster/probe.ts'
import { Responses } from '../src/cluster/responses.ts'

test('a readiness probe counts as no answer of the application, also when that has rewritten the path', async () => {
  const responses = new Responses(path => path === '/readyz')
  const server = http.createServer((req, res) => {
    // As Express does for what it hands to a mounted handler.
    req.url = '/'
    res.writeHead(503).end()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const ask = (headers: http.OutgoingHttpHeaders) => new Promise<void>((resolve, reject) => {
    http.get({ host: '127.0.0.1', port, path: '/readyz', headers, agent: false }, res => res.resume().once('close', resolve)).once('error', reject)
  })
  try {
    await ask({ [PROBE]: '1' })
    assert.deepEqual([responses.requests, responses.errors], [0, 0])
    await ask({})
    assert.deepEqual([responses.requests, responses.errors], [1, 1])
  } finally {
    server.close()
  }
})
