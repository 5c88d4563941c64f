import { readFileSync } from 'node:fs'

/** Of this package: beside the built program, and above its source. */
export function version(): string {
  for (const path of ['../package.json', '../../package.json']) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as { name: string; version: string }
      if (name === 'lameduck') return version
    } catch {
      // Not this far up.
    }
  }
  return 'unknown'
}
