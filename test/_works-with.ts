import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Ask } from './_client.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

/** A framework without an adapter: its server is given to `wrap()`, and that is all. */
export interface Row {
  name: string
  /** What is named with its version. */
  packages: string[]
  /** In `test/fixtures`. */
  program: string
  /** What is wrapped. */
  server: string
  /** What the clients that load it send. */
  ask?: Ask & { path: string }
  /** A request that takes 800 ms. */
  slow?: Ask & { path: string }
  /** A response of five chunks, 200 ms apart, `01234`; false if it has none. */
  stream?: string | false
}

const graphql = (query: string): Ask & { path: string } => {
  return { path: '/', method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ query }) }
}

/** The matrix. Next.js is here too, and runs where it is installed. */
export const rows: Row[] = [
  {
    name: 'Apollo Server, standalone',
    packages: ['@apollo/server'],
    program: 'works-with-apollo.ts',
    server: 'the one that `startStandaloneServer` makes',
    ask: graphql('{ hello }'),
    slow: graphql('{ slow }'),
    stream: false,
  },
  { name: 'Connect', packages: ['connect'], program: 'works-with-connect.ts', server: '`http.createServer(app)`' },
  { name: 'h3', packages: ['h3'], program: 'works-with-h3.ts', server: '`http.createServer(toNodeHandler(app))`' },
  { name: 'Hono', packages: ['hono', '@hono/node-server'], program: 'works-with-hono.ts', server: 'what `serve` returns' },
  {
    name: 'Next.js, custom server',
    packages: ['next'],
    program: 'next-app/server.mjs',
    server: '`http.createServer((req, res) => handle(req, res))`',
    ask: { path: '/api/echo', method: 'POST', headers: { 'Content-Type': 'text/plain' }, body: 'load' },
    slow: { path: '/' },
    stream: '/api/stream',
  },
  { name: 'Polka', packages: ['polka'], program: 'works-with-polka.ts', server: '`polka({ server })`' },
  { name: 'srvx', packages: ['srvx'], program: 'works-with-srvx.ts', server: '`server.node.server` of `serve`' },
]

/** The frameworks that have an adapter, with the packages that the conformance suite runs on. */
const adapters: [subpath: string, name: string, packages: string[]][] = [
  ['express', 'Express', ['express4', 'express']],
  ['koa', 'Koa', ['koa2', 'koa']],
  ['hapi', 'hapi', ['@hapi/hapi']],
  ['fastify', 'fastify', ['fastify']],
  ['nestjs', 'NestJS', ['@nestjs/core', '@nestjs/platform-express', '@nestjs/platform-fastify']],
]

interface Manifest {
  name: string
  version: string
}

/** What is installed, under its own name; the version of Next.js is in the lock of its fixture. */
function installed(name: string): Manifest {
  const json = (path: string) => JSON.parse(readFileSync(join(root, path), 'utf8')) as unknown
  if (name !== 'next') return json(`node_modules/${name}/package.json`) as Manifest
  const { packages } = json('test/fixtures/next-app/package-lock.json') as { packages: Record<string, { version: string }> }
  return { name, version: packages['node_modules/next']?.version ?? 'unknown' }
}

const versions = (packages: string[]) => packages.map(installed).map(({ name, version }) => `\`${name}\` ${version}`).join(', ')

function table(head: string[], body: string[][]): string {
  return [head, head.map(() => '---'), ...body].map(cells => `| ${cells.join(' | ')} |`).join('\n')
}

const tables: Record<string, () => string> = {
  matrix: () => table(['framework', 'versions', 'what is wrapped', 'in flight at SIGTERM'], rows.map(({ name, packages, server, stream }) => {
    return [name, versions(packages), server, `a request${stream === false ? '' : ', a stream'}, 20 busy connections, an idle one`]
  })),
  adapters: () => table(['framework', 'adapter', 'versions'], adapters.map(([subpath, name, packages]) => [name, `\`lameduck/${subpath}\``, versions(packages)])),
  short: () => {
    const plain = rows.map(({ name, packages: [first = ''] }) => `${name.replace(/,.*/, '')} ${installed(first).version}`)
    return `Without an adapter, \`wrap(server)\` is tested with ${plain.slice(0, -1).join(', ')} and ${plain.at(-1)}:\n[docs/works-with.md](docs/works-with.md) has what to mind with each.`
  },
}

/** A document with its tables, between comments such as `works-with: matrix`, as they are to be. */
export function withVersions(text: string): string {
  return text.replace(/(<!-- works-with: (\w+) -->\n)[\s\S]*?(<!-- \/works-with -->)/g, (whole, begin: string, name: string, end: string) => {
    const make = tables[name]
    return make ? `${begin}${make()}\n${end}` : whole
  })
}

// `npx tsx test/_works-with.ts` after an update of a framework.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const name of ['docs/works-with.md', 'README.md']) {
    const file = join(root, name)
    writeFileSync(file, withVersions(readFileSync(file, 'utf8')))
  }
}
