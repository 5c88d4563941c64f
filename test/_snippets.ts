import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after } from 'node:test'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))

/** A code block of a page. */
export interface Snippet {
  line: number
  language: string
  code: string
  /** The comment on the line before it, which says what it is. */
  mark: string | undefined
}

/** A page of the repository, and its code blocks. */
export function readPage(name: string): { text: string, snippets: Snippet[] } {
  const text = readFileSync(join(root, name), 'utf8')
  const blocks = text.matchAll(/(?:<!-- ([^\n]*) -->\n)?```(\w+)\n([\s\S]*?)```/g)
  const snippets = [...blocks].map(({ index, 1: mark, 2: language = '', 3: code = '' }): Snippet => {
    return { line: text.slice(0, index).split('\n').length, language, code, mark }
  })
  return { text, snippets }
}

/** Where the entry points are that are not adapters. */
const sources: Record<string, string> = { '': 'core/index.ts', ops: 'ops/index.ts', gc: 'ops/gc/index.ts', cluster: 'cluster/index.ts' }

/** The package's own name, as a clone without a build can resolve it. */
export function fromSource(code: string): string {
  return code.replace(/'lameduck(?:\/([\w-]+))?'/g, (_, entry = '') => {
    return JSON.stringify(join(root, 'src', sources[entry as string] ?? `adapters/${entry as string}.ts`))
  })
}

// Inside the repository, so that `import 'express'` finds the package.
const folder = mkdtempSync(join(root, 'node_modules', '.snippets-'))
after(() => rmSync(folder, { recursive: true, force: true }))

export interface Program {
  child: ChildProcess
  exit: Promise<{ code: number | null, signal: NodeJS.Signals | null, output: string }>
  output(): string
  /** The ports that its servers listen on, in order. */
  ports: number[]
}

/** Runs a snippet as a program of its own. */
export function start({ line, code }: Snippet, before = ''): Program {
  const file = join(folder, `line-${line}.mjs`)
  writeFileSync(file, before + fromSource(code))
  return startFile(file)
}

/** Runs a program. Its servers tell their ports as messages. */
export function startFile(file: string): Program {
  const child = fork(file, {
    execArgv: ['--import', 'tsx', '--import', join(root, 'test/fixtures/announce.ts')],
    env: { ...process.env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  let output = ''
  child.stdout?.on('data', chunk => (output += chunk))
  child.stderr?.on('data', chunk => (output += chunk))
  const ports: number[] = []
  child.on('message', (message: { port: number }) => ports.push(message.port))
  const exit = once(child, 'exit').then(([code, signal]) => ({ code, signal, output }))
  return { child, exit, output: () => output, ports }
}
