import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, test } from 'node:test'
import { useCluster, type Cluster, type ReloadResult, type Status, type Step } from '../src/cli/supervisor.ts'
import { until } from './_until.ts'
import { Window } from './_window.ts'
import { Terminal } from './fixtures/cli-endpoint.ts'

afterEach(() => useCluster(undefined))

const worker = (slot: number, more: Partial<Status['workers'][number]> = {}): Status['workers'][number] => ({
  slot, pid: 100 + slot, generation: 2, state: 'ready', uptimeMs: 65_000, connections: 7, inFlight: 2, requests: 9, rss: 50 * 2 ** 20, heapUsed: 2 ** 20, restarts: 1, ...more,
})
const STATUS: Status = {
  pid: 99, script: '/srv/app.js', generation: 2, state: 'running', wanted: 2, ready: 1, uptimeMs: 3_600_000,
  workers: [worker(0), worker(1, { pid: null, state: 'gave up', connections: null, inFlight: null, rss: null, error: 'died too often' })],
}
const RELOADED: ReloadResult = { outcome: 'reloaded', generation: 3, durationMs: 6_200, cut: 0, readyBefore: 2, readyLeast: 2 }
const refuse = (code: string, message: string) => Promise.reject(Object.assign(new Error(message), { code }))

/** A supervisor that does what a test says, and keeps what it was told. */
function fake(answer: (what: Parameters<Cluster['command']>[1], listener: Parameters<Cluster['command']>[2]) => unknown, paths = ['/run/a.sock']): { told: unknown[]; options: Record<string, unknown>[] } {
  const seen = { told: [] as unknown[], options: [] as Record<string, unknown>[] }
  useCluster({
    supervise(options) {
      seen.options.push({ ...options })
      const report = Promise.resolve(answer({ do: 'stop' }, undefined) as never)
      return { ready: Promise.resolve(), stopped: report, closed: report.then(() => {}), control: '/run/own.sock', status: () => STATUS } as unknown as ReturnType<Cluster['supervise']>
    },
    async command(path, what, listener) {
      seen.told.push([path, what])
      return answer(what, listener) as never
    },
    findSupervisors: script => Promise.resolve(script === 'other.js' ? [] : paths.map(path => ({ path, status: STATUS }))),
  })
  return seen
}

const STEPS: Step[] = [
  { slot: 0, pid: 201, generation: 3, what: 'starting' }, { slot: 0, pid: 201, generation: 3, what: 'ready' },
  { slot: 0, pid: 100, generation: 2, what: 'retiring', why: 'reload' }, { slot: 1, generation: 3, what: 'restarting', afterMs: 1_500 },
]

test('reload tells each worker\'s step, and at the end what came of it', async () => {
  const { told } = fake((_, listener) => {
    for (const step of STEPS) listener?.step?.(step)
    return RELOADED
  })
  const terminal = new Terminal()
  assert.equal(await terminal.run('reload'), 0, terminal.stderr.text)
  assert.deepEqual(told, [['/run/a.sock', { do: 'reload' }]])
  assert.equal(terminal.stdout.text, 'reloaded: generation 3 in 6.2 s; 2 ready before, never fewer than 2\n')
  assert.equal(terminal.stderr.text, [
    'reloading', 'worker 0 (pid 201) of generation 3: starting', 'worker 0 (pid 201) of generation 3: ready',
    'worker 0 (pid 100) of generation 2: retiring: reload', 'worker 1 of generation 3: restarting in 1.5 s', '',
  ].join('\n'))
  const tty = new Terminal({ tty: true })
  assert.equal(await tty.run('reload', '--json'), 0)
  assert.deepEqual(JSON.parse(tty.stdout.text), RELOADED)
  assert.match(tty.stderr.text, /worker 1 of generation 3: restarting/)
})

test('a reload that has to wait says for what, each thing in its turn, and then goes on to tell its own steps', async () => {
  const ISOLATED: Step = { slot: 1, pid: 101, generation: 2, what: 'isolated' }
  fake((_, listener) => {
    listener?.waiting?.('worker 1 (pid 101) is isolated')
    listener?.step?.(ISOLATED)
    listener?.waiting?.('another reload goes on')
    listener?.waiting?.(undefined)
    for (const step of STEPS) listener?.step?.(step)
    return RELOADED
  })
  const terminal = new Terminal()
  assert.equal(await terminal.run('reload'), 0, terminal.stderr.text)
  assert.deepEqual(terminal.stderr.text.split('\n').slice(0, 6), [
    'reloading', 'waiting: worker 1 (pid 101) is isolated', 'worker 1 (pid 101) of generation 2: isolated', 'waiting: another reload goes on',
    'reloading', 'worker 0 (pid 201) of generation 3: starting',
  ])
  const tty = new Terminal({ tty: true })
  assert.equal(await tty.run('reload'), 0)
  // What stands there in the end: its own title again, and its own workers.
  const last = tty.stderr.text.slice(tty.stderr.text.lastIndexOf('reloading ('))
  assert.match(last, /worker 0 \(pid 201\) of generation 3: ready/)
  assert.doesNotMatch(last, /waiting|isolated/)
  assert.match(tty.stderr.text, /waiting: another reload goes on \(.*\n.*worker 1 \(pid 101\) of generation 2: isolated/)
})

test('a reload that was rolled back ends with 5 and its reason; what else goes wrong with its own exit code', async () => {
  for (const [code, message, exit] of [
    ['ERR_LAMEDUCK_CLUSTER_UNREADY', 'rolled-back: the first worker was never ready', 5],
    ['ERR_LAMEDUCK_CLUSTER_UNREADY', 'mixed: half of it', 1],
    ['ERR_LAMEDUCK_CLUSTER_BUSY', 'worker 1 is being replaced already', 1],
    ['ERR_LAMEDUCK_CLUSTER_NOT_RUNNING', 'no supervisor answers on /run/a.sock: connect ECONNREFUSED', 3],
    ['ERR_LAMEDUCK_CLUSTER_NOT_RUNNING', 'no supervisor answers on /run/a.sock: connect EACCES', 4],
  ] as const) {
    fake(() => refuse(code, message))
    const terminal = new Terminal()
    assert.equal(await terminal.run('reload'), exit, message)
    assert.ok(terminal.stderr.text.includes(message.replace('rolled-back', 'rolled back')) && terminal.stderr.text.includes(`[${code}]`), terminal.stderr.text)
  }
})

test('Ctrl-C leaves a reload, which goes on', async () => {
  let end: (result: unknown) => void = () => {}
  fake(() => new Promise(resolve => {
    end = resolve
  }))
  const terminal = new Terminal()
  const exited = terminal.run('reload')
  await terminal.stderr.says('reloading')
  terminal.emit('SIGINT')
  assert.equal(await exited, 130)
  assert.match(terminal.stderr.text, /reload goes on over there/)
  end(RELOADED)
})

test('status is a table of slots, JSON on request, and comes again and again with --watch', async () => {
  fake(() => STATUS)
  const terminal = new Terminal()
  assert.equal(await terminal.run('status'), 0)
  assert.match(terminal.stdout.text, /^\/srv\/app\.js \(pid 99\): running, generation 2, 1 of 2 ready, up 1h 00m$/m)
  assert.match(terminal.stdout.text, /^slot +pid +generation +state +uptime +connections +in-flight +RSS +restarts$/m)
  assert.match(terminal.stdout.text, /^ +0 +100 +2 +ready +1m 05s +7 +2 +50\.0 MiB +1$/m)
  assert.match(terminal.stdout.text, /^ +1 +- +2 +gave up +- +- +- +- +1$/m)
  assert.match(terminal.stdout.text, /^slot 1: died too often$/m)
  const watching = new Terminal()
  const exited = watching.run('status', '--watch', '--json', '--interval', '50ms')
  await watching.stdout.says(/\n.*\n.*\n/)
  watching.emit('SIGTERM')
  assert.equal(await exited, 0)
  for (const line of watching.stdout.text.trim().split('\n')) assert.deepEqual(JSON.parse(line), STATUS)
})

test('status --watch in a window is the table of this moment, also when a worker comes or goes between two others', async () => {
  const others = STATUS.workers.map(other => ({ ...other, slot: other.slot * 5 }))
  const statuses = [others, [others[0]!, worker(1), others[1]!], others].map(workers => ({ ...STATUS, workers }))
  const plain = await Promise.all(statuses.map(async status => {
    fake(() => status)
    const terminal = new Terminal()
    await terminal.run('status')
    return terminal.stdout.text.trimEnd()
  }))
  let asked = 0
  fake(() => statuses[asked++] ?? statuses.at(-1))
  const tty = new Terminal({ tty: true })
  const exited = tty.run('status', '--watch', '--interval', '10ms')
  await until(() => asked > statuses.length, 'one more than all of them').finally(() => tty.emit('SIGTERM'))
  assert.equal(await exited, 0)
  const window = new Window(tty.stdout.columns, tty.stdout.rows)
  // A terminal makes a line's end of what is only its feed.
  window.write(`$ lameduck status --watch\n${tty.stdout.text}`.replaceAll('\n', '\r\n'))
  const shown = new Set(window.pictures.map(picture => picture.split('\n').slice(1).join('\n')))
  assert.deepEqual([...shown].filter(picture => picture !== '').toSorted(), [...new Set(plain)].toSorted())
  assert.equal(window.text, `$ lameduck status --watch\n${plain.at(-1)}`)
})

test('status --watch in a terminal that does not say how large it is writes one table below the other', async () => {
  fake(() => STATUS)
  const tty = new Terminal({ tty: true, env: { NO_COLOR: '1' } })
  Object.assign(tty.stdout, { columns: 0, rows: 0 })
  const exited = tty.run('status', '--watch', '--interval', '10ms')
  await tty.stdout.says(/(^slot 1: died too often\n[^]*){2}/m).finally(() => tty.emit('SIGTERM'))
  assert.equal(await exited, 0)
  assert.ok(!tty.stdout.text.includes('\x1b'))
})

test('stop and scale wait for their end', async () => {
  const { told } = fake(what => what.do === 'stop' ? { outcome: 'clean', code: 0, reason: 'stop', durationMs: 2_100 } : STATUS)
  const terminal = new Terminal()
  assert.equal(await terminal.run('stop', '--control', '/x'), 0)
  assert.equal(terminal.stdout.text, 'stopped: clean in 2.1 s\n')
  assert.equal(await terminal.run('scale', '2'), 0)
  for (const wrong of ['0', '9999', '-1', 'many', '1.5']) assert.equal(await terminal.run('scale', ...wrong.startsWith('-') ? ['--', wrong] : [wrong]), 2, wrong)
  assert.deepEqual(told, [['/x', { do: 'stop' }], ['/run/a.sock', { do: 'scale', workers: 2 }]])
})

test('several supervisors are listed, and none is said', async () => {
  fake(() => STATUS, ['/run/a.sock', '/run/b.sock'])
  const terminal = new Terminal()
  assert.equal(await terminal.run('status'), 2)
  assert.match(terminal.stderr.text, /99 +\/srv\/app\.js +2 +\/run\/b\.sock/)
  assert.match(terminal.stderr.text, /--control \/run\/a\.sock.*\[ERR_LAMEDUCK_CLI_SEVERAL\]/)
  assert.equal(await terminal.run('status', '--script', 'other.js'), 3)
  assert.match(terminal.stderr.text, /no supervisor of \/.*\/other\.js runs; one runs for \/srv\/app\.js \(--control \/run\/a\.sock\), one for .*\[ERR_LAMEDUCK_CLI_NONE\]/)
})

test('a supervisor that does not answer: who said that it is this one, and which one runs instead', async () => {
  fake(() => refuse('ERR_LAMEDUCK_CLUSTER_NOT_RUNNING', 'no supervisor answers on /gone: connect ENOENT'))
  const terminal = new Terminal({ env: { LAMEDUCK_CONTROL: '/gone' } })
  const hint = / one runs for \/srv\/app\.js \(--control \/run\/a\.sock\) \[ERR_LAMEDUCK_CLUSTER_NOT_RUNNING\]\n/
  for (const [args, from] of [[[], 'LAMEDUCK_CONTROL'], [['--control', '/gone'], '--control']] as const) {
    for (const command of ['status', 'reload', 'stop']) {
      assert.equal(await terminal.run(command, ...args), 3)
      assert.match(terminal.stderr.text, hint)
      assert.ok(terminal.stderr.text.includes(`connect ENOENT (${from}); `), terminal.stderr.text)
    }
  }
  Object.assign(terminal.env, { LAMEDUCK_CONTROL: '' })
  writeFileSync(join(terminal.folder, 'lameduck.config.json'), '{ "script": "app.js", "control": "/gone" }')
  assert.equal(await terminal.run('status'), 3)
  assert.match(terminal.stderr.text, /\(control in the configuration file\); one runs for/)
  // Found, and gone by then.
  assert.equal(await terminal.run('status', '--no-config'), 3)
  assert.match(terminal.stderr.text, /connect ENOENT; one runs for/)
})

test('a flag wins over the variable, that over the file, in which supervisor is meant', async () => {
  const { told } = fake(() => STATUS)
  const terminal = new Terminal({ env: { LAMEDUCK_CONTROL: '/variable' } })
  writeFileSync(join(terminal.folder, 'lameduck.config.json'), '{ "script": "other.js", "control": "/file" }')
  assert.equal(await terminal.run('status', '--control', '/flag'), 0)
  assert.equal(await terminal.run('status', '--script', 'app.js'), 0)
  assert.equal(await terminal.run('status'), 0)
  Object.assign(terminal.env, { LAMEDUCK_CONTROL: '' })
  assert.equal(await terminal.run('status'), 0)
  assert.deepEqual(told.map(one => (one as [string])[0]), ['/flag', '/run/a.sock', '/variable', '/file'])
  // Of that very script.
  Object.assign(terminal.env, { LAMEDUCK_CONTROL: '' })
  assert.equal(await terminal.run('status', '--script', 'other.js'), 0)
  assert.equal((told.at(-1) as [string])[0], '/file')
  // As it says to `run`: there is none.
  Object.assign(terminal.env, { LAMEDUCK_CONTROL: 'off' })
  assert.equal(await terminal.run('status'), 3)
})

const CLEAN = { outcome: 'clean', code: 0, reason: 'SIGTERM', durationMs: 10 }

test('run: flags win over the environment, that over the file', async () => {
  const { options } = fake(() => CLEAN)
  const terminal = new Terminal({ env: { LAMEDUCK_WORKERS: '3', LAMEDUCK_READY_TIMEOUT: '5s', LAMEDUCK_MAX_RSS: '', LAMEDUCK_NODE_OPTION: '--no-warnings --expose-gc' } })
  writeFileSync(join(terminal.folder, 'lameduck.config.json'), '{ "script": "app.js", "workers": 2, "readyTimeoutMs": 1, "maxRssBytes": 7, "env": { "A": "b" } }')
  assert.equal(await terminal.run('run', '--workers', '4', '--max-heap', '1.5G', '--control', 'off'), 0, terminal.stderr.text)
  const { logger: _, ...told } = options[0] ?? {}
  assert.deepEqual(told, {
    script: 'app.js', workers: 4, readyTimeoutMs: 5_000, maxRssBytes: 7, maxHeapBytes: 1.5 * 2 ** 30, env: { A: 'b' }, control: false,
    execArgv: ['--no-warnings', '--expose-gc'], exit: false,
  })
  assert.equal(await terminal.run('run', 'other.js', '--no-config', '--node-option', '--a', '--node-option=--b', '--', '--port', '80'), 0, terminal.stderr.text)
  assert.deepEqual([options[1]?.script, options[1]?.args, options[1]?.workers, options[1]?.execArgv], ['other.js', ['--port', '80'], 3, ['--a', '--b']])
  assert.match(terminal.stderr.text, /lameduck: ready: only 1 of 2 workers of generation 2; control socket \/run\/own\.sock\n/)
  assert.match(terminal.stderr.text, /lameduck: stopped: clean/)
})

test('run: a variable that is called as an option\'s would be and is none\'s is named, in one line; those of others are not', async () => {
  const { options } = fake(() => CLEAN)
  const others = { LAMEDUCK_CONFIG: '', LAMEDUCK_OPS_TOKEN: 'secret', LAMEDUCK_SLOT: '1', LAMEDUCK_DEBUG: '1', LAMEDUCK_SERVICE_PORT_HTTP: '80', LAMEDUCK_PORT_80_TCP_ADDR: '10.0.0.1', LAMEDUCK_DEMO_SERVICE_HOST: 'a', LAMEDUCK_DEMO_PORT: 'tcp://10.0.0.1:80' }
  const terminal = new Terminal({ env: { LAMEDUCK_WORKERS: '3', LAMEDUCK_WORKER: '5', LAMEDUCK_MAX_MEMORY: '1G', ...others } })
  assert.equal(await terminal.run('run', 'a.js', '--quiet'), 0, terminal.stderr.text)
  assert.equal(options[0]?.workers, 3)
  assert.match(terminal.stderr.text, /^lameduck: no option: LAMEDUCK_WORKER, LAMEDUCK_MAX_MEMORY \(see lameduck run --help\)$/m)
  Object.assign(terminal.env, { LAMEDUCK_WORKER: undefined, LAMEDUCK_MAX_MEMORY: undefined })
  const before = terminal.stderr.text.length
  assert.equal(await terminal.run('run', 'a.js', '--quiet'), 0, terminal.stderr.text)
  assert.doesNotMatch(terminal.stderr.text.slice(before), /no option/)
})

test('run: a configuration that cannot be is one line with its code, and exit code 2', async () => {
  fake(() => CLEAN)
  for (const [name, text, message] of [
    ['lameduck.config.json', '{ "script": "a.js", "worker": 2 }', /has an unknown key 'worker'; allowed: args, canaryErrors/],
    ['lameduck.config.json', '{ "script": ', /cannot be read/],
    ['lameduck.config.json', '[]', /must give an object/],
    ['lameduck.config.mjs', 'throw new Error("no\\nluck")', /failed: no\\nluck/],
  ] as const) {
    const terminal = new Terminal()
    writeFileSync(join(terminal.folder, name), text)
    assert.equal(await terminal.run('run'), 2)
    assert.match(terminal.stderr.text, message)
    assert.match(terminal.stderr.text, /^[^\n]+\[ERR_LAMEDUCK_CLI_CONFIG\]\n$/)
  }
  const terminal = new Terminal({ env: { LAMEDUCK_WORKERS: 'four' } })
  assert.equal(await terminal.run('run', 'a.js'), 2)
  assert.match(terminal.stderr.text, /LAMEDUCK_WORKERS is 'four'; allowed: a whole number/)
  const none = new Terminal()
  assert.equal(await none.run('run'), 2)
  assert.match(none.stderr.text, /no script/)
  assert.equal(await none.run('run', 'a.js', '--config', 'none.json'), 2)
  assert.match(none.stderr.text, /none\.json is not there/)
  for (const extension of ['js', 'json']) writeFileSync(join(none.folder, `lameduck.config.${extension}`), '{}')
  assert.equal(await none.run('run', 'a.js'), 2)
  assert.match(none.stderr.text, /lameduck\.config\.json are both there; say which/)
})

test('run: what the supervisor refuses is 2, what fails later has its code', async () => {
  const terminal = new Terminal()
  const supervise = (code: string): Cluster['supervise'] => () => {
    throw Object.assign(new Error('no such thing'), { code })
  }
  const { supervise: _, ...rest } = { supervise: supervise(''), command: () => Promise.resolve() as Promise<never>, findSupervisors: () => Promise.resolve([]) }
  for (const code of ['ERR_LAMEDUCK_CLUSTER_SCRIPT', 'ERR_LAMEDUCK_CLUSTER_OPTION']) {
    useCluster({ ...rest, supervise: supervise(code) })
    assert.equal(await terminal.run('run', 'none.js'), 2)
    assert.ok(terminal.stderr.text.includes(`[${code}]`))
  }
  fake(() => ({ outcome: 'failed', code: 1, reason: 'x', durationMs: 1, error: Object.assign(new Error('it never listened'), { code: 'ERR_LAMEDUCK_CLUSTER_SILENT' }) }))
  assert.equal(await terminal.run('run', 'a.js'), 1)
  assert.match(terminal.stderr.text, /it never listened \[ERR_LAMEDUCK_CLUSTER_SILENT\]/)
  fake(() => ({ outcome: 'forced', code: 130, reason: 'SIGINT after SIGINT', durationMs: 1 }))
  assert.equal(await terminal.run('run', 'a.js', '--quiet'), 130)
})
