import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { startInstances, type Upstream } from '../bench/_proxy-instances.ts'
import { rollingRestart, type Fates } from '../bench/_proxy-rolling.ts'
import { startProxy, type Proxy, type ProxyName } from '../bench/_proxy-start.ts'
import { supervisedProgram, type Supervised } from '../bench/_proxy-supervised.ts'
import { supervised } from '../bench/_proxy-variants.ts'
import { clean, lacks, losesHardlyAPost } from './_proxy-world.ts'

const [noNginx, noHaproxy] = [lacks('nginx'), lacks('haproxy')]

interface World {
  program: Supervised
  upstream: Upstream
  proxy: Proxy
  /** Of the proxy. */
  port: number
}

/** The example's app under `lameduck run`, behind the example's configuration. Quicker than by default: both workers are replaced at a time. */
async function start(t: TestContext, name: ProxyName, row: string): Promise<World> {
  const variant = supervised[name][row] ?? assert.fail(`no row ${row}`)
  const program = await supervisedProgram(name, variant, { options: ['--ready', '100ms', '--surge', '2'] })
  t.after(() => program[Symbol.dispose]())
  const upstream = await startInstances(program, { count: variant.whole ? 2 : 1, sockets: variant.sockets })
  t.after(() => upstream.close())
  const proxy = await startProxy(name, { upstreams: upstream.addresses, edit: variant.configuration })
  t.after(() => proxy.close())
  return { program, upstream, proxy, port: proxy.ports[0] ?? Number.NaN }
}

const fate = ({ failed, executed, twice }: Fates) => ({ failed, ghosts: executed, twice })
const nothing = { failed: 0, ghosts: 0, twice: 0 }

/** Reloads under load: no request fails, is executed without an answer, or twice; and every worker is another one. */
async function reloadsUnnoticed({ program, upstream, proxy, port }: World, restarts: number): Promise<void> {
  const [address = ''] = upstream.addresses
  const before = await program.pids(address)
  const rolling = await rollingRestart({ port, upstream, restarts, paceMs: 300 })
  const { get, post } = rolling
  assert.ok(clean(rolling.restarts), upstream.output())
  assert.ok(Math.min(get.ok, post.ok) > 200, `the load proves nothing: ${get.ok} GETs, ${post.ok} POSTs`)
  assert.deepEqual({ get: fate(get), post: fate(post) }, { get: nothing, post: nothing }, proxy.output() + upstream.output())
  const after = await program.pids(address)
  assert.equal(after.length, 2)
  assert.deepEqual(after.filter(pid => before.includes(pid)), [], 'nobody was replaced')
  assert.deepEqual(program.reloads.map(({ outcome, readyLeast }) => `${outcome} ${readyLeast}`), Array.from({ length: restarts }, () => 'reloaded 2'))
}

test('behind nginx two `lameduck reload`s of a supervisor fail nothing, GET or POST, and replace every worker', { skip: noNginx }, async t => {
  await reloadsUnnoticed(await start(t, 'nginx', 'reload'), 2)
})

test('behind HAProxy two `lameduck reload`s of a supervisor fail nothing, GET or POST, and replace every worker', { skip: noHaproxy }, async t => {
  await reloadsUnnoticed(await start(t, 'haproxy', 'reload'), 2)
})

test('on a unix socket a `lameduck reload` fails nothing either, and the path stays', { skip: noNginx }, async t => {
  const it = await start(t, 'nginx', 'reload, unix socket')
  assert.match(it.upstream.addresses[0] ?? '', /\.sock$/)
  await reloadsUnnoticed(it, 1)
})

test('behind nginx two supervisors that are stopped whole and started again fail no GET, hardly a POST, and execute none that fails', { skip: noNginx }, async t => {
  await losesHardlyAPost(await start(t, 'nginx', 'two supervisors, stopped and started'), 2)
})
