/** The examples' own apps as programs to start, with the package's name resolved to the build (or to the sources). */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Program } from './_proxy-instances.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

export interface ExampleApp extends Program, Disposable {
  /** The copy that is run. */
  file: string
}

/**
 * @param app Such as `nginx/app.mjs`.
 * @param core What `lameduck` stands for: the URL of a build (see _build.ts).
 */
export function exampleApp(app: string, core: string, edit: (text: string) => string = (text) => text): ExampleApp {
  // Inside the repository, so that its `import 'ws'` finds the package.
  const folder = mkdtempSync(join(root, 'node_modules', '.examples-'))
  const file = join(folder, 'app.mjs')
  const text = edit(readFileSync(join(root, 'examples', app), 'utf8'))
  if (!text.includes("'lameduck'")) throw new Error(`${app} does not import lameduck`)
  writeFileSync(file, text.replaceAll("'lameduck'", JSON.stringify(core)))
  const journal = new URL('_proxy-journal.mjs', import.meta.url).href
  return {
    file,
    args: () => ['--import', journal, file],
    env: (_port, journal) => ({ JOURNAL: journal }),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  }
}
