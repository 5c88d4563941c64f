// A connection on which somebody was authorised is trusted for as long as that is true, and no longer.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { leftover } from './_leftovers.ts'
import { folder, freshToken, openDoor, route, until, type DoorSetup, type DoorSite } from './_ops-door.ts'
import type { Scope } from '../src/ops/http/route.ts'

const read: Scope[] = ['read']
const routes = [route('/info', 'read'), route('/livez', null)]

/** A connection that is kept, and the statuses of its answers. */
async function keep(site: DoorSite) {
  const socket = net.connect(Number(new URL(site.url).port), '127.0.0.1').setEncoding('latin1').on('error', () => {})
  leftover(() => socket.destroy())
  await once(socket, 'connect')
  const statuses: number[] = []
  socket.on('data', (text: string) => statuses.push(...[...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status))))
  const send = (path: string, token?: string, times = 1) => socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n${token === undefined ? '' : `Authorization: Bearer ${token}\r\n`}\r\n`.repeat(times))
  const ask = async (path: string, token?: string) => {
    const before = statuses.length
    send(path, token)
    await until(`${path} is answered`, () => statuses.length > before || socket.destroyed)
    return statuses.at(-1)
  }
  return { socket, statuses, send, ask }
}

/** An endpoint that is full of connections on which somebody was authorised once, and which go on with probes. */
async function full(setup: DoorSetup, token: string) {
  const site = await openDoor({ routes, ...setup })
  const kept = await Promise.all(Array.from({ length: 16 }, () => keep(site)))
  for (const { ask } of kept) assert.equal(await ask('/info', token), 200)
  const beat = setInterval(() => {
    for (const { socket, send } of kept) if (!socket.destroyed) send('/livez')
  }, 200).unref()
  const close = async () => {
    clearInterval(beat)
    for (const { socket } of kept) socket.destroy()
    await site.close()
  }
  return { site, kept, close }
}

test('sixteen connections that were authorised once and only ask for probes keep nobody out who is authorised', async () => {
  const [ann, bob] = [freshToken(), freshToken()]
  const tokens = [{ name: 'ann', scopes: read, token: ann }, { name: 'bob', scopes: read, token: bob }]
  const { site, kept, close } = await full({ token: bob, options: { auth: { tokens } } }, ann)
  await sleep(500)
  for (let i = 0; i < 3; i++) assert.equal((await site.ask('/info')).status, 200)
  const newcomer = await keep(site)
  assert.equal(await newcomer.ask('/info', bob), 200)
  await until('the oldest gives way', () => kept.some(({ socket }) => socket.destroyed))
  assert.deepEqual([kept[15]?.socket.destroyed, newcomer.socket.destroyed], [false, false])
  newcomer.socket.destroy()
  await close()
})

test('strangers take no place of somebody who is authorised and has nothing to ask for at the moment', async () => {
  const token = freshToken()
  const { site, kept, close } = await full({ options: { auth: { tokens: [{ name: 'ann', scopes: read, token }] } } }, token)
  for (let i = 0; i < 3; i++) {
    const strangers = await Promise.all(Array.from({ length: 10 }, () => keep(site)))
    for (const { send } of strangers) send('/info', freshToken())
    await sleep(400)
    for (const { socket } of strangers) socket.destroy()
  }
  assert.deepEqual(kept.filter(({ socket }) => socket.destroyed).length, 0)
  await close()
})

test('connections of a token that was revoked are those of strangers', async () => {
  const [ann, bob] = [freshToken(), freshToken()]
  const file = join(folder(), 'token')
  writeFileSync(file, ann, { mode: 0o600 })
  const tokens = [{ name: 'ann', scopes: read, file }, { name: 'bob', scopes: read, token: bob }]
  const { site, kept, close } = await full({ token: bob, options: { auth: { tokens } } }, ann)
  writeFileSync(file, '')
  site.endpoint.reload()
  // One stranger is enough to take a place.
  const stranger = await keep(site)
  assert.equal(await stranger.ask('/livez'), 200)
  await until('one of them gives way', () => kept.some(({ socket }) => socket.destroyed))
  assert.equal((await site.ask('/info')).status, 200)
  stranger.socket.destroy()
  await close()
})

/** An endpoint whose application knows one token, and counts how often it is asked. */
async function asking(known: string) {
  const asked: string[] = []
  const site = await openDoor({
    routes,
    authorize: async ({ headers }) => {
      asked.push(headers.authorization ?? '')
      await sleep(1)
      return headers.authorization === `Bearer ${known}` ? { name: 'ann', scopes: read } : null
    },
    options: { auth: { authorize: () => null }, limits: { failures: { burst: 3, perSecond: 0.01 } } },
  })
  return { site, asked }
}

test('failures on a connection on which somebody was authorised are throttled like those of anybody', async () => {
  const known = freshToken()
  const { site, asked } = await asking(known)
  const { ask, socket } = await keep(site)
  assert.equal(await ask('/info', known), 200)
  const statuses: (number | undefined)[] = []
  for (let i = 0; i < 6; i++) statuses.push(await ask('/info', freshToken()))
  assert.deepEqual([statuses, asked.length], [[401, 401, 401, 429, 429, 429], 4])
  socket.destroy()
  await site.close()
})

test('tries that are sent at once on such a connection are throttled, too', async () => {
  const known = freshToken()
  const { site, asked } = await asking(known)
  const { ask, send, statuses, socket } = await keep(site)
  assert.equal(await ask('/info', known), 200)
  send('/info', freshToken(), 20)
  await until('all are answered', () => statuses.length === 21)
  assert.ok(asked.length <= 1 + 1 + 3, `${asked.length} times`)
  socket.destroy()
  await site.close()
})

test('whom the application let in is not throttled for what others did, until a reload', async () => {
  const known = freshToken()
  const { site, asked } = await asking(known)
  const { ask, socket } = await keep(site)
  assert.equal(await ask('/info', known), 200)
  for (let i = 0; i < 4; i++) await site.ask('/info', { token: freshToken() })
  assert.deepEqual([await ask('/info', known), await ask('/info', known), asked.length], [200, 200, 6])
  site.endpoint.reload()
  assert.equal(await ask('/info', known), 429)
  socket.destroy()
  await site.close()
})
