/** The programs of `npm start`, built: without a TypeScript loader each starts in a third of the time, and leaves the cores to the load. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export interface Built {
  /** Where everything is. Gone when this process ends. */
  readonly folder: string
  /** Of the services of the first part (_serve.ts). */
  readonly serve: string
  /** Of the supervisor's workers (_shop.ts). */
  readonly shop: string
  /** The supervisor, an ES module. */
  readonly cluster: string
  /** How long that took: twice the work of the start of a program, and so a measure of this machine and whoever else is on it. */
  readonly tookMs: number
}

/** In here, because the programs find their packages from there. */
const cache = fileURLToPath(new URL('../node_modules/.cache/', import.meta.url))
const prefix = 'lameduck-start-'
/** What is older has been left behind by a SIGKILL. */
const leftoverMs = 600_000

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url))

export async function buildPrograms(): Promise<Built> {
  mkdirSync(cache, { recursive: true })
  sweep()
  const folder = mkdtempSync(join(cache, prefix))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

  const began = performance.now()
  const { build } = await import('tsup')
  await build({
    entry: {
      'serve': source('_serve.ts'),
      'shop': source('_shop.ts'),
      'cluster': source('../src/cluster/index.ts'),
      'cluster-worker': source('../src/cluster/worker.ts'),
    },
    outDir: folder, outExtension: () => ({ js: '.js' }), config: false, format: 'esm', target: 'node20',
    removeNodeProtocol: false, skipNodeModulesBundle: true, silent: true,
  })
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module' }))
  const built = (name: string) => join(folder, `${name}.js`)
  return { folder, serve: built('serve'), shop: built('shop'), cluster: built('cluster'), tookMs: performance.now() - began }
}

function sweep(): void {
  for (const name of readdirSync(cache).filter((name) => name.startsWith(prefix))) {
    const folder = join(cache, name)
    // Another one that starts at this moment may be faster.
    const stats = statSync(folder, { throwIfNoEntry: false })
    if (stats && Date.now() - stats.mtimeMs > leftoverMs) rmSync(folder, { recursive: true, force: true })
  }
}
