import { pathToFileURL } from 'node:url'

/** Where this file is: in the ES module and in the CommonJS build, and in the sources. */
function here(): string {
  return typeof __filename === 'string' ? pathToFileURL(__filename).href : import.meta.url
}

/** The options of Node that load the worker's side before the script, whatever kind of module that is. */
export function preload(): string[] {
  const own = here()
  // From the sources the loader of TypeScript, which the supervisor runs with as well, has been registered before.
  if (own.endsWith('.ts')) return ['--import', new URL('./worker.ts', own).href]
  return ['--import', new URL(own.endsWith('.cjs') ? './cluster-worker.cjs' : './cluster-worker.js', own).href]
}
