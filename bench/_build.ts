/**
 * Builds the core as users get it, so that the bench does not measure the TypeScript loader's output: tsx gives every
 * function its name by a call at run time.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build } from 'tsup'

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
