/** The options of Node that load the worker's side before the script, whatever kind of module that is. */
export function preload(): string[] {
  const own = import.meta.url
  // From the sources the loader of TypeScript, which the supervisor runs with as well, has been registered before.
  if (own.endsWith('.ts')) return ['--import', new URL('./worker.ts', own).href]
  return ['--import', new URL(own.endsWith('.cjs') ? './cluster-worker.cjs' : './cluster-worker.js', own).href]
}
