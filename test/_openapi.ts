import { writeFileSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { openApi, openApiRoute } from '../src/ops/http/openapi.ts'
import type { Route } from '../src/ops/http/route.ts'

/** The document as a file: with its own route, and readable in a diff. */
export function openApiText(routes: readonly Route[]): string {
  return `${JSON.stringify(openApi([...routes, openApiRoute(() => [])]), null, 2)}\n`
}

// npx tsx test/_openapi.ts MODULE writes docs/openapi.json; MODULE exports `routes`, every one that there can be.
const [, self, from] = process.argv
if (self === fileURLToPath(import.meta.url) && from !== undefined) {
  const { routes } = await import(pathToFileURL(from).href) as { routes: Route[] }
  writeFileSync(new URL('../docs/openapi.json', import.meta.url), openApiText(routes))
}
