import assert from 'node:assert/strict'
import type http from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Catch, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common'
import { APP_FILTER } from '@nestjs/core'
import { LameduckModule } from '../src/adapters/nestjs.ts'
import type { Duck } from '../src/core/index.ts'
import { Child } from './_child.ts'
import { Client } from './_client.ts'
import type { NestService } from './fixtures/works-with-nestjs.ts'
import { nest, type NestSetup, type Platform } from './_nest.ts'
import { Stopwatch } from './_stopwatch.ts'
import { QUICK } from './_world.ts'

const platforms: Platform[] = ['express', 'fastify']

/** Runs the service with one connection to it, and ends it in any case. */
async function service(how: NestService, run: (child: Child, client: Client) => Promise<void>, env: NodeJS.ProcessEnv = {}): Promise<void> {
  const child = new Child('works-with-nestjs.ts', [JSON.stringify(how)], { env })
  let client: Client | undefined
  try {
    const port = Number(await child.says(/^port (\d+)/m))
    client = await Client.open({ host: '127.0.0.1', port })
    client.request('/hello')
    assert.equal((await client.answer()).text, 'hello')
    await run(child, client)
  } finally {
    client?.destroy()
    await child.close()
  }
}

/** What the program said about its end. */
const said = (child: Child) => child.stdout.split('\n').filter(line => /^(on|before|report|end)/.test(line))

/** A test that failed leaves its application listening. */
const ducks: Duck[] = []
after(() => Promise.all(ducks.map(duck => duck.abort('the tests are over'))))

/** An application that listens, in this process. */
async function listening(platform: Platform, setup: Partial<NestSetup> = {}) {
  const { app, duck } = await nest(platform, {
    ...setup,
    options: { ...QUICK, ...setup.options },
    routes: { hello: () => 'hello', slow: () => sleep(200, 'slow'), ...setup.routes },
  })
  ducks.push(duck)
  await app.listen(0, '127.0.0.1')
  const { port } = (app.getHttpServer() as http.Server).address() as AddressInfo
  const open = () => Client.open({ host: '127.0.0.1', port })
  const busy = async () => {
    const client = await open()
    client.request('/slow')
    while (duck.stats().inFlight.length === 0) await sleep(5)
    return client
  }
  return { app, duck, open, busy }
}

// A child process takes its time to start: as many at once as there are cores, or so.
describe('NestJS, the process', { concurrency: 2 }, () => {
  for (const platform of platforms) {
    test(`${platform}, enableShutdownHooks, SIGTERM: Nest's hooks in their order around the drain, then exit 0`, () => service({ platform, hooks: true, stays: true }, async (child, client) => {
      client.request('/slow')
      await sleep(100)
      child.kill('SIGTERM')
      const answer = await client.answer()
      assert.deepEqual([answer.text, answer.header('connection')], ['slow', 'close'])
      assert.deepEqual(await child.exited, { code: 0, signal: null })
      assert.deepEqual(said(child), [
        'onModuleDestroy, in flight: 1',
        'beforeApplicationShutdown SIGTERM, in flight: 1',
        'end hook',
        'report SIGTERM clean',
        'onApplicationShutdown SIGTERM, in flight: 0',
      ])
    }))
  }

  for (const hooks of [true, 'exit'] as const) {
    test(`enableShutdownHooks (${hooks}): a slow hook of duck.onDrain is waited for, then exit 0`, () => service({ platform: 'express', hooks, hookMs: 600 }, async child => {
      child.kill('SIGTERM')
      assert.deepEqual(await child.exited, { code: 0, signal: null })
      assert.match(child.stdout, /end hook\nstate drained\nreport SIGTERM clean/)
    }))
  }

  test('the lame duck comes before all of Nest\'s hooks', () => service({ platform: 'express', hooks: true, options: { lameduckMs: 15_000 } }, async (child, client) => {
    child.kill('SIGTERM')
    await child.says(/^state lameduck/m)
    client.request('/slow')
    assert.equal((await client.answer()).text, 'slow')
    assert.equal((await child.exited).code, 0)
    assert.match(child.stdout, /state lameduck\nstate draining\nonModuleDestroy/)
  }))

  for (const [killMs, lame] of [['30000', true], ['5000', false]] as const) {
    const how: NestService = { platform: 'express', hooks: true, options: { lameduckMs: 4_000 } }
    test(`SIGINT of PM2 with a kill_timeout of ${killMs} has ${lame ? 'a' : 'no'} lame duck`, () => service(how, async child => {
      const began = performance.now()
      child.kill('SIGINT')
      assert.equal((await child.exited).code, 0)
      const tookMs = performance.now() - began
      assert.ok(lame ? tookMs >= 3_900 : tookMs < 3_900, `took ${tookMs} ms`)
    }, { pm_id: '0', kill_timeout: killMs }))
  }

  test('without enableShutdownHooks SIGTERM drains and exits with 0, and Nest\'s hooks are not called, as without lameduck', () => service({ platform: 'express', stays: true }, async (child, client) => {
    client.request('/slow')
    await sleep(100)
    child.kill('SIGTERM')
    assert.equal((await client.answer()).text, 'slow')
    assert.deepEqual(await child.exited, { code: 0, signal: null })
    assert.deepEqual(said(child), ['end hook', 'report SIGTERM clean'])
  }))

  for (const [hooks, name] of [[true, 'enableShutdownHooks'], ['exit', 'enableShutdownHooks with useProcessExit'], [false, 'no hooks']] as const) {
    test(`${name}: exit 1 when the deadline cut something`, () => service({ platform: 'express', hooks, options: { deadlineMs: 300 } }, async (child, client) => {
      client.request('/hang')
      await sleep(100)
      child.kill('SIGTERM')
      assert.deepEqual(await child.exited, { code: 1, signal: null })
      if (hooks) assert.match(child.stdout, /report SIGTERM forced\nonApplicationShutdown SIGTERM/)
    }))
  }

  test('a second signal ends it at once, with 128 + n', () => service({ platform: 'express', hooks: true }, async (child, client) => {
    client.request('/hang')
    await sleep(100)
    child.kill('SIGTERM')
    await child.says(/^state draining/m)
    child.kill('SIGINT')
    assert.deepEqual(await child.exited, { code: 130, signal: null })
  }))

  test('a program that calls app.close() on SIGTERM itself keeps its own exit code', () => service({ platform: 'fastify', own: true }, async (child, client) => {
    client.request('/slow')
    await sleep(100)
    child.kill('SIGTERM')
    assert.equal((await client.answer()).text, 'slow')
    assert.deepEqual(await child.exited, { code: 3, signal: null })
    assert.deepEqual(said(child).at(-1), 'onApplicationShutdown undefined, in flight: 0')
  }))

  test('a signal that lameduck does not listen for, but Nest: drained all the same, and the process dies of it', () => service({ platform: 'express', hooks: true }, async (child, client) => {
    client.request('/slow')
    await sleep(100)
    child.kill('SIGHUP')
    assert.equal((await client.answer()).text, 'slow')
    assert.deepEqual(await child.exited, { code: null, signal: 'SIGHUP' })
    assert.deepEqual(said(child).at(-1), 'onApplicationShutdown SIGHUP, in flight: 0')
  }))
})

for (const platform of platforms) {
  test(`NestJS on ${platform}: app.close() drains, and leaves no listener in the process`, async () => {
    const before = process.listenerCount('SIGTERM')
    const { app, duck, busy } = await listening(platform, { options: { signals: ['SIGTERM'], exit: true } })
    assert.equal(process.listenerCount('SIGTERM'), before + 1)
    const client = await busy()
    const [answer] = await Promise.all([client.answer(), app.close()])
    assert.deepEqual([answer.text, answer.header('connection')], ['slow', 'close'])
    assert.equal((await duck.drain()).outcome, 'clean')
    assert.equal(process.listenerCount('SIGTERM'), before)
  })

  test(`NestJS on ${platform}, admit: reject: the 503 passes Nest's exception filters`, async () => {
    class Filter implements ExceptionFilter {
      catch(error: Error & { code: string, statusCode: number }, host: ArgumentsHost): void {
        const res = host.switchToHttp().getResponse<{ status(code: number): { send(body: object): void } }>()
        res.status(error.statusCode).send({ told: error.code })
      }
    }
    Catch()(Filter)
    for (const filtered of [true, false]) {
      const { app, duck, open, busy } = await listening(platform, {
        options: { admit: 'reject', quietMs: 3_000, retryAfterMs: 2_500 },
        ...(filtered && { providers: [{ provide: APP_FILTER, useClass: Filter }] }),
      })
      const other = await open()
      other.request('/hello')
      await other.answer()
      const client = await busy()
      const closed = app.close()
      while (duck.state !== 'draining') await sleep(1)
      other.request('/hello')
      const answer = await other.answer()
      assert.equal(answer.status, 503)
      assert.deepEqual(JSON.parse(answer.text), filtered
        ? { told: 'ERR_LAMEDUCK_DRAINING' }
        : { statusCode: 503, message: 'The server is shutting down; please try again.' })
      assert.deepEqual([answer.header('retry-after'), answer.header('connection')], ['3', 'close'])
      assert.equal((await client.answer()).status, 200)
      await closed
    }
  })

  test(`NestJS on ${platform}: forceCloseConnections and return503OnClosing cut nothing that is in flight`, async () => {
    const { app, busy } = await listening(platform, { app: { forceCloseConnections: true, return503OnClosing: true } })
    const client = await busy()
    const [answer] = await Promise.all([client.answer(), app.close()])
    assert.equal(answer.text, 'slow')
  })
}

test('NestJS: a drain that the program starts ends the connections, and app.close() after it the rest', async () => {
  const calls: string[] = []
  const { app, duck } = await listening('express', {
    providers: [{ provide: 'events', useValue: { onModuleDestroy: () => calls.push('destroy'), onApplicationShutdown: () => calls.push('shutdown') } }],
  })
  assert.equal((await duck.drain()).outcome, 'clean')
  assert.deepEqual(calls, [])
  await app.close()
  assert.deepEqual(calls, ['destroy', 'shutdown'])
})

test('NestJS: an application that never listens closes at once', async () => {
  const { app } = await nest('express', { options: { ...QUICK, lameduckMs: 4_000 }, routes: {} })
  await app.init()
  const watch = new Stopwatch()
  await app.close()
  watch.assertUnder(1_000)
})

test('NestJS: an option that does not exist is refused where it is written', () => {
  assert.throws(() => LameduckModule.forRoot({ timeout: 1 } as object), { code: 'ERR_LAMEDUCK_OPTION', message: /options\.timeout \(1\) is no option/ })
})
