import assert from 'node:assert/strict'
import http2 from 'node:http2'
import { test } from 'node:test'
import { KINDS, startHttp2, until, type Outcome, type Peer } from './_http2.ts'

const { NGHTTP2_REFUSED_STREAM } = http2.constants

/** Sends one stream after the other until the session takes no more. */
async function worker(peer: Peer, outcomes: Outcome[]): Promise<void> {
  while (!peer.session.closed && !peer.session.destroyed) outcomes.push(await peer.ask('/slow?ms=3', {}, 'body'))
}

for (const kind of KINDS) {
  test(`${kind}: 20 sessions with 10 streams each under load: every stream is answered, or refused and not executed`, { timeout: 90_000 }, async () => {
    const site = await startHttp2(kind, { deadlineMs: 15_000 })
    const peers = await Promise.all(Array.from({ length: 20 }, () => site.connect()))
    const outcomes: Outcome[] = []
    const work = peers.flatMap(peer => Array.from({ length: 10 }, () => worker(peer, outcomes)))
    await until('under way', () => outcomes.length > 500, 30_000)
    const report = await site.duck.drain()
    await Promise.all(work)
    await Promise.all(peers.map(peer => peer.ended))
    const executed = new Set(site.executed)
    assert.equal(executed.size, site.executed.length, 'executed twice')
    for (const { id, answered, code } of outcomes) {
      assert.equal(executed.has(id), answered, `${id}: executed and answered, or neither`)
      if (!answered) assert.equal(code, NGHTTP2_REFUSED_STREAM, 'may be retried')
    }
    assert.equal(report.outcome, 'clean')
    assert.ok(report.served > 0)
    assert.equal(site.duck.stats().counters.served, executed.size)
    site.duck.unwrap()
  })

  test(`${kind}: 10,000 streams on 100 sessions in flight: none is lost`, { timeout: 120_000 }, async () => {
    const site = await startHttp2(kind, { deadlineMs: 30_000 })
    const peers = await Promise.all(Array.from({ length: 100 }, () => site.connect()))
    const outcomes = peers.flatMap(peer => Array.from({ length: 100 }, () => peer.ask('/slow?ms=5000')))
    await until('in flight', () => site.executed.length === 10_000, 30_000)
    const report = await site.duck.drain()
    const failed = (await Promise.all(outcomes)).filter(({ answered }) => !answered)
    assert.deepEqual(failed, [])
    assert.equal(report.outcome, 'clean')
    // Those whose turn came before the drain are not in its report.
    assert.equal(site.duck.stats().counters.served, 10_000)
    await Promise.all(peers.map(peer => peer.ended))
    site.duck.unwrap()
  })
}
