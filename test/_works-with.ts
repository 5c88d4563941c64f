import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Ask } from './_client.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Something without an adapter: its server is given to `wrap()`, and that is all. */
interface Unadapted {
  name: string
  /** What is named with its version. */
  packages: string[]
  /** What is wrapped. */
  server: string
}

/** A framework that is started as a process of its own and sent SIGTERM, as all of them are. */
export interface Row extends Unadapted {
  /** In `test/fixtures`. */
  program: string
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

/** Next.js is here too, and runs where it is installed. */
export const rows: Row[] = [
  {
    name: 'Apollo Server, standalone',
    packages: ['@apollo/server'],
    program: 'works-with-apollo.ts',
    server: 'the server that `startStandaloneServer` makes',
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

/** What has clients of its own kind, and so a test of its own. */
const others: (Unadapted & { test: string, underWay: string })[] = [
  {
    name: 'socket.io',
    packages: ['socket.io', 'socket.io-client'],
    server: 'the `http.Server` given to `new Server(server)`',
    test: 'test/works-with-socketio.test.ts',
    underWay: '50 messages and an acknowledgement: over WebSockets, long polls, and polls that become WebSockets',
  },
]

/** What an adapter is for, with the packages that its test runs on. */
interface Adapted {
  subpath: string
  name: string
  packages: string[]
  test: string
}

/** On these the conformance suite runs. */
const adapters: Adapted[] = [
  { subpath: 'express', name: 'Express', packages: ['express4', 'express'], test: 'test/conformance-express.test.ts' },
  { subpath: 'koa', name: 'Koa', packages: ['koa2', 'koa'], test: 'test/conformance-koa.test.ts' },
  { subpath: 'hapi', name: 'hapi', packages: ['@hapi/hapi'], test: 'test/conformance-hapi.test.ts' },
  { subpath: 'fastify', name: 'fastify', packages: ['fastify'], test: 'test/conformance-fastify.test.ts' },
  {
    subpath: 'nestjs',
    name: 'NestJS',
    packages: ['@nestjs/core', '@nestjs/platform-express', '@nestjs/platform-fastify'],
    test: 'test/conformance-nestjs.test.ts',
  },
]

const ws: Adapted = { subpath: 'ws', name: 'ws', packages: ['ws'], test: 'test/adapter-ws.test.ts' }

/** All that is said to work: by what means, and which test says so. In the order of the alphabet, what has an adapter first. */
export const matrix: { name: string, packages: string[], means: string, test: string }[] = [
  ...[...adapters, ws].map(({ subpath, ...rest }) => ({ ...rest, means: `\`lameduck/${subpath}\`` })),
  ...[...rows.map(row => ({ ...row, test: 'test/works-with.test.ts' })), ...others]
    .map(({ name, packages, server, test }) => ({ name, packages, test, means: `\`wrap()\` of ${server}` })),
].sort((a, b) => Number(a.means.startsWith('`wrap')) - Number(b.means.startsWith('`wrap')) || a.name.localeCompare(b.name, 'en', { sensitivity: 'base' }))

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
  unadapted: () => {
    const busy = rows.map(({ stream, ...row }) => ({ ...row, underWay: `a request${stream === false ? '' : ', a stream'}, 20 busy connections, an idle one` }))
    return table(['framework', 'versions', 'what is wrapped', 'under way as it stops'], [...busy, ...others].map(({ name, packages, server, underWay }) => {
      return [name, versions(packages), server, underWay]
    }))
  },
  adapters: () => table(['framework', 'adapter', 'versions'], adapters.map(({ subpath, name, packages }) => [name, `\`lameduck/${subpath}\``, versions(packages)])),
  all: () => table(['works with', 'tested versions', 'how'], matrix.map(({ name, packages, means }) => [name, versions(packages), means])),
}

/** A document with its tables, between comments such as `works-with: all`, as they are to be. */
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
