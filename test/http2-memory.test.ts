import assert from 'node:assert/strict'
import http2 from 'node:http2'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { KINDS, outcome, startHttp2, until, type Peer, type Site2 } from './_http2.ts'

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

type Refs = Record<'sockets' | 'sessions' | 'streams', WeakRef<object>[]>

/** What the server makes for its clients from now on. */
function watch(server: http2.Http2Server): Refs {
  const refs: Refs = { sockets: [], sessions: [], streams: [] }
  server.on('connection', socket => refs.sockets.push(new WeakRef(socket)))
  server.on('secureConnection', socket => refs.sockets.push(new WeakRef(socket)))
  server.on('session', session => refs.sessions.push(new WeakRef(session)))
  server.on('request', ({ stream }) => refs.streams.push(new WeakRef(stream)))
  return refs
}

/** A few may still be on a stack, or in a timer of Node's; what is kept for each of them never goes. */
async function assertGone(what: string, refs: WeakRef<object>[]): Promise<void> {
  assert.ok(refs.length >= 100, `${refs.length} ${what}`)
  for (const end = performance.now() + 15_000; ; await sleep(50)) {
    gc()
    const kept = refs.filter(ref => ref.deref() !== undefined).length
    if (kept <= refs.length / 10) return
    assert.ok(performance.now() < end, `${kept} of ${refs.length} ${what} are kept`)
  }
}

/** Streams that are answered, and one that the client gives up. */
async function use(peer: Peer, executed: string[]): Promise<void> {
  const given = executed.length + 5
  const hang = peer.open('/hang')
  const ended = outcome(hang)
  for (const path of ['/', '/slow?ms=1', '/status?code=204']) assert.ok((await peer.ask(path)).answered)
  assert.ok((await peer.ask('/body', {}, 'body')).answered)
  await until('executed', () => executed.length >= given)
  hang.close(http2.constants.NGHTTP2_CANCEL)
  await ended
}

for (const kind of KINDS) {
  const scenario = (name: string, run: (site: Site2, refs: Refs) => Promise<void>) => {
    test(`${kind}: ${name}`, { timeout: 60_000 }, async () => {
      const site = await startHttp2(kind)
      try {
        await run(site, watch(site.server))
      } finally {
        await site.close()
      }
    })
  }

  scenario('nothing is kept of a stream that has ended, while its session goes on', async ({ executed, connect, duck }, { streams }) => {
    const peer = await connect()
    for (let round = 0; round < 30; round++) await use(peer, executed)
    await assertGone('streams', streams)
    assert.ok((await peer.ask('/')).answered)
    assert.equal((await duck.drain()).outcome, 'clean')
  })

  scenario('nothing is kept of a session that has ended, nor of its streams', async ({ executed, connect, duck }, refs) => {
    for (let round = 0; round < 100; round++) {
      const peer = await connect()
      if (round % 3 > 0) await use(peer, executed)
      // Half of them properly, the others in the middle of a request.
      if (round % 2 === 0) peer.session.close()
      else {
        const before = executed.length
        peer.open('/hang')
        await until('executed', () => executed.length > before)
        peer.session.destroy()
      }
      await peer.ended
    }
    for (const [what, some] of Object.entries(refs)) await assertGone(what, some)
    assert.equal((await duck.drain()).outcome, 'clean')
  })
}
