import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))
const fixtures = join(root, 'test/fixtures')
const frameworks = ['core', 'express', 'fastify', 'hapi', 'koa', 'nestjs']
const tools = ['ops', 'gc', 'cluster']
const dropIns = ['stoppable', 'http-terminator', 'terminus']

/** A folder with nothing but the tarball installed in it, and one that has the frameworks beside it. */
let bare: string
let full: string
let temp: string

/** Runs a program; its output is in the error when it fails. */
async function sh(cwd: string, command: string, ...args: string[]): Promise<string> {
  try {
    return (await run(command, args, { cwd, timeout: 100_000 })).stdout
  } catch (error) {
    const { code, signal, stdout, stderr } = error as { code: number | null, signal: string | null, stdout: string, stderr: string }
    throw Object.assign(new Error(`${command} ${args.join(' ')}: ${signal ?? code}\n${stdout}\n${stderr}`), { code, stdout })
  }
}

const node = (cwd: string, ...args: string[]) => sh(cwd, process.execPath, ...args)

/** Lends packages of this repository to a folder. Their own dependencies are found where they really are. */
async function lend(folder: string, ...names: string[]): Promise<void> {
  for (const name of names) {
    const path = join('node_modules', name)
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await symlink(join(root, path), join(folder, path))
  }
}

/** A copy of what the build needs, so that a test run neither sees nor leaves a dist/ in the work tree. */
async function pack(): Promise<string> {
  const tree = join(temp, 'tree')
  for (const name of ['src', 'docs', 'examples', 'package.json', 'tsconfig.json', 'tsup.config.ts', 'LICENSE', 'CHANGELOG.md', 'README.md']) {
    await cp(join(root, name), join(tree, name), { recursive: true })
  }
  await symlink(join(root, 'node_modules'), join(tree, 'node_modules'))
  await sh(tree, 'npm', 'pack', '--pack-destination', temp)
  const tarball = (await readdir(temp)).find(name => name.endsWith('.tgz'))
  assert.ok(tarball, 'npm pack made no tarball')
  return join(temp, tarball)
}

before(async () => {
  temp = await mkdtemp(join(tmpdir(), 'lameduck-package-'))
  const tarball = await pack()
  bare = join(temp, 'bare')
  full = join(temp, 'full')
  await mkdir(bare)
  await writeFile(join(bare, 'package.json'), '{ "private": true }')
  await sh(bare, 'npm', 'install', '--offline', '--no-audit', '--no-fund', '--ignore-scripts', tarball)
  await cp(join(fixtures, 'consumer-js'), bare, { recursive: true })
  await cp(bare, full, { recursive: true })
  await lend(full, 'express', 'fastify', 'koa', '@hapi/hapi', '@nestjs/common', '@nestjs/core', '@nestjs/platform-express', 'pino', 'reflect-metadata', 'rxjs', 'winston')
})

after(() => rm(temp, { recursive: true, force: true }))

test('the tarball brings no other package along, and holds the build, the licence, the documents and the examples only', async () => {
  assert.deepEqual((await readdir(join(bare, 'node_modules'))).filter(name => !name.startsWith('.')), ['lameduck'])
  const files = await readdir(join(bare, 'node_modules/lameduck'))
  assert.deepEqual(files.toSorted(), ['CHANGELOG.md', 'LICENSE', 'README.md', 'dist', 'docs', 'examples', 'package.json'])
  const examples = await readdir(join(bare, 'node_modules/lameduck/examples'))
  assert.deepEqual(examples.toSorted(), ['frameworks', 'haproxy', 'kubernetes', 'nginx', 'pm2', 'systemd'])
})

/** Asked for when they are needed, and not before. tsx: by a worker that runs from this repository's source, and only then. */
const peers = new Set(['ws', 'pprof-format', 'tsx/esm/api'])

test('nothing in the tarball imports another package, types included, and there is one core for each module system', async () => {
  const dist = join(bare, 'node_modules/lameduck/dist')
  const cores: string[] = []
  const files = (await readdir(dist, { withFileTypes: true })).filter(entry => entry.isFile())
  for (const { name: file } of files) {
    const text = await readFile(join(dist, file), 'utf8')
    const imports = text.matchAll(/\b(?:from|import|require)\s*\(?\s*["']([^"']+)["']/g)
    // What is no name of a package is a word in a text.
    const foreign = [...imports].map(([, from]) => from as string).filter(from => !/^(node:|\.\/)/.test(from) && /^[@\w]/.test(from) && !peers.has(from))
    assert.deepEqual(foreign, [], file)
    // The endpoint's worker and the command line are programs of their own.
    if (/^(?:ops-worker|cli)\.js$/.test(file)) continue
    if (/(class LameduckError|LameduckError = class) extends Error/.test(text)) cores.push(file.replace(/^[^.]+/, ''))
  }
  assert.deepEqual(cores.toSorted(), ['.cjs', '.d.cts', '.d.ts', '.js'])
})

test('import loads every entry point without any framework installed, and drains', async () => {
  await node(bare, 'esm.mjs', 'core')
})

test('require loads every entry point without any framework installed, and drains', async () => {
  await node(bare, 'cjs.cjs', 'core')
})

test('import: servers of http and of every framework drain while in use', async () => {
  await node(full, 'esm.mjs', ...frameworks)
})

test('require: servers of http and of every framework drain while in use', async () => {
  await node(full, 'cjs.cjs', ...frameworks)
})

for (const program of ['esm.mjs', 'cjs.cjs']) {
  test(`the drop-ins work by one changed line, in ${program}`, async () => {
    await node(bare, program, ...dropIns)
  })
}

for (const program of ['esm.mjs', 'cjs.cjs']) {
  test(`the maintenance endpoint, the GC hook and the supervisor work as they are installed, in ${program}`, async () => {
    await node(bare, program, ...tools)
  })
}

test('the command line works as it is installed', async () => {
  const bin = join(bare, 'node_modules/.bin/lameduck')
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }
  assert.equal(await sh(bare, bin, '--version'), `${version}\n`)
  assert.match(await sh(bare, bin, 'ops', '--help'), /connections/)
})

test('console, pino and winston take the log', async () => {
  await node(full, 'esm.mjs', 'loggers')
})

test('an ESM and a CJS copy in one process recognise each other\'s wrap and share the signal listener', async () => {
  await node(bare, 'both.mjs')
})

const strict = {
  noEmit: true,
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  skipLibCheck: false,
  module: 'NodeNext',
  target: 'ES2022',
  lib: ['ES2022'],
  types: ['node'],
  // Nest's.
  experimentalDecorators: true,
}

/**
 * What TypeScript has to say about a folder. Types that are lent resolve to a path outside of it, and errors there are left
 * out: without skipLibCheck it checks the frameworks' own types too, and those fail (hapi's want joi): not ours to mend.
 */
async function complaints(folder: string): Promise<string[]> {
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  const said = await node(folder, tsc, '--pretty', 'false').catch((error: { code: number, stdout: string }) => {
    if (error.code !== 2 && error.code !== 1) throw error
    assert.match(error.stdout, /error TS/)
    return error.stdout
  })
  return said.split('\n').filter(line => line.includes('error TS') && !line.startsWith('../'))
}

/** Compiles a consumer as the given kind of module. Of other packages it sees @types/node and what is lent. */
async function compile(name: string, type: 'module' | 'commonjs', files: string[], lent: string[] = [], options = {}): Promise<void> {
  const folder = join(temp, name)
  await cp(join(bare, 'node_modules/lameduck'), join(folder, 'node_modules/lameduck'), { recursive: true })
  await lend(folder, '@types/node', ...lent)
  for (const file of files) await cp(join(fixtures, 'consumer-ts', file), join(folder, file))
  await writeFile(join(folder, 'package.json'), JSON.stringify({ type }))
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: { ...strict, ...options }, files }))
  assert.deepEqual(await complaints(folder), [])
}

// Two at a time: each is mostly one core's work, on what TypeScript and Node declare.
suite('strict TypeScript compiles', { concurrency: 2 }, () => {
  const own = ['core.ts', 'adapters.ts', 'drop-ins.ts', 'tools.ts']
  const types = ['@types/express', '@types/koa', '@hapi/hapi', '@nestjs/common', '@nestjs/core', 'fastify', 'pino', 'winston']

  test('as ESM without any framework\'s types', () => compile('ts-esm', 'module', [...own, 'drop-in-named.mts']))

  test('as CJS without any framework\'s types', () => compile('ts-cjs', 'commonjs', [...own, 'drop-in-require.cts']))

  test('as ESM with the frameworks\' own types', () => compile('ts-esm-full', 'module', [...own, 'frameworks.ts'], types))

  test('as CJS with the frameworks\' own types', () => compile('ts-cjs-full', 'commonjs', [...own, 'frameworks.ts'], types))

  test('where it resolves as node10 does (module: commonjs before TypeScript 6)', () => compile('ts-node10', 'commonjs', own, [], {
    module: 'CommonJS',
    moduleResolution: 'node10',
    ignoreDeprecations: '6.0',
    esModuleInterop: true,
  }))
})
