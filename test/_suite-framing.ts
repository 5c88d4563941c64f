import assert from 'node:assert/strict'
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { assertCloses, assertLast, scenario } from './_scenario.ts'
import type { Feature, Handler, World } from './_world.ts'

type Send = (res: ServerResponse) => void

/** The ways in which an application may set the head of its response. All ask for keep-alive, and send "hello". */
const heads: Record<string, Send> = {
  setHeader: res => {
    res.setHeader('Connection', 'keep-alive')
    res.end('hello')
  },
  'setHeader in lower case and an array': res => {
    res.setHeader('connection', ['keep-alive'])
    res.setHeader('keep-alive', 'timeout=5')
    res.end('hello')
  },
  appendHeader: res => {
    res.appendHeader('Connection', 'keep-alive')
    res.end('hello')
  },
  'writeHead, object': res => {
    res.writeHead(200, { CONNECTION: 'keep-alive', 'X-A': '1' }).end('hello')
  },
  'writeHead, status message and object': res => {
    res.writeHead(200, 'Fine', { connection: 'keep-alive', 'X-A': '1' }).end('hello')
  },
  'writeHead, flat array': res => {
    res.writeHead(200, ['X-A', '1', 'Connection', 'keep-alive', 'X-B', '2']).end('hello')
  },
  'writeHead, flat array after setHeader': res => {
    res.setHeader('X-Set', '1')
    res.writeHead(200, ['Connection', 'keep-alive', 'X-A', '1']).end('hello')
  },
  'writeHead, an even number of pairs': res => {
    res.writeHead(200, [['X-A', '1'], ['Connection', 'keep-alive']] as unknown as OutgoingHttpHeaders).end('hello')
  },
  'writeHead, an odd number of pairs': res => {
    res.writeHead(200, [['X-A', '1'], ['Connection', 'keep-alive'], ['X-B', '2']] as unknown as OutgoingHttpHeaders)
    res.end('hello')
  },
  'writeHead without headers': res => {
    res.setHeader('Connection', 'Keep-Alive')
    res.writeHead(200)
    res.end('hello')
  },
  flushHeaders: res => {
    res.setHeader('Connection', 'keep-alive')
    res.flushHeaders()
    res.end('hello')
  },
  'an implicit head by write()': res => {
    res.setHeader('Connection', 'keep-alive')
    res.write('hel')
    res.end('lo')
  },
  'a 103 first': res => {
    res.writeEarlyHints({ link: '</a.css>; rel=preload' })
    res.setHeader('Connection', 'keep-alive')
    res.end('hello')
  },
  'a 102 first': res => {
    res.writeProcessing()
    res.writeHead(200, { Connection: 'keep-alive' })
    res.end('hello')
  },
}

/** The same response with and without a drain differs in its connection headers only. */
const withoutConnection = (lines: [string, string][]) =>
  lines.filter(([name]) => !/^(connection|keep-alive|date)$/i.test(name)).map(line => line.join(': '))

/** What the last response on a connection looks like. */
export function framing(world: World): void {
  scenario(world, 'HEAD in flight: no body, its length, close', { row: 20 }, async s => {
    const client = await s.warm()
    client.request('/slow?ms=60', { method: 'HEAD' })
    await s.executing()
    void s.drain()
    const answer = await assertLast(client)
    assert.equal(answer.body.length, 0)
    assert.equal(client.answers.length, 2)
  })

  for (const code of [204, 304]) {
    scenario(world, `${code} in the drain: no body, close`, { row: 20 }, async s => {
      const client = await s.warm()
      client.request(`/status?code=${code}`)
      void s.drain()
      const answer = await assertLast(client, code)
      assert.equal(answer.header('transfer-encoding'), undefined)
    })
  }

  scenario(world, 'HTTP/1.0 is answered and closed', { row: 21 }, async s => {
    const client = await s.open()
    client.request('/slow?ms=60', { version: '1.0' })
    await s.executing()
    void s.drain()
    const answer = await client.answer()
    assert.equal(answer.text, 'slow')
    assert.equal(await client.ended(), 'fin')
  })

  scenario(world, 'HTTP/1.0 with keep-alive is answered with close', { row: 21 }, async s => {
    const client = await s.open()
    client.request('/length', { version: '1.0', headers: { Connection: 'keep-alive' } })
    assert.match((await client.answer()).header('connection') ?? '', /keep-alive/i)
    client.request('/length', { version: '1.0', headers: { Connection: 'keep-alive' } })
    void s.drain()
    assert.equal((await assertLast(client)).text, 'hello')
  })

  scenario(world, 'a client that asks for close itself gets one close', {}, async s => {
    const client = await s.warm()
    client.request('/', { headers: { Connection: 'close' } })
    void s.drain()
    await assertLast(client)
  })

  scenario(world, 'keep-alive set by the application gives way to one close', { row: 22 }, async s => {
    const client = await s.warm()
    client.request('/header')
    void s.drain()
    const answer = await assertLast(client)
    assert.equal(answer.header('keep-alive'), undefined)
  })

  for (const [name, send] of Object.entries(heads)) {
    const app: Handler = x => {
      if (x.path !== '/raw') return { body: 'hello' }
      send(x.res)
      return 'raw'
    }
    const needs: Feature[] = name.includes('pairs') ? ['pairs'] : []
    scenario(world, `one close, all else as the application wrote it: ${name}`, { row: 22, app, needs }, async s => {
      const client = await s.open()
      client.request('/raw')
      const before = await client.answer()
      client.request('/raw')
      void s.drain()
      const answer = await client.answer()
      assertCloses(answer)
      assert.equal(answer.text, 'hello')
      assert.deepEqual(withoutConnection(answer.lines), withoutConnection(before.lines))
      assert.equal(await client.ended(), 'fin')
    })
  }
}
