/**
 * Builds the core as users get it, so that the bench does not measure the TypeScript loader's output: tsx gives every
 * function its name by a call at run time.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build, type Options } from 'tsup'

/** From here on, server children load the build. */
export async function buildCore(): Promise<Disposable> {
  const outDir = mkdtempSync(join(tmpdir(), 'lameduck-core-'))
  const entry = { core: fileURLToPath(new URL('../src/core/index.ts', import.meta.url)) }
  await build({
    entry, outDir, config: false, format: 'esm', target: 'node20', outExtension: () => ({ js: '.mjs' }), silent: true,
  })
  process.env['BENCH_CORE'] = pathToFileURL(join(outDir, 'core.mjs')).href
  return {
    [Symbol.dispose]() {
      delete process.env['BENCH_CORE']
      rmSync(outDir, { recursive: true, force: true })
    },
  }
}

/** Builds the maintenance endpoint with its worker, as users get it, in a folder of its own: `index.js`, `ops.js`. From source, the worker would have a TypeScript compiler in its memory. */
export async function buildOps(): Promise<{ folder: string } & Disposable> {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-ops-'))
  const source = (path: string) => fileURLToPath(new URL(`../src/${path}`, import.meta.url))
  const shared: Options = { outDir: folder, config: false, format: 'esm', target: 'node20', removeNodeProtocol: false, outExtension: () => ({ js: '.js' }), silent: true }
  await build({ ...shared, entry: { index: source('core/index.ts'), ops: source('ops/index.ts') }, splitting: true })
  await build({ ...shared, entry: { 'ops-worker': source('ops/worker.ts') }, splitting: false })
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module', name: 'lameduck' }))
  return { folder, [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }) }
}
