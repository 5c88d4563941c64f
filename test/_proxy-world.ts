import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { buildCore } from '../bench/_build.ts'
import { exampleApp } from '../bench/_proxy-examples.ts'
import { startInstances, type Upstream } from '../bench/_proxy-instances.ts'
import { rollingRestart } from '../bench/_proxy-rolling.ts'
import { findProxy, startProxy, type Proxy, type ProxyName } from '../bench/_proxy-start.ts'
import type { Variant } from '../bench/_proxy-variants.ts'

/** Why a test of this proxy cannot run, or false. */
export function lacks(name: ProxyName): string | false {
  return findProxy(name) === undefined && `${name} is not installed`
}

/** Two instances of the example's app behind the example's configuration, both as they are in the repository. */
export async function startExample(t: TestContext, name: ProxyName, variant: Variant = {}): Promise<{ upstream: Upstream, proxy: Proxy, port: number }> {
  const core = await buildCore()
  t.after(() => core[Symbol.dispose]())
  const app = exampleApp(`${name}/app.mjs`, process.env['BENCH_CORE'] ?? '', variant.app)
  t.after(() => app[Symbol.dispose]())
  const upstream = await startInstances(app, { sockets: variant.sockets })
  t.after(() => upstream.close())
  const proxy = await startProxy(name, { upstreams: upstream.addresses, edit: variant.configuration })
  t.after(() => proxy.close())
  return { upstream, proxy, port: proxy.ports[0] ?? Number.NaN }
}

/**
 * Restarts under load lose no GET, execute nothing that fails, and lose one POST each at the most: nginx may send one on a kept connection as the
 * app closes it. How often is in bench/results; more often on a machine with more to do than it has cores.
 */
export async function losesHardlyAPost({ upstream, proxy, port }: { upstream: Upstream, proxy: Proxy, port: number }, restarts: number): Promise<void> {
  const { get, post, restarts: done } = await rollingRestart({ port, upstream, restarts, paceMs: 500 })
  assert.ok(clean(done), upstream.output())
  assert.ok(post.ok > 100 * restarts, `the load proves nothing: ${post.ok} POSTs`)
  assert.equal(get.failed, 0, proxy.output())
  assert.ok(post.failed <= restarts, `${post.failed} POSTs failed`)
  assert.deepEqual({ executed: post.executed, twice: post.twice + get.twice }, { executed: 0, twice: 0 })
}

/** Nobody had to be killed, and every exit code is 0. */
export const clean = (restarts: readonly { killed: boolean, code: number | null }[]): boolean =>
  restarts.every(({ killed, code }) => !killed && code === 0)
