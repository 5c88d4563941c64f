import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { rollingRestart } from '../bench/_proxy-rolling.ts'
import { variants } from '../bench/_proxy-variants.ts'
import { clean, lacks, losesHardlyAPost, startExample } from './_proxy-world.ts'

const skip = lacks('nginx')

/** The pid in an answer of the example's app. */
const pidOf = (text: string) => Number(/from (\d+)/.exec(text)?.[1])

test('behind nginx three restarts of lone processes fail no GET, hardly a POST, and execute none that fails', { skip }, async t => {
  await losesHardlyAPost(await startExample(t, 'nginx'), 3)
})

test('behind nginx three restarts of lone processes on unix sockets fail nothing', { skip }, async t => {
  const variant = variants.nginx['lameduck, unix sockets'] ?? assert.fail('no such variant')
  const { upstream, port, proxy } = await startExample(t, 'nginx', variant)
  const { get, post, restarts } = await rollingRestart({ port, upstream, restarts: 3, paceMs: 500 })
  assert.ok(clean(restarts), upstream.output())
  assert.ok(post.ok > 300, `the load proves nothing: ${post.ok} POSTs`)
  const { failed, executed, twice } = post
  assert.deepEqual({ get: get.failed, failed, executed, twice }, { get: 0, failed: 0, executed: 0, twice: 0 }, proxy.output())
})

test("restarts without a pause never take both upstreams out, which nginx's defaults for max_fails and fail_timeout do", { skip }, async t => {
  const restart = async (name: string) => {
    const { upstream, port, proxy } = await startExample(t, 'nginx', variants.nginx[name])
    await rollingRestart({ port, upstream, restarts: 2, paceMs: 50 })
    return /no live upstreams/.test(proxy.output())
  }
  assert.equal(await restart('lameduck (the example)'), false)
  // The proof that this test can fail.
  assert.equal(await restart('lameduck, max_fails=1 fail_timeout=10s'), true)
})

test('a WebSocket behind nginx is closed with 1001 by a restart, and its client is served by the other instance at once', { skip }, async t => {
  const { upstream, port } = await startExample(t, 'nginx')
  const open = async () => {
    const client = new WebSocket(`ws://127.0.0.1:${port}/ws`)
    t.after(() => client.terminate())
    const [message] = await once(client, 'message') as [Buffer]
    return { client, pid: pidOf(message.toString()) }
  }
  // Round robin: one on each instance.
  const clients = [await open(), await open()]
  assert.equal(new Set(clients.map(({ pid }) => pid)).size, 2)
  const closes = clients.map(async ({ client, pid }) => ({ pid, code: (await once(client, 'close'))[0] as number, again: (await open()).pid }))
  const restarted = upstream.restart(0)
  const { pid, code, again } = await Promise.race(closes)
  assert.equal(code, 1001)
  assert.equal(again, clients.find(client => client.pid !== pid)?.pid)
  assert.equal((await restarted).code, 0)
  await upstream.restart(1)
  assert.equal((await Promise.all(closes))[1]?.code, 1001)
})

test('an event stream behind nginx comes unbuffered, ends cleanly by a restart, and begins again on the other instance', { skip }, async t => {
  const { upstream, port } = await startExample(t, 'nginx')
  const open = async () => {
    const [res] = await once(http.get({ host: '127.0.0.1', port, path: '/events', agent: false }), 'response') as [http.IncomingMessage]
    t.after(() => res.destroy())
    const [first] = await once(res.setEncoding('utf8'), 'data') as [string]
    return { res, pid: pidOf(first) }
  }
  // One who comes back at once, and not after seconds as an EventSource does, may still find the listener, and is sent away again.
  const openElsewhere = async (pid: number): Promise<number> => {
    const stream = await open()
    if (stream.pid !== pid) return stream.pid
    if (!stream.res.readableEnded) await once(stream.res, 'end')
    return await openElsewhere(pid)
  }
  const streams = [await open(), await open()]
  assert.equal(new Set(streams.map(({ pid }) => pid)).size, 2)
  const ends = streams.map(async ({ res, pid }) => {
    await once(res, 'end')
    return { pid, complete: res.complete, again: await openElsewhere(pid) }
  })
  const restarted = upstream.restart(0)
  const { pid, complete, again } = await Promise.race(ends)
  assert.equal(complete, true)
  assert.equal(again, streams.find(stream => stream.pid !== pid)?.pid)
  assert.equal((await restarted).code, 0)
  for (const { res } of streams) res.destroy()
})
