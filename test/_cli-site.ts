import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import net, { type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../bench/_ports.ts'
import type { Status } from '../src/cluster/index.ts'
import { Client } from './_client.ts'
import { Child, type Exit } from './_child.ts'
import { buildCli, buildCluster } from './_cluster-build.ts'
import type { Who } from './_cluster.ts'
import type { App } from './fixtures/cluster-app.ts'

/** The package, built. */
export const built = await buildCluster()
process.once('exit', () => built[Symbol.dispose]())
/** Its `lameduck`. */
export const cli = await buildCli(built)

export type Ended = Exit & { stdout: string; stderr: string }

/** `lameduck …` as it is installed. */
export const lameduck = (...argv: string[]) => new Child(cli, argv)

/** How it ended, and what it said. */
export async function ended(child: Child): Promise<Ended> {
  const exit = await child.exited
  return { ...exit, stdout: child.stdout, stderr: child.stderr }
}

/** Where an error is told. */
export const lastLine = (text: string) => text.trimEnd().split('\n').at(-1) ?? ''

/** `lameduck run` of the script `current/app.js`, whose release is the symlink's, and what it is told the file's with its variables. */
export class Site {
  readonly folder = mkdtempSync(join(tmpdir(), 'lameduck-cli-reload-'))
  readonly port: number
  readonly control = join(this.folder, 'control')
  readonly variables = join(this.folder, 'variables')
  /** Who goes on asking also when a test fails would keep its process for ever. */
  readonly visitors: Visitor[] = []
  run!: Child

  constructor(port: number) {
    this.port = port
  }

  /** @param app What its first release is told. */
  static async with(options: string[], test: (site: Site) => Promise<void>, app: Partial<App> = { version: 'old' }): Promise<void> {
    const site = new Site(await freePort())
    try {
      site.deploy('r1')
      site.tell(app)
      site.run = lameduck('run', join(site.folder, 'current', 'app.js'), '--no-config', '--workers', '2', '--control', site.control, '--env-file', site.variables, '--ready', '100ms', ...options)
      await site.run.says(/ready: 2 workers of generation 1/)
      await test(site)
      assert.deepEqual(await ended(site.command('stop')).then(({ code }) => code), 0)
      assert.deepEqual(await site.run.exited, { code: 0, signal: null })
    } catch (error) {
      if (error instanceof Error && site.run) error.message += `\n${site.run.stderr}`
      throw error
    } finally {
      await Promise.all(site.visitors.map(visitor => visitor.stop()))
      await site.run?.close()
      rmSync(site.folder, { recursive: true, force: true })
    }
  }

  /** What the next release is told. */
  tell(app: Partial<App>): void {
    writeFileSync(this.variables, `APP='${JSON.stringify({ port: this.port, ...app })}'\n`)
  }

  deploy(name: string): void {
    const folder = join(this.folder, name)
    mkdirSync(folder)
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
    writeFileSync(join(folder, 'app.js'), `await import(${JSON.stringify(built.app)})\n`)
    this.point(name)
  }

  /** The symlink of the deploys. */
  point(name: string): void {
    rmSync(join(this.folder, 'current'), { force: true })
    symlinkSync(join(this.folder, name), join(this.folder, 'current'))
  }

  command(what: string, ...argv: string[]): Child {
    return lameduck(what, ...argv, '--control', this.control)
  }

  reload(): Promise<Ended> {
    return ended(this.command('reload'))
  }

  async status(): Promise<Status> {
    const { code, stdout } = await ended(this.command('status', '--json'))
    assert.equal(code, 0)
    return JSON.parse(stdout) as Status
  }

  /** A connection in the hands of a worker, and whose that is. */
  async use(): Promise<{ client: Client; who: Who }> {
    const client = await Client.open({ host: '127.0.0.1', port: this.port })
    client.request('/')
    return { client, who: JSON.parse((await client.answer()).text) as Who }
  }
}

/** Asks all the time, each time on a connection of its own, and keeps the versions that answered, and what went wrong. */
export class Visitor {
  versions = new Set<string | undefined>()
  readonly failed: unknown[] = []
  answered = 0
  #over = false
  #asking: Promise<void>

  constructor(site: Site) {
    site.visitors.push(this)
    this.#asking = this.#ask(site)
  }

  async stop(): Promise<void> {
    this.#over = true
    await this.#asking
  }

  async #ask({ port }: Site): Promise<void> {
    while (!this.#over) {
      try {
        const response = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' }, signal: AbortSignal.timeout(60_000) })
        this.versions.add((await response.json() as Who).version)
        this.answered++
      } catch (error) {
        this.failed.push(error)
      }
      // Without a pause it would be all that the machine does.
      await sleep(5)
    }
  }
}

/** A port that somebody else has, as long as the tests run. */
export const taken = await new Promise<number>(resolve => {
  const server = net.createServer().listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port)).unref()
})
