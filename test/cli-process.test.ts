import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Endpoint, Terminal } from './fixtures/cli-endpoint.ts'

const main = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))
const tsx = import.meta.resolve('tsx')
const env = { ...process.env, NODE_OPTIONS: '', NODE_TEST_CONTEXT: undefined, LAMEDUCK_OPS_URL: '', LAMEDUCK_OPS_SOCKET: '' }

interface Ended { code: number | null; signal: string | null; stdout: string; stderr: string }

/** A real process; `during` sees it while it runs. */
function lameduck(argv: string[], during: (child: ReturnType<typeof spawn>) => void = () => {}, cwd?: string, more: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const child = spawn(process.execPath, ['--import', tsx, main, ...argv], { env: { ...env, ...more }, stdio: ['ignore', 'pipe', 'pipe'], cwd })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => { stdout += text })
  child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text })
  during(child)
  return new Promise(resolve => child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr })))
}

/** With a stdout that takes nothing. */
function full(argv: string[]): Promise<{ status: number | null; stderr: string }> {
  const child = spawn(process.execPath, ['--import', tsx, main, ...argv], { env, stdio: ['ignore', openSync('/dev/full', 'w'), 'pipe'] })
  let stderr = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => { stderr += text })
  return new Promise(resolve => child.once('close', status => resolve({ status, stderr })))
}

function* endlessly(): Generator<Buffer> {
  for (;;) yield Buffer.alloc(65_536)
}

test('help and version are output, a missing command is not; help tells of commands, exit codes and examples', async () => {
  const [help, version, nothing] = await Promise.all([lameduck(['ops', '--help']), lameduck(['--version']), lameduck([])])
  assert.deepEqual([help.code, help.stderr], [0, ''])
  assert.match(help.stdout, /There is no option for the token itself/)
  assert.match(version.stdout, /^\d+\.\d+\.\d+\n$/)
  assert.deepEqual([nothing.code, nothing.stdout], [2, ''])
  assert.match(nothing.stderr, /Exit codes: 0 done; 1 failed; 2 wrong .*\n?3 cannot reach it; 4 refused; 5 rolled back; 130 interrupted/)
})

test('whoever stops reading our output gets no crash', async () => {
  await using endpoint = new Endpoint({ 'GET /metrics': (_, res) => res.end('lameduck_x 1\n'.repeat(500_000)) })
  const where = await endpoint.listen()
  const ended = await lameduck(['ops', ...where, 'metrics'], child => child.stdout?.once('data', () => child.stdout?.destroy()))
  assert.deepEqual([ended.code, ended.signal, ended.stderr], [0, null, ''])
})

test('a reader of stderr that goes away ends nothing; one of stdout has the job cancelled over there', async () => {
  const job = { id: 'j1', kind: 'cpu-profile', by: 'me', state: 'running', startedAt: new Date().toISOString(), phase: 'sampling' }
  const artifact = { name: 'a.cpuprofile', kind: 'cpu-profile', bytes: 2, sha256: createHash('sha256').update('{}').digest('hex'), encoding: 'identity' }
  let looks = 0
  await using endpoint = new Endpoint({
    'POST /cpu/profile': (_, res) => res.writeHead(202).end(JSON.stringify(job)),
    'GET /jobs/j1': (_, res) => res.end(JSON.stringify(++looks < 5 ? { ...job, phase: `look ${looks}` } : { ...job, state: 'done', result: artifact })),
    'GET /artifacts/a.cpuprofile': (_, res) => res.end('{}'),
  })
  const where = await endpoint.listen()
  const { code, stdout } = await lameduck(['ops', ...where, 'cpu'], child => child.stderr?.once('data', () => child.stderr?.destroy()), new Terminal().folder)
  assert.deepEqual([code, stdout.endsWith('a.cpuprofile\n')], [0, true])
  await using endless = new Endpoint({
    'GET /artifacts': { artifacts: [{ ...artifact, bytes: 2 ** 30 }] }, 'GET /artifacts/a.cpuprofile': (_, res) => void Readable.from(endlessly()).pipe(res),
  })
  const at = await endless.listen()
  const cut = await lameduck(['ops', ...at, 'artifacts', 'get', 'a.cpuprofile', '-o', '-'], child => child.stdout?.once('data', () => child.stdout?.destroy()))
  assert.equal(cut.code, 130)
  assert.match(cut.stderr, /interrupted.*\[ERR_LAMEDUCK_CLI_INTERRUPTED\]\n$/)
})

test('a disk that is full is one line with its code', { skip: !existsSync('/dev/full') }, async () => {
  await using endpoint = new Endpoint({ 'GET /metrics': (_, res) => res.end('lameduck_x 1\n') })
  const where = await endpoint.listen()
  for (const argv of [['ops', ...where, 'metrics'], ['--help']]) {
    const { status, stderr } = await full(argv)
    assert.deepEqual([status, stderr], [1, 'lameduck: the output cannot be written (ENOSPC) [ERR_LAMEDUCK_CLI_FILE]\n'])
  }
})

test('a real SIGINT cancels the job over there', async () => {
  const job = { id: 'j1', kind: 'cpu-profile', by: 'me', state: 'running', startedAt: new Date().toISOString(), phase: 'sampling' }
  await using endpoint = new Endpoint({ 'POST /cpu/profile': (_, res) => res.writeHead(202).end(JSON.stringify(job)), 'GET /jobs/j1': job, 'DELETE /jobs/j1': {} })
  const where = await endpoint.listen()
  const { code, signal, stderr } = await lameduck(['ops', ...where, 'cpu'], child => child.stderr?.on('data', (text: string) => {
    if (text.includes('sampling')) child.kill('SIGINT')
  }))
  assert.deepEqual([code, signal], [130, null])
  assert.match(stderr, /job j1 is cancelled/)
  assert.ok(endpoint.calls.includes('DELETE /jobs/j1'))
})

test('a supervisor that does not answer holds nobody: not who asks for another one, and Ctrl-C leaves who waits for it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-cli-'))
  mkdirSync(join(folder, 'lameduck'), { mode: 0o700 })
  const path = join(folder, 'lameduck', 'app.js-00000000.1.sock')
  const sockets: Socket[] = []
  const silent = createServer(socket => void sockets.push(socket.on('error', () => {}))).listen(path)
  const at = { XDG_RUNTIME_DIR: folder }
  try {
    const missing = await lameduck(['status', '--no-config', '--control', join(folder, 'none')], () => {}, undefined, at)
    assert.equal(missing.code, 3)
    assert.match(missing.stderr, /connect ENOENT .*\(--control\); one with a control socket of its own is found by --control PATH; start one.*\[ERR_LAMEDUCK_CLUSTER_NOT_RUNNING\]\n$/)
    const none = await lameduck(['status', '--no-config'], () => {}, undefined, at)
    assert.deepEqual([none.code, none.stderr.endsWith('[ERR_LAMEDUCK_CLI_NONE]\n')], [3, true], none.stderr)
    for (const [args, code] of [[['reload'], 130], [['status', '--watch'], 0]] as const) {
      const count = sockets.length
      const left = await lameduck([...args, '--no-config', '--control', path], child => void (async () => {
        while (sockets.length === count) await sleep(20)
        await sleep(100)
        child.kill('SIGINT')
      })(), undefined, at)
      assert.deepEqual([left.code, left.signal], [code, null], left.stderr)
    }
  } finally {
    for (const socket of sockets) socket.destroy()
    silent.close()
    rmSync(folder, { recursive: true, force: true })
  }
})

test('a configuration in TypeScript is read where Node takes types out, and said to be none elsewhere', async () => {
  const terminal = new Terminal()
  writeFileSync(join(terminal.folder, 'lameduck.config.ts'), 'const config: { wokers: number } = { wokers: 1 }\nexport default config\n')
  const { code, stderr } = await lameduck(['run', 'a.js'], undefined, terminal.folder)
  assert.equal(code, 2)
  // The tests' own loader takes types out on every Node: what is wrong with it is the key.
  assert.match(stderr, /has an unknown key 'wokers'/)
})

test('the completion for bash completes commands, options and what is beneath, in a real bash', async () => {
  const { stdout: script, code } = await lameduck(['completion', 'bash'])
  assert.equal(code, 0)
  const complete = (...words: string[]) => {
    const text = `${script}\nCOMP_WORDS=(lameduck "$@"); COMP_CWORD=$#; _lameduck; printf '%s\\n' "\${COMPREPLY[@]}"`
    const { status, stdout, stderr } = spawnSync('bash', ['--norc', '-c', text, 'bash', ...words], { encoding: 'utf8' })
    assert.deepEqual([status, stderr], [0, ''])
    return stdout.trim().split('\n')
  }
  assert.deepEqual(complete('re'), ['reload'])
  assert.deepEqual(complete('ops', 'he'), ['heap'])
  assert.deepEqual(complete('ops', '--json', 'heap', 's'), ['snapshot'])
  assert.deepEqual(complete('ops', 'heap', 'snapshot', '--i'), ['--isolate'])
  assert.deepEqual(complete('ops', 'heap', 'snapshot', '--soc'), ['--socket'])
  assert.deepEqual(complete('run', '--max-r'), ['--max-rss', '--max-requests'])
})

test('the completions for zsh and fish name every command', async () => {
  for (const shell of ['zsh', 'fish']) {
    const terminal = new Terminal()
    assert.equal(await terminal.run('completion', shell), 0)
    for (const path of ['lameduck ops heap snapshot', 'lameduck ops rules arm', 'lameduck status']) assert.ok(terminal.stdout.text.includes(path), `${shell}: ${path}`)
    const found = spawnSync(shell, ['-n', '-c', terminal.stdout.text], { encoding: 'utf8' })
    // Where the shell is installed, it reads it.
    if (!found.error) assert.equal(found.stderr, '')
  }
})
