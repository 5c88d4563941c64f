import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ops } from '../src/ops/index.ts'
import { ask, freshToken } from './_ops.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

interface Operation {
  summary: string
  security: { bearer: [scope: string] }[]
}

export interface Document {
  paths: Record<string, Record<string, Operation>>
}

/** What an endpoint with everything switched on says of itself. */
export async function document(): Promise<Document> {
  const token = freshToken()
  const endpoint = await ops({ thread: false, listen: { port: 0 }, audit: false, eval: true, auth: { tokens: [{ name: 'docs', scopes: ['read'], token }] } }).ready
  try {
    return (await ask(endpoint.address, '/openapi.json', { token })).json as unknown as Document
  } finally {
    await endpoint.close()
  }
}

/** docs/openapi.json. */
export const jsonText = (made: Document): string => `${JSON.stringify(made, null, 2)}\n`

/** The routes of the page, as a table. */
function table({ paths }: Document): string {
  const rows = Object.entries(paths).flatMap(([path, operations]) => Object.entries(operations).map(([method, { summary, security: [first] }]) => (
    `| \`${method.toUpperCase()} ${path}\` | ${first?.bearer[0] ?? 'none'} | ${summary.replaceAll('|', '\\|')} |`
  )))
  return ['| route | scope | |', '|---|---|---|', ...rows].join('\n')
}

/** docs/ops.md with the table of this document. */
export function withRoutes(text: string, made: Document): string {
  return text.replace(/(<!-- routes -->\n)[\s\S]*?(<!-- \/routes -->)/, (_, before: string, after: string) => `${before}${table(made)}\n${after}`)
}

// npx tsx test/_ops-docs.ts brings both up to date.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const made = await document()
  writeFileSync(join(root, 'docs/openapi.json'), jsonText(made))
  const page = join(root, 'docs/ops.md')
  writeFileSync(page, withRoutes(readFileSync(page, 'utf8'), made))
}
