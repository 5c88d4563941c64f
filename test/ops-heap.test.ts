import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import fs from 'node:fs/promises'
import http from 'node:http'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import type { JobReport } from '../src/ops/heap/jobs.ts'
import { startSnapshot, type SnapshotResult } from '../src/ops/heap/snapshot.ts'
import { takeSnapshot } from '../src/ops/heap/take.ts'
import { Problem } from '../src/ops/http/problem.ts'
import { HeapSnapshot } from './_heap-snapshot.ts'
import { holding, problemOf, takeTiny, TINY, until, within } from './_heap-world.ts'

const resultOf = (job: JobReport) => job.result as SnapshotResult

test('a snapshot is a job: 202, Location, phases, and in the end a redacted, compressed file that parses whole', async () => {
  await within(async world => {
    const { status, headers, json } = await world.ask('POST', '/heap/snapshots?reason=leak')
    assert.equal(status, 202)
    assert.equal(new URL(headers.get('location') ?? '', `${world.url}/heap/snapshots`).pathname, `/jobs/${json.id as string}`)
    const job = await world.jobs.ended(json.id as string)
    assert.equal(job.state, 'done')
    const { artifact, taken, redacted, reason } = resultOf(job)
    assert.equal(reason, 'leak')
    assert.ok(taken.pauseMs > 0 && taken.bytes > 1_000_000)
    assert.ok((redacted?.blanked ?? 0) > 100)
    assert.equal('path' in taken, false)
    const file = await fs.readFile((await world.artifacts.get(artifact.name))?.path ?? '')
    assert.equal(createHash('sha256').update(file).digest('hex'), artifact.sha256)
    assert.deepEqual(new HeapSnapshot(gunzipSync(file)).faults(), [])
    assert.equal((await world.ask('GET', `/jobs/${job.id}`)).json.state, 'done')
    const [pause, over] = world.pauses as [{ what: string; untilMs: number }, null]
    assert.equal(pause.what, 'heap-snapshot')
    assert.ok(pause.untilMs > Date.now())
    assert.equal(over, null)
    assert.deepEqual((await fs.readdir(world.dir)).sort(), [artifact.name, `${artifact.name}.json`].sort())
  }, { take: takeSnapshot })
})

test('the estimate has the figures, and main need not answer for it', async () => {
  await within(async world => {
    const { json } = await world.ask('GET', '/heap/estimate', ['read'])
    for (const key of ['usedHeap', 'factor', 'need', 'available', 'heapLimit', 'pauseMs']) assert.ok((json[key] as number) > 0, key)
    assert.equal(json.state, 'running')
    assert.equal(json.canIsolate, true)
    world.crash()
    const later = await world.ask('GET', '/heap/estimate', ['read'])
    assert.equal(later.status, 200)
    assert.equal(later.json.asOf, json.asOf)
  })
})

test('with isolate the instance leaves the rotation, waits for what is in flight, and is back after the snapshot', async () => {
  const held = holding()
  const states: string[] = []
  await within(async world => {
    world.duck.on('state', state => states.push(state))
    const request = fetch(world.appUrl)
    await until(() => world.duck.stats().inFlight.length === 1)
    const ended = world.snapshot('isolate=true')
    await until(() => world.duck.state === 'lameduck')
    await sleep(150)
    assert.deepEqual(states, ['lameduck'])
    assert.equal(world.jobs.list()[0]?.phase, 'leaving the rotation')
    held.release()
    assert.equal(await (await request).text(), 'late')
    assert.equal((await ended).state, 'done')
    assert.deepEqual(states, ['lameduck', 'snapshot', 'running'])
  }, { heap: { inFlightMs: 20_000 }, take: (...args) => {
    states.push('snapshot')
    return takeTiny(...args)
  } }, held.app)
})

test('requests that do not end keep it from pausing: the instance is back in rotation, and the job says what held it', async () => {
  await within(async world => {
    const request = fetch(world.appUrl).catch(() => {})
    await until(() => world.duck.stats().inFlight.length === 1)
    const job = await world.snapshot('isolate=true')
    assert.deepEqual(problemOf(job), ['failed', 409, 'ERR_LAMEDUCK_OPS_IN_FLIGHT'])
    assert.equal((job.problem?.inFlight as { method: string }[] | undefined)?.[0]?.method, 'GET')
    assert.equal(world.duck.state, 'running')
    assert.equal((await world.snapshot('isolate=true&force=true')).state, 'done')
    assert.equal(world.duck.state, 'running')
    await world.duck.abort()
    await request
  }, {}, () => {})
})

test('a snapshot that fails brings the instance back into rotation, and nothing is left on the disk', async () => {
  await within(async world => {
    const job = await world.snapshot('isolate=true')
    assert.deepEqual(problemOf(job), ['failed', 507, 'ERR_LAMEDUCK_OPS_DISK'])
    assert.equal(world.duck.state, 'running')
    assert.equal(world.pauses.at(-1), null)
    assert.deepEqual(await fs.readdir(world.dir), [])
  }, { take: async () => {
    throw new Problem(507, 'ERR_LAMEDUCK_OPS_DISK', 'full')
  } })
})

test('a raw file that cannot be read as a snapshot gives a failed job, never a file that is half redacted', async () => {
  await within(async world => {
    const job = await world.snapshot('isolate=true')
    assert.deepEqual(problemOf(job), ['failed', 500, 'ERR_LAMEDUCK_OPS_FAILED'])
    assert.equal(world.duck.state, 'running')
    assert.deepEqual(await fs.readdir(world.dir), [])
  }, { take: async (file, options) => {
    const taken = await takeTiny(file, options)
    await fs.truncate(file, TINY.length - 30)
    return taken
  } })
})

test('a client that leaves right after its request does not keep the instance out of rotation', async () => {
  await within(async world => {
    const request = http.request(`${world.url}/heap/snapshots?isolate=true`, { method: 'POST' })
    request.on('error', () => {})
    request.end()
    await until(() => world.jobs.list().length === 1)
    request.destroy()
    const { id } = world.jobs.list()[0] as JobReport
    await world.jobs.ended(id)
    assert.equal(world.duck.state, 'running')
  })
})

test('a cancelled job brings the instance back into rotation', async () => {
  await within(async world => {
    const request = fetch(world.appUrl).catch(() => {})
    await until(() => world.duck.stats().inFlight.length === 1)
    const { json } = await world.ask('POST', '/heap/snapshots?isolate=true')
    await until(() => world.duck.state === 'lameduck')
    assert.equal((await world.ask('DELETE', `/jobs/${json.id as string}`)).status, 202)
    assert.deepEqual(problemOf(await world.jobs.ended(json.id as string)), ['cancelled', 409, 'ERR_LAMEDUCK_OPS_CANCELLED'])
    assert.equal(world.duck.state, 'running')
    assert.equal((await world.ask('DELETE', `/jobs/${json.id as string}`)).json.code, 'ERR_LAMEDUCK_OPS_ENDED')
    assert.equal((await world.ask('DELETE', '/jobs/unknown')).status, 404)
    await world.duck.abort()
    await request
  }, { heap: { inFlightMs: 20_000 } }, () => {})
})

test('the endpoint\'s thread crashing brings the instance back into rotation', async () => {
  await within(async world => {
    const request = fetch(world.appUrl).catch(() => {})
    await until(() => world.duck.stats().inFlight.length === 1)
    await world.ask('POST', '/heap/snapshots?isolate=true')
    await until(() => world.duck.state === 'lameduck')
    world.crash()
    await until(() => world.duck.state === 'running')
    await world.duck.abort()
    await request
  }, { heap: { inFlightMs: 20_000 } }, () => {})
})

test('a drain that begins meanwhile is not undone', async () => {
  await within(async world => {
    const request = fetch(world.appUrl).catch(() => {})
    await until(() => world.duck.stats().inFlight.length === 1)
    const { json } = await world.ask('POST', '/heap/snapshots?isolate=true')
    await until(() => world.duck.state === 'lameduck')
    const drained = world.duck.drain({ lameduckMs: 1_000, deadlineMs: 1_500 })
    assert.deepEqual(problemOf(await world.jobs.ended(json.id as string)), ['failed', 409, 'ERR_LAMEDUCK_OPS_STATE'])
    assert.notEqual((await drained).outcome, 'resumed')
    const refused = await world.ask('POST', '/heap/snapshots?isolate=true')
    assert.deepEqual([refused.status, refused.json.code], [409, 'ERR_LAMEDUCK_OPS_STATE'])
    await request
  }, { heap: { inFlightMs: 20_000 } }, () => {})
})

test('the last ready instance is not taken out of rotation, unless forced', async () => {
  await within(async world => {
    const { status, json } = await world.ask('POST', '/heap/snapshots?isolate=true')
    assert.deepEqual([status, json.code], [409, 'ERR_LAMEDUCK_OPS_LAST'])
    assert.equal(world.duck.state, 'running')
    assert.equal((await world.snapshot('isolate=true&force=true')).state, 'done')
    assert.equal((await world.snapshot('isolate=false')).state, 'done')
  }, { lastReady: async () => true })
})

test('when nobody knows whether it is the last one, it may be taken out', async () => {
  await within(async world => {
    assert.equal((await world.snapshot('isolate=true')).state, 'done')
  }, { lastReady: () => undefined })
})

test('two snapshots at once: the second is told who takes the first', async () => {
  await within(async world => {
    const held = fetch(world.appUrl).catch(() => {})
    await until(() => world.duck.stats().inFlight.length === 1)
    const { json } = await world.ask('POST', '/heap/snapshots?isolate=true')
    const second = await world.ask('POST', '/heap/snapshots')
    assert.deepEqual([second.status, second.json.code, second.json.by, second.json.job], [409, 'ERR_LAMEDUCK_OPS_BUSY', 'ann', json.id])
    await world.duck.abort()
    await held
  }, { heap: { inFlightMs: 20_000 } }, () => {})
})

test('after-gc waits for the next major GC, in rotation, and not for ever', async () => {
  let collect = () => {}
  await within(async world => {
    const ended = world.snapshot('when=after-gc&isolate=true')
    await until(() => world.jobs.list()[0]?.phase === 'waiting for a major GC')
    assert.equal(world.duck.state, 'running')
    collect()
    assert.equal((await ended).state, 'done')
    assert.deepEqual(problemOf(await world.snapshot('when=after-gc')), ['failed', 504, 'ERR_LAMEDUCK_OPS_NO_GC'])
  }, { heap: { afterGcMs: 2_000 }, afterMajorGC: () => new Promise<void>(resolve => {
    collect = resolve
  }) })
})

test('after-gc without a GC hook is refused', async () => {
  await within(async world => {
    const { status, json } = await world.ask('POST', '/heap/snapshots?when=after-gc')
    assert.deepEqual([status, json.code], [501, 'ERR_LAMEDUCK_OPS_NO_GC_HOOK'])
  })
})

test('a raw snapshot, its download and its removal need the scope secrets', async () => {
  await within(async world => {
    const refused = await world.ask('POST', '/heap/snapshots?redact=false')
    assert.deepEqual([refused.status, refused.json.code, refused.json.scope], [403, 'ERR_LAMEDUCK_OPS_SCOPE', 'secrets'])
    const { artifact } = resultOf(await world.snapshot('redact=false&compress=false', ['diag', 'secrets']))
    assert.equal(artifact.secret, true)
    for (const method of ['GET', 'DELETE']) {
      const { status, json, body } = await world.ask(method, `/artifacts/${artifact.name}`)
      assert.deepEqual([status, json.code], [403, 'ERR_LAMEDUCK_OPS_SCOPE'])
      assert.ok(!body.includes('hunter'))
    }
    assert.equal((await world.ask('GET', `/artifacts/${artifact.name}`, ['diag', 'secrets'])).body, TINY)
    assert.equal((await world.ask('DELETE', `/artifacts/${artifact.name}`, ['diag', 'secrets'])).status, 204)
  })
})

test('a rule may take a snapshot with the scopes that it was armed with', async () => {
  await within(async world => {
    const rule = { name: 'rule: heap', from: 'rule', scopes: new Set(['diag'] as const) }
    const { id } = await startSnapshot(world.bench, { compress: false }, rule)
    const { artifact } = resultOf(await world.jobs.ended(id))
    assert.equal(artifact.by, 'rule: heap')
    const text = (await world.ask('GET', `/artifacts/${artifact.name}`)).body
    assert.ok(!text.includes('hunter') && text.includes('"(GC roots)"') && text.includes('"*2"') && text.includes('"held"'))
    await assert.rejects(startSnapshot(world.bench, { redact: false }, rule), { code: 'ERR_LAMEDUCK_OPS_SCOPE' })
  })
})

test('with recycle the instance stays out of rotation until the file is finished, then drains and exits', async () => {
  const exits: string[] = []
  await within(async world => {
    const states: string[] = []
    world.duck.on('state', state => states.push(state))
    const job = await world.snapshot('recycle=true')
    assert.equal(job.state, 'done')
    await until(() => exits.length === 1)
    assert.deepEqual(exits, ['clean'])
    assert.deepEqual(states, ['lameduck', 'draining', 'drained'])
    assert.equal(await fs.readFile((await world.artifacts.get(resultOf(job).artifact.name))?.path ?? '').then(({ length }) => length > 0), true)
  }, { exit: ({ outcome }) => exits.push(outcome) })
})

test('with recycle and no file the instance is back in rotation, and nothing exits', async () => {
  const exits: string[] = []
  await within(async world => {
    assert.equal((await world.snapshot('recycle=true')).state, 'failed')
    await until(() => world.duck.state === 'running')
    assert.deepEqual(exits, [])
  }, {
    exit: ({ outcome }) => exits.push(outcome),
    take: async (file, options) => {
      const taken = await takeTiny(file, options)
      await fs.writeFile(file, 'no snapshot')
      return taken
    },
  })
})
