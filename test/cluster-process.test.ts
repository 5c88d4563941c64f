import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Step, SuperviseOptions } from '../src/cluster/index.ts'
import { Child } from './_child.ts'
import { Client } from './_client.ts'
import { alive, APP, BUILT, freePort, until } from './_cluster.ts'
import type { App } from './fixtures/cluster-app.ts'

/** A supervising process of its own. */
class Process {
  readonly child: Child
  readonly address: { host: string; port: number }
  readonly control: string
  pids: number[] = []
  readonly #steps: Step[] = []
  #folder: string

  constructor(port: number, folder: string, app: Partial<App>, options: Partial<SuperviseOptions>) {
    this.#folder = folder
    this.address = { host: '127.0.0.1', port }
    this.control = join(folder, 'control')
    const all = { script: APP, workers: 2, execArgv: [], control: this.control, readyMs: 0, deadlineMs: 10_000, heartbeatMs: 200, ...options }
    this.child = new Child('cluster-run.ts', [BUILT, JSON.stringify(all)], { env: { APP: JSON.stringify({ port, ...app }) }, ipc: true })
    this.child.process.on('message', ({ step }: { step?: Step }) => step && this.#steps.push(step))
  }

  static async run(test: (it: Process) => Promise<void>, app: Partial<App> = {}, options: Partial<SuperviseOptions> = {}): Promise<void> {
    const it = new Process(await freePort(), mkdtempSync(join(tmpdir(), 'lameduck-run-')), app, options)
    try {
      it.pids = (await it.child.says(/^ready ([\d ]+)/m)).trim().split(' ').map(Number)
      await test(it)
    } finally {
      await it.child.close()
      for (const pid of it.pids) if (alive(pid)) process.kill(pid, 'SIGKILL')
      rmSync(it.#folder, { recursive: true, force: true })
    }
  }

  /** A connection that a worker has: it has answered on it. */
  async use(): Promise<Client> {
    const client = await Client.open(this.address)
    client.request('/')
    await client.answer()
    return client
  }

  /** One request, in a worker's hands: nobody can lose it on the way there. */
  async ask(path: string): Promise<Client> {
    const client = await this.use()
    client.request(path)
    return client
  }

  /** What it says of its workers. */
  async heard(is: (step: Step) => boolean): Promise<void> {
    await until(() => this.#steps.some(is), 'a step of the supervisor')
  }

  /** Every worker has gone. */
  async gone(): Promise<void> {
    await until(() => !this.pids.some(alive), 'the end of the workers', 20_000)
  }
}

for (const [signal, code] of [['SIGTERM', 0], ['SIGINT', 0]] as const) {
  test(`${signal}: what is in flight is answered, the workers leave, the exit code is ${code}`, () => Process.run(async it => {
    const client = await it.ask('/slow?ms=500')
    it.child.kill(signal)
    const { status, text } = await client.answer()
    assert.deepEqual([status, text], [200, 'slow'])
    assert.deepEqual(await it.child.exited, { code, signal: null })
    assert.match(it.child.stdout, /stopped clean/)
    assert.equal(existsSync(it.control), false)
    await it.gone()
  }))
}

test('a second signal kills: 128 + n', () => Process.run(async it => {
  const client = await it.ask('/hang')
  it.child.kill('SIGTERM')
  // Two that it has not heard yet would come in the order of their numbers.
  await it.heard(({ what }) => what === 'retiring')
  it.child.kill('SIGINT')
  assert.deepEqual(await it.child.exited, { code: 130, signal: null })
  assert.notEqual(await client.ended(), 'open')
  await it.gone()
}))

test('SIGTERM twice at once, to the process and to its group, is one: what is in flight is answered, exit code 0', () => Process.run(async it => {
  const client = await it.ask('/slow?ms=1000')
  it.child.kill('SIGTERM')
  await new Promise(resolve => setTimeout(resolve, 5))
  it.child.kill('SIGTERM')
  assert.equal((await client.answer()).status, 200)
  assert.deepEqual(await it.child.exited, { code: 0, signal: null })
}))

test('a drain that has to be forced: exit code 1', () => Process.run(async it => {
  await it.ask('/hang')
  it.child.kill('SIGTERM')
  assert.deepEqual(await it.child.exited, { code: 1, signal: null })
}, {}, { deadlineMs: 1_000 }))

test('SIGHUP reloads; SIGUSR2 is left to its default action', () => Process.run(async it => {
  it.child.kill('SIGHUP')
  await it.gone()
  const { text } = (await it.use()).answers[0]!
  const { generation, pid } = JSON.parse(text) as { generation: string, pid: number }
  assert.equal(generation, '2')
  it.pids = [pid]
  it.child.kill('SIGUSR2')
  // Nobody listens to it, so it ends the process, as it would end any.
  assert.deepEqual(await it.child.exited, { code: null, signal: 'SIGUSR2' })
  await it.gone()
}))

test('a supervisor that is killed: its workers answer what is in flight and leave, although their output goes nowhere', () => Process.run(async it => {
  const client = await it.ask('/slow?ms=800')
  const second = await it.use()
  it.child.kill('SIGKILL')
  await it.child.exited
  // Written to a pipe that nobody reads.
  second.request('/print?text=hello')
  assert.equal((await second.answer()).text, 'printed')
  assert.equal((await client.answer()).text, 'slow')
  await it.gone()
  // It ends early: they have gone.
}, { options: { lameduckMs: 6_000 } }))

test('a start that fails: exit code 1, nothing is left behind', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-run-'))
  const it = new Process(await freePort(), folder, { fault: 'throws' }, {})
  assert.deepEqual(await it.child.exited, { code: 1, signal: null })
  assert.match(it.child.stdout, /not ready: ERR_LAMEDUCK_CLUSTER_DIED/)
  assert.match(it.child.stderr, /\[0\] Error: no such module: config/)
  assert.equal(existsSync(it.control), false)
  rmSync(folder, { recursive: true })
})
