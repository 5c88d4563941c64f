import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, chmodSync, constants, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { buildCore } from '../bench/_build.ts'
import { freePort } from '../bench/_ports.ts'
import { exampleApp } from '../bench/_proxy-examples.ts'
import type { Upstream } from '../bench/_proxy-instances.ts'
import { rollingRestart } from '../bench/_proxy-rolling.ts'
import { DEFAULTS as CLUSTER } from '../src/cluster/options.ts'
import { DEFAULTS } from '../src/core/options.ts'
import { buildCli, buildCluster } from './_cluster-build.ts'

const run = promisify(execFile)
const units = ['app.socket', 'app.service', 'app-cluster.service']
const read = (unit: string) => readFileSync(new URL(`../examples/systemd/${unit}`, import.meta.url), 'utf8')

/** Whether a program is on the path; otherwise why a test is skipped. */
function lacks(...programs: string[]): string | false {
  const missing = programs.filter(program => !(process.env['PATH'] ?? '').split(delimiter).some(folder => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  }))
  return missing.length > 0 && `${missing.join(', ')} not installed`
}

/** The values of a unit's settings, by name. A setting that is there twice has both. */
function settings(unit: string): Record<string, string> {
  const lines = read(unit).split('\n').filter(line => /^\w+=/.test(line))
  return Object.fromEntries(lines.map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
}

function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-systemd-'))
  chmodSync(folder, 0o755)
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** What `systemd-analyze verify` says about units. It exits with 0 whatever it finds in some. */
async function verify(folder: string, texts: Record<string, string>): Promise<string> {
  const files = Object.entries(texts).map(([name, text]) => {
    const file = join(folder, name)
    writeFileSync(file, text.replaceAll('/usr/bin/node', process.execPath))
    return file
  })
  const { stdout, stderr } = await run('systemd-analyze', ['verify', '--man=no', ...files]).catch((error: { stdout: string, stderr: string }) => error)
  return stdout + stderr
}

test('systemd gives a process more time to end than lameduck takes at most, and the signal to the main process alone', () => {
  const seconds = DEFAULTS.deadlineMs / 1_000
  const [lone, cluster] = [settings('app.service'), settings('app-cluster.service')]
  assert.equal(Number(lone['TimeoutStopSec']), seconds + 5)
  // The supervisor's own SIGKILL comes 2 s after what it gives a worker.
  const longest = CLUSTER.deadlineMs / 1_000 + 2
  assert.equal(Number(cluster['TimeoutStopSec']), longest + 5)
  assert.equal(Number(cluster['TimeoutStartSec']), Number(/--workers (\d+)/.exec(cluster['ExecStart'] ?? '')?.[1]) * (longest + 15))
  for (const unit of [lone, cluster]) assert.equal(unit['KillMode'], 'mixed')
  assert.match(cluster['ExecReload'] ?? '', /lameduck reload$/)
  assert.match(readFileSync(new URL('../examples/systemd/app.mjs', import.meta.url), 'utf8'), new RegExp(`deadlineMs: ${seconds}_000`))
})

test('systemd finds nothing wrong with the units, and would find a misspelt setting', { skip: lacks('systemd-analyze') }, async t => {
  const texts = Object.fromEntries(units.map(unit => [unit, read(unit)]))
  assert.equal(await verify(folderFor(t), texts), '')
  assert.match(await verify(folderFor(t), { 'bad.service': read('app-cluster.service').replace('KillMode=', 'KilMode=') }), /KilMode/)
})

test("the supervisor's unit: after the symlink was changed its ExecReload brings the new release", async t => {
  const built = await buildCluster()
  t.after(() => built[Symbol.dispose]())
  const cli = await buildCli(built)
  const folder = folderFor(t)
  const port = await freePort()
  for (const release of ['1', '2']) {
    const bin = join(folder, release, 'node_modules', '.bin')
    mkdirSync(bin, { recursive: true })
    symlinkSync(cli, join(bin, 'lameduck'))
    writeFileSync(join(folder, release, 'app.mjs'), `import http from 'node:http'\nhttp.createServer((_, res) => res.end('${release}')).listen(${port}, '127.0.0.1')\n`)
  }
  const current = join(folder, 'current')
  symlinkSync('1', current)
  const unit = settings('app-cluster.service')
  const cwd = unit['WorkingDirectory']!.replace('/srv/app', folder)
  const env = { ...process.env, NODE_OPTIONS: '', NODE_TEST_CONTEXT: undefined, XDG_RUNTIME_DIR: join(folder, 'run') }
  mkdirSync(env.XDG_RUNTIME_DIR, { mode: 0o700 })
  const argv = (setting: string) => unit[setting]!.split(' ').slice(1)
  const child = spawn(process.execPath, argv('ExecStart'), { cwd, env, stdio: 'ignore' })
  t.after(() => child.kill('SIGKILL'))
  const ended = once(child, 'exit')
  const answers = async () => {
    const texts = new Set<string>()
    for (let i = 0; i < 8; i++) texts.add(await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' } }).then(res => res.text(), () => 'none'))
    return [...texts].join()
  }
  while ((await answers()) !== '1') assert.equal(child.exitCode, null)
  // The first worker serves before the others are ready; until then there is nothing to reload.
  unlinkSync(current)
  symlinkSync('2', current)
  await run(process.execPath, argv('ExecReload'), { cwd, env })
  assert.equal(await answers(), '2')
  child.kill('SIGTERM')
  assert.deepEqual(await ended, [0, null])
})

test('a service behind its socket unit is restarted three times and no request fails or waits for a port; it says when it is ready', {
  skip: lacks('perl', 'systemd-notify'),
}, async t => {
  const core = await buildCore()
  t.after(() => core[Symbol.dispose]())
  const app = exampleApp('systemd/app.mjs', process.env['BENCH_CORE'] ?? '')
  t.after(() => app[Symbol.dispose]())
  const folder = folderFor(t)
  const journal = join(folder, 'journal')
  writeFileSync(journal, '')

  const program = fileURLToPath(new URL('fixtures/proxied-systemd.pl', import.meta.url))
  const manager = spawn('perl', [program, folder, process.execPath, ...app.args('', journal)], {
    stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, NODE_TEST_CONTEXT: undefined, JOURNAL: journal },
  })
  t.after(async () => {
    manager.stdin.end()
    if (manager.exitCode === null) await once(manager, 'exit')
  })
  const lines = createInterface({ input: manager.stdout })[Symbol.asyncIterator]()
  const says = async (pattern: RegExp) => {
    for (;;) {
      const { value = '', done } = await lines.next() as { value?: string, done?: boolean }
      const match = pattern.exec(value)
      if (match) return match[1] ?? ''
      if (done) assert.fail(`systemd's stand-in ended before ${pattern}`)
    }
  }
  const port = Number(await says(/^port (\d+)/))
  await says(/^notify READY=1/)

  const upstream: Upstream = {
    addresses: [String(port)],
    async restart() {
      const began = performance.now()
      manager.stdin.write('restart\n')
      const status = Number(await says(/^ended (\d+)/))
      await says(/^notify READY=1/)
      return { drainMs: performance.now() - began, killed: false, code: status }
    },
    executed: () => readFileSync(journal, 'utf8').split('\n').filter(Boolean),
    output: () => '',
    close: async () => {},
  }
  const { get, post, restarts } = await rollingRestart({ port, upstream, restarts: 3, paceMs: 500 })
  assert.deepEqual(restarts.map(({ code }) => code), [0, 0, 0])
  assert.ok(post.ok > 300, `the load proves nothing: ${post.ok} POSTs`)
  const { failed, executed, twice } = post
  assert.deepEqual({ get: get.failed, failed, executed, twice }, { get: 0, failed: 0, executed: 0, twice: 0 })
})
