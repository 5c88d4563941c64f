import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type Options } from 'tsup'
import config from '../tsup.config.ts'

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** What a build gives. */
export type Cluster = typeof import('../src/cluster/index.ts')

/** The package as users get it, in a folder of its own: workers that need no loader start ten times faster. */
export interface Built {
  folder: string
  /** Its `lameduck/cluster`. */
  main: string
  /** The fixture: `wrap` and all. */
  app: string
  /** A process that supervises; ES modules only. */
  run: string
  [Symbol.dispose](): void
}

/** @param format Of what the supervisor and its workers load. */
export async function buildCluster(format: 'esm' | 'cjs' = 'esm'): Promise<Built> {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-built-'))
  await build({
    entry: {
      index: source('../src/core/index.ts'),
      cluster: source('../src/cluster/index.ts'),
      'cluster-worker': source('../src/cluster/worker.ts'),
      app: source('fixtures/cluster-app.ts'),
      ...(format === 'esm' && { run: source('fixtures/cluster-run.ts') }),
    },
    outDir: folder,
    config: false,
    format,
    outExtension: () => ({ js: format === 'esm' ? '.js' : '.cjs' }),
    target: 'node20',
    cjsInterop: true,
    removeNodeProtocol: false,
    splitting: true,
    shims: true,
    silent: true,
  })
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module', name: 'lameduck' }))
  symlinkSync(source('fixtures/cluster-child.mjs'), join(folder, 'cluster-child.mjs'))
  const suffix = format === 'esm' ? 'js' : 'cjs'
  return {
    folder,
    main: join(folder, `cluster.${suffix}`),
    app: join(folder, `app.${suffix}`),
    run: join(folder, 'run.js'),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  }
}

/** Builds the command line beside a build of the cluster, as the package does it. @returns Its program. */
export async function buildCli({ folder }: Built): Promise<string> {
  const own = (config as Options[]).find(({ entry }) => entry && 'cli' in entry)
  if (!own) throw new Error('tsup.config.ts builds no command line')
  await build({ ...own, outDir: folder, config: false, silent: true })
  return join(folder, 'cli.js')
}
