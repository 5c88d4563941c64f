import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { DOUBLED_MS } from '../src/core/lifecycle.ts'
import type { DrainReport } from '../src/core/index.ts'
import { Child } from './_child.ts'
import { Client } from './_client.ts'
import type { ServiceOptions } from './fixtures/service.ts'

/** Short, but no duration that a busy machine could miss. */
const quick = { quietMs: 30, lameduckMs: 0, lingerMs: 200, deadlineMs: 20_000 }

interface Running {
  child: Child
  client: Client
  /** The report it wrote. */
  report(): DrainReport
}

/** Runs the service with one connection to it, and ends it in any case. */
async function service(how: ServiceOptions, run: (running: Running) => Promise<void>, env: NodeJS.ProcessEnv = {}): Promise<void> {
  const child = new Child('service.ts', [JSON.stringify({ ...how, options: { ...quick, ...how.options } })], { env, ipc: true })
  let client: Client | undefined
  try {
    const port = Number(await child.says(/^port (\d+)/m))
    client = await Client.open({ host: '127.0.0.1', port })
    await run({
      child,
      client,
      report: () => JSON.parse(/^report (.*)$/m.exec(child.stdout)?.[1] ?? 'null') as DrainReport,
    })
  } finally {
    client?.destroy()
    await child.close()
  }
}

/** One request is in flight, as far as a client can know it: its connection answered another one before. */
async function busy(client: Client, path: string): Promise<void> {
  client.request('/')
  await client.answer()
  client.request(path)
  await new Promise(resolve => setTimeout(resolve, 50))
}

// A child process takes its time to start: as many at once as there are cores, or so.
describe('the process', { concurrency: 3 }, () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`${signal}: what is in flight is answered, then exit 0`, () => service({}, async ({ child, client, report }) => {
      await busy(client, '/slow')
      child.kill(signal)
      const answer = await client.answer()
      assert.equal(answer.text, 'slow')
      assert.equal(answer.header('connection'), 'close')
      assert.deepEqual(await child.exited, { code: 0, signal: null })
      assert.equal(report().reason, signal)
      assert.equal(report().outcome, 'clean')
      assert.equal(child.stderr, '')
    }))
  }

  // A lame duck ends early when its clients have gone: these are told to.
  test('SIGTERM has a lame duck', () => service({ options: { lameduckMs: 15_000 } }, async ({ child, client, report }) => {
    child.kill('SIGTERM')
    await child.says(/^state lameduck/m)
    client.request('/readyz')
    assert.equal((await client.answer()).status, 503)
    assert.equal((await child.exited).code, 0)
    assert.match(child.stdout, /state lameduck\n(.*\n)*state draining\n(.*\n)*state drained\n/)
    assert.ok(report().durationMs < 10_000, `took ${report().durationMs} ms`)
  }))

  test('SIGINT skips the lame duck', () => service({ options: { lameduckMs: 15_000 } }, async ({ child, report }) => {
    child.kill('SIGINT')
    assert.equal((await child.exited).code, 0)
    assert.ok(report().durationMs < 10_000, `took ${report().durationMs} ms`)
  }))

  // pm2 gives 1.6 s unless told otherwise: with a lame duck of 4 s, 5 s would be too few.
  for (const [env, lame] of [[{ pm_id: '0', kill_timeout: '30000' }, true], [{ pm_id: '0' }, false], [{ pm_id: '0', kill_timeout: '5000' }, false], [{ kill_timeout: '30000' }, false]] as const) {
    test(`SIGINT with ${JSON.stringify(env)} has ${lame ? 'a' : 'no'} lame duck`, () => service({ options: { lameduckMs: lame ? 15_000 : 4_000 } }, async ({ child, client, report }) => {
      client.request('/')
      await client.answer()
      child.kill('SIGINT')
      if (lame) {
        await child.says(/^state lameduck/m)
        client.request('/readyz')
        assert.equal((await client.answer()).status, 503)
      }
      assert.equal((await child.exited).code, 0)
      assert.ok(report().durationMs < (lame ? 10_000 : 3_800), `took ${report().durationMs} ms`)
    }, env))
  }

  for (const [first, second, code] of [['SIGTERM', 'SIGTERM', 143], ['SIGTERM', 'SIGINT', 130], ['SIGINT', 'SIGINT', 130]] as const) {
    test(`${first}, then ${second}: exit ${code} at once`, () => service({}, async ({ child, client }) => {
      await busy(client, '/hang')
      child.kill(first)
      await child.says(/^state draining/m)
      // Sooner it would be the same one.
      await sleep(DOUBLED_MS)
      const started = performance.now()
      child.kill(second)
      assert.deepEqual(await child.exited, { code, signal: null })
      assert.ok(performance.now() - started < 15_000)
      await client.ended()
    }))
  }

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`${signal} twice at once, to the process and to its group, is one: what is in flight is answered, exit 0`, () => service({}, async ({ child, client, report }) => {
      await busy(client, '/slow')
      child.kill(signal)
      await sleep(5)
      child.kill(signal)
      assert.equal((await client.answer()).text, 'slow')
      assert.deepEqual(await child.exited, { code: 0, signal: null })
      assert.equal(report().outcome, 'clean')
    }))
  }

  test('forced by the deadline: exit 1, and the report names what was cut', () => service({ options: { deadlineMs: 400 } },
    async ({ child, client, report }) => {
      await busy(client, '/hang')
      child.kill('SIGTERM')
      assert.equal((await child.exited).code, 1)
      assert.equal(report().forcedBy, 'deadline')
      assert.equal(report().destroyed[0]?.path, '/hang')
    }))

  for (const hook of ['fails', 'hangs'] as const) {
    test(`a hook that ${hook}: exit 1`, () => service({ hook }, async ({ child, report }) => {
      child.kill('SIGTERM')
      assert.equal((await child.exited).code, 1)
      assert.equal(report().outcome, 'clean')
      assert.equal(report().hooks[0]?.outcome, hook === 'fails' ? 'failed' : 'timeout')
    }))
  }

  test('a hook that is fine: exit 0', () => service({ hook: 'fine' }, async ({ child }) => {
    child.kill('SIGTERM')
    assert.equal((await child.exited).code, 0)
  }))

  test('exit: false drains, and leaves the process to end by itself', () => service({ options: { exit: false }, stays: true },
    async ({ child, client }) => {
      child.kill('SIGTERM')
      await child.says(/^report /m)
      await client.ended()
      await new Promise(resolve => setTimeout(resolve, 200))
      assert.equal(child.process.exitCode, null)
      // Its work is done: the next signal is the system's own.
      child.kill('SIGTERM')
      assert.deepEqual(await child.exited, { code: null, signal: 'SIGTERM' })
    }))

  test('exit: false, and nothing left to do: the process ends with 0', () => service({ options: { exit: false } }, async ({ child, client }) => {
    child.kill('SIGTERM')
    await client.ended()
    assert.deepEqual(await child.exited, { code: 0, signal: null })
  }))

  test('exit: false, a second signal aborts and does not exit', () => service({ options: { exit: false }, stays: true },
    async ({ child, client, report }) => {
      await busy(client, '/hang')
      child.kill('SIGTERM')
      await child.says(/^state draining/m)
      await sleep(DOUBLED_MS)
      child.kill('SIGTERM')
      await child.says(/^report /m)
      assert.equal(report().forcedBy, 'abort')
      assert.equal(child.process.exitCode, null)
    }))

  test('signals: false leaves SIGTERM to the system', () => service({ options: { signals: false } }, async ({ child }) => {
    child.kill('SIGTERM')
    assert.deepEqual(await child.exited, { code: null, signal: 'SIGTERM' })
    assert.doesNotMatch(child.stdout, /state/)
  }))

  test('signals: [SIGHUP] listens for that alone', () => service({ options: { signals: ['SIGHUP'] } }, async ({ child, report }) => {
    child.kill('SIGHUP')
    assert.equal((await child.exited).code, 0)
    assert.equal(report().reason, 'SIGHUP')
  }))

  test('a drain by the program itself exits nothing', () => service({ drainsItself: true, stays: true }, async ({ child }) => {
    await child.says(/^report /m)
    await new Promise(resolve => setTimeout(resolve, 200))
    assert.equal(child.process.exitCode, null)
  }))

  test('after drain and no exit, nothing of lameduck keeps the process alive', () => service({ drainsItself: true }, async ({ child, client }) => {
    client.halfClose()
    assert.deepEqual(await child.exited, { code: 0, signal: null })
  }))

  for (const listenAfterMs of [false, 20_000] as const) {
    test(`SIGTERM before listen (${listenAfterMs === false ? 'never' : 'listens later'}): exit 0`, async () => {
      const child = new Child('service.ts', [JSON.stringify({ options: quick, listenAfterMs })])
      try {
        await child.says(/^starting/m)
        child.kill('SIGTERM')
        assert.deepEqual(await child.exited, { code: 0, signal: null })
        assert.doesNotMatch(child.stdout, /^port/m)
      } finally {
        await child.close()
      }
    })
  }

  for (const [path, event] of [['/throw', 'uncaughtException'], ['/reject', 'unhandledRejection']] as const) {
    test(`drainOnCrash: after an ${event} what is in flight is answered, then exit 1`, () => service({ options: { drainOnCrash: true } },
      async ({ child, client, report }) => {
        const other = await Client.open({ host: '127.0.0.1', port: Number(await child.says(/^port (\d+)/m)) })
        await busy(other, '/slow')
        client.request(path)
        assert.equal((await other.answer()).text, 'slow')
        // The request that crashed is never answered; its client goes away.
        client.destroy()
        assert.deepEqual(await child.exited, { code: 1, signal: null })
        assert.match(child.stderr, /(thrown|rejected) by the service/)
        assert.match(report().reason, /exception|rejection/i)
        other.destroy()
      }))
  }

  test('without drainOnCrash, a crash is a crash', () => service({}, async ({ child, client }) => {
    client.request('/throw')
    await client.ended()
    assert.equal((await child.exited).code, 1)
    assert.match(child.stderr, /thrown by the service/)
    assert.doesNotMatch(child.stdout, /state/)
  }))

  test('drainOnCrash: a crash in the drain is no second one, and still exits 1', () => service({ options: { drainOnCrash: true, quietMs: 15_000 } },
    async ({ child, client }) => {
      await busy(client, '/slow')
      const other = await Client.open({ host: '127.0.0.1', port: Number(await child.says(/^port (\d+)/m)) })
      other.request('/')
      await other.answer()
      child.kill('SIGTERM')
      await child.says(/^state draining/m)
      other.request('/throw')
      assert.equal((await client.answer()).text, 'slow')
      other.destroy()
      assert.equal((await child.exited).code, 1)
    }))

  test('drainOnCrash: a SIGTERM after a crash, to the process and to its group, cuts nothing; the next one does', () => service({ options: { drainOnCrash: true }, hears: true },
    async ({ child, client }) => {
      const other = await Client.open({ host: '127.0.0.1', port: Number(await child.says(/^port (\d+)/m)) })
      await busy(other, '/slow')
      client.request('/throw')
      await child.says(/^state draining/m)
      child.kill('SIGTERM')
      await child.says(/^heard (SIGTERM)/m)
      child.kill('SIGTERM')
      assert.equal((await other.answer()).text, 'slow')
      // The crashed request is still open: the drain waits for it, until somebody insists.
      await sleep(DOUBLED_MS)
      child.kill('SIGTERM')
      assert.deepEqual(await child.exited, { code: 143, signal: null })
      other.destroy()
      client.destroy()
    }))

  test('the message "shutdown" of PM2 is a SIGTERM', () => service({}, async ({ child, client }) => {
    await busy(client, '/slow')
    child.process.send?.('shutdown')
    assert.equal((await client.answer()).text, 'slow')
    assert.equal((await child.exited).code, 0)
  }, { pm_id: '0' }))

  test('other messages are not', () => service({}, async ({ child, client }) => {
    child.process.send?.('hello')
    child.process.send?.({ type: 'shutdown' })
    client.request('/')
    assert.equal((await client.answer()).header('connection'), 'keep-alive')
    assert.doesNotMatch(child.stdout, /state/)
  }, { pm_id: '0' }))

  test('two ducks in one process: the exit waits for both', () => service({ second: quick }, async ({ child }) => {
    const other = await Client.open({ host: '127.0.0.1', port: Number(await child.says(/^other port (\d+)/m)) })
    other.request('/')
    await new Promise(resolve => setTimeout(resolve, 50))
    child.kill('SIGTERM')
    assert.equal((await other.answer()).text, 'other')
    assert.equal((await child.exited).code, 0)
    assert.match(child.stdout, /^other clean/m)
    other.destroy()
  }))

  test('resumed from the lame duck of a SIGTERM: it stays, and the next SIGTERM is a first one', () => service(
    { options: { lameduckMs: 10_000 }, resumeAfterMs: 50 },
    async ({ child, client }) => {
      child.kill('SIGTERM')
      await child.says(/^state running/m)
      client.request('/')
      assert.equal((await client.answer()).status, 200)
      assert.equal(child.process.exitCode, null)
      client.halfClose()
      await client.ended()
      child.kill('SIGTERM')
      assert.deepEqual(await child.exited, { code: 0, signal: null })
      assert.match(child.stdout, /state drained/)
    }))
})
