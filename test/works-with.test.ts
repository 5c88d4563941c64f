import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { Child } from './_child.ts'
import { Client, type Ask } from './_client.ts'
import { matrix, rows, withVersions, type Row } from './_works-with.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

/** A copy of test/fixtures/next-app in which `npm ci` has run: 342 MB, so not for every `npm test`. */
// Empty is none, too.
const nextApp = process.env.LAMEDUCK_NEXT || undefined

/** Asks on and on, as long as the connection may be used. @returns Whether the server said when to stop. */
async function hot(client: Client, { path, ...ask }: Ask & { path: string }): Promise<boolean> {
  for (;;) {
    client.request(path, ask)
    const answer = await client.answer(10_000)
    assert.equal(answer.status, 200)
    if (answer.header('connection') === 'close') return true
    await sleep(Math.random() * 4)
  }
}

/** SIGTERM, as an operator sends it: to a busy process of its own. */
async function drains({ program, ask = { path: '/', method: 'POST', body: 'load' }, slow = { path: '/slow' }, stream = '/stream' }: Row): Promise<void> {
  const child = new Child(program)
  const clients: Client[] = []
  try {
    const port = Number(await child.says(/^port (\d+)/m))
    const open = async () => {
      const client = await Client.open({ host: '127.0.0.1', port })
      clients.push(client)
      return client
    }
    const idle = await open()
    idle.request(ask.path, ask)
    await idle.answer(10_000)
    const load = Array.from({ length: 20 }, async () => hot(await open(), ask))
    const loaded = Promise.all(load)
    await Promise.race([sleep(1_000), loaded])

    const waiting = await open()
    const askedAt = performance.now()
    waiting.request(slow.path, slow)
    const streaming = stream === false ? undefined : await open()
    streaming?.request(stream as string)
    await streaming?.received(1)
    if (!streaming) await sleep(100)
    child.kill('SIGTERM')
    // It takes 800 ms. When this process stood still for as long, it may have been answered before.
    const inTime = performance.now() - askedAt < 600

    const answer = await waiting.answer(10_000)
    assert.equal(answer.status, 200)
    if (inTime) assert.equal(answer.header('connection'), 'close')
    assert.match(answer.text, /slow/)
    if (streaming) assert.equal((await streaming.answer(10_000)).text, '01234')
    assert.ok((await loaded).every(Boolean))
    assert.equal(await idle.ended(10_000), 'fin')
    assert.deepEqual(await child.exited, { code: 0, signal: null }, child.stderr)
  } finally {
    for (const client of clients) client.destroy()
    await child.close()
  }
  const answered = new Set(clients.flatMap(client => client.answered))
  const executed = JSON.parse(/^executed (.*)$/m.exec(child.stdout)?.[1] ?? 'null') as string[]
  assert.ok(executed.length > 100, `${executed.length} requests are no load`)
  assert.deepEqual(executed.filter(id => !answered.has(id)), [], 'executed and never answered')
  assert.deepEqual(clients.flatMap(client => client.sent).filter(id => !answered.has(id)), [], 'sent and never answered')
  assert.deepEqual(clients.filter(({ end }) => end === 'reset'), [])
}

/** Builds the application, and lets it find the package by its name. */
function buildNext(folder: string): void {
  const app = join(root, 'test/fixtures/next-app')
  for (const file of ['server.mjs', 'pages/index.js', 'pages/api/echo.js', 'pages/api/stream.js']) {
    mkdirSync(dirname(join(folder, file)), { recursive: true })
    writeFileSync(join(folder, file), readFileSync(join(app, file)))
  }
  const lameduck = join(folder, 'node_modules/lameduck')
  mkdirSync(lameduck, { recursive: true })
  writeFileSync(join(lameduck, 'package.json'), '{ "name": "lameduck", "type": "module", "exports": "./index.js" }')
  writeFileSync(join(lameduck, 'index.js'), `export * from ${JSON.stringify(pathToFileURL(join(root, 'src/core/index.ts')))}\n`)
  if (existsSync(join(folder, '.next/BUILD_ID'))) return
  const cli = join(folder, 'node_modules/next/dist/bin/next')
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, 'build'], {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1', NODE_TEST_CONTEXT: undefined },
  })
  assert.equal(status, 0, stdout + stderr)
}

// A child process takes its time to start: as many at once as there are cores, or so.
describe('works with', { concurrency: 2 }, () => {
  for (const row of rows.filter(({ packages }) => !packages.includes('next'))) {
    test(`${row.name}: SIGTERM under load loses nothing, executes nothing in vain, exits with 0`, () => drains(row))
  }

  // Not beside the others: its build takes all the machine has.
  before(() => {
    if (nextApp !== undefined) buildNext(nextApp)
  })

  test('Next.js: SIGTERM under load loses nothing, executes nothing in vain, exits with 0', {
    skip: nextApp === undefined && 'LAMEDUCK_NEXT names no folder where Next.js is installed (.ci/run does)',
  }, async () => {
    const [row] = rows.filter(({ packages }) => packages.includes('next')) as [Row]
    await drains({ ...row, program: relative(join(root, 'test/fixtures'), join(nextApp as string, 'server.mjs')) })
  })
})

test('docs/works-with.md: the NestJS program serves, and SIGTERM ends it with exit code 0', async t => {
  const text = readFileSync(join(root, 'docs/works-with.md'), 'utf8')
  const [code = ''] = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code = '']) => code).filter(code => code.includes('NestFactory'))
  // Inside the repository, so that its imports find their packages.
  const folder = mkdtempSync(join(root, 'node_modules', '.works-with-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const source = code.replace(/'lameduck(?:\/(\w+))?'/g, (_, adapter?: string) => {
    return JSON.stringify(join(root, 'src', adapter === undefined ? 'core/index.ts' : `adapters/${adapter}.ts`))
  })
  writeFileSync(join(folder, 'main.mts'), source)
  writeFileSync(join(folder, 'tsconfig.json'), '{ "compilerOptions": { "experimentalDecorators": true } }')
  const child = new Child(relative(join(root, 'test/fixtures'), join(folder, 'main.mts')), [], {
    env: { PORT: '0', TSX_TSCONFIG_PATH: join(folder, 'tsconfig.json') },
    node: ['--import', 'tsx', '--import', join(root, 'test/fixtures/announce.ts')],
    ipc: true,
  })
  try {
    const [{ port }] = await Promise.race([once(child.process, 'message'), child.exited.then(() => [{ port: 0 }])]) as [{ port: number }]
    assert.ok(port > 0, child.stderr)
    const response = await fetch(`http://127.0.0.1:${port}/`)
    assert.equal(await response.text(), 'hello from a server that is running\n')
    child.kill('SIGTERM')
    assert.deepEqual(await child.exited, { code: 0, signal: null }, child.stderr)
    assert.match(child.stdout, /lameduck: drained in/)
  } finally {
    await child.close()
  }
})

test('docs/works-with.md: the versions are those that were tested', () => {
  const text = readFileSync(join(root, 'docs/works-with.md'), 'utf8')
  assert.match(text, /<!-- works-with: adapters -->[\s\S]*<!-- works-with: unadapted -->/)
  assert.equal(text, withVersions(text), 'npx tsx test/_works-with.ts brings it up to date')
})

test('README: the matrix has all that is said to work, with the versions that were tested', () => {
  const text = readFileSync(join(root, 'README.md'), 'utf8')
  assert.match(text, /<!-- works-with: all -->\n\| works with/)
  assert.equal(text, withVersions(text), 'npx tsx test/_works-with.ts brings it up to date')
})

test('the matrix: each adapter and each test has a row, and what has a row has a test that imports its packages', () => {
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { exports: Record<string, unknown> }
  const adapters = Object.keys(exports).map(path => path.slice(2)).filter(name => existsSync(join(root, 'src/adapters', `${name}.ts`)))
  const dropIns = ['stoppable', 'terminus', 'http-terminator']
  assert.deepEqual(matrix.flatMap(({ means }) => /^`lameduck\/(\w+)`$/.exec(means)?.[1] ?? []).concat(dropIns).toSorted(), adapters.toSorted())
  for (const file of readdirSync(join(root, 'test')).filter(file => /^works-with.*\.test\.ts$/.test(file))) {
    assert.ok(matrix.some(({ test }) => test === `test/${file}`), `${file} has no row`)
  }
  for (const { name, packages, test } of matrix) {
    // Some of it is in the program that a test starts, or in a file that it shares with others.
    const programs = rows.filter(row => row.name === name).map(({ program }) => join('test/fixtures', program))
    const source = [test, ...programs].map(file => readFileSync(join(root, file), 'utf8')).join('\n')
    const helpers = [...source.matchAll(/from '\.\/(_\w+\.ts)'/g)].map(([, file = '']) => readFileSync(join(root, 'test', file), 'utf8'))
    const all = [source, ...helpers].join('\n')
    for (const wanted of packages) assert.ok(new RegExp(`(?:from |\\()'${wanted}(?:/[^']*)?'`).test(all), `${name}: ${test} does without ${wanted}`)
  }
})
