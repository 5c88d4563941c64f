import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { rollingRestart } from '../bench/_proxy-rolling.ts'
import type { Proxy } from '../bench/_proxy-start.ts'
import { clean, lacks, startExample } from './_proxy-world.ts'

const skip = lacks('haproxy')

interface Answer {
  status: number | undefined
  pid: number
  cookie: string | undefined
}

/** One request on a connection of its own. */
async function ask(port: number, cookie?: string): Promise<Answer> {
  const req = http.request({ host: '127.0.0.1', port, method: 'POST', agent: false, headers: cookie === undefined ? {} : { cookie } })
  const [res] = await once(req.end(), 'response') as [http.IncomingMessage]
  let text = ''
  for await (const chunk of res.setEncoding('utf8')) text += chunk
  return { status: res.statusCode, pid: Number(/from (\d+)/.exec(text)?.[1]), cookie: res.headers['set-cookie']?.[0]?.split(';')[0] }
}

/** What HAProxy says of its servers, on its socket: such as `app/one: UP`. */
async function states({ folder }: Proxy): Promise<string[]> {
  const socket = net.connect(join(folder, 'haproxy.sock'))
  socket.end('show stat\n')
  let csv = ''
  for await (const chunk of socket.setEncoding('utf8')) csv += chunk
  const [head = '', ...rows] = csv.trim().split('\n').map(line => line.split(','))
  const column = (head as string[]).indexOf('status')
  return rows.filter(([, server = '']) => !server.endsWith('END')).map(row => `${row[0]}/${row[1]}: ${row[column]}`)
}

async function until(proxy: Proxy, state: string): Promise<void> {
  for (let i = 0; !(await states(proxy)).includes(state); i++) {
    if (i === 1_000) assert.fail(`never ${state}; now ${(await states(proxy)).join(', ')}`)
    await sleep(20)
  }
}

test('behind HAProxy three restarts fail nothing, GET or POST, and execute nothing twice', { skip }, async t => {
  const { upstream, port, proxy } = await startExample(t, 'haproxy')
  const { get, post, restarts } = await rollingRestart({ port, upstream, restarts: 3 })
  assert.ok(clean(restarts), upstream.output())
  assert.ok(post.ok > 300, `the load proves nothing: ${post.ok} POSTs`)
  // One may end early: when no connection is left and HAProxy's next check is late.
  assert.ok(restarts.some(({ drainMs }) => drainMs >= 2_000), 'a lame duck of 2 s')
  const { failed, executed, twice } = post
  assert.deepEqual({ get: get.failed, failed, executed, twice }, { get: 0, failed: 0, executed: 0, twice: 0 }, proxy.output())
})

test('a lame duck is DOWN for HAProxy long before its listener closes, and UP again when it is back', { skip }, async t => {
  const { upstream, proxy } = await startExample(t, 'haproxy')
  await until(proxy, 'app/one: UP')
  let gone = false
  const restarted = upstream.restart(0).finally(() => { gone = true })
  await until(proxy, 'app/one: DOWN')
  assert.equal(gone, false)
  assert.ok((await states(proxy)).includes('app/two: UP'))
  assert.equal((await restarted).code, 0)
  await until(proxy, 'app/one: UP')
})

test('with disable-on-404 a lame duck keeps the clients that have its cookie and gets no others, until it has gone', { skip }, async t => {
  const { upstream, proxy } = await startExample(t, 'haproxy')
  const sticky = proxy.ports[1] ?? Number.NaN
  const mine = await ask(sticky)
  assert.ok(mine.cookie, 'no cookie')
  const index = mine.cookie.endsWith('one') ? 0 : 1
  const name = `sessions/${['one', 'two'][index]}`

  const restarted = upstream.restart(index)
  await until(proxy, `${name}: NOLB`)
  // As a browser does: with the cookie, and without.
  const [stays, ...others] = await Promise.all([ask(sticky, mine.cookie), ask(sticky), ask(sticky), ask(sticky), ask(sticky)])
  assert.equal(stays.pid, mine.pid)
  assert.ok(others.every(({ pid, status }) => status === 200 && pid !== mine.pid), JSON.stringify(others))

  // Not once is a POST with the cookie of the one that goes away refused.
  let over = false
  void restarted.then(() => { over = true })
  const pids = new Set<number>()
  while (!over) {
    const { status, pid } = await ask(sticky, mine.cookie)
    assert.equal(status, 200)
    pids.add(pid)
  }
  assert.ok(pids.has(others[0]?.pid ?? 0), 'never redispatched')
  assert.equal((await restarted).code, 0)
})
