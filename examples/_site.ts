/** Where the shop is deployed to: a folder for each release, and a symlink to the current one. */
import { mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Built } from './_build.ts'
import type { Environment } from './_shop.ts'

/** What is particular to a release. */
export type Release = Pick<Environment, 'RELEASE' | 'DATABASE_URL'>

export class Site {
  /** What the supervisor runs: the path leads through the symlink. */
  readonly script: string
  readonly #releases: string
  readonly #current: string
  readonly #program: string

  constructor({ folder, shop }: Built) {
    this.#releases = join(folder, 'releases')
    this.#current = join(folder, 'current')
    this.#program = pathToFileURL(shop).href
    this.script = join(this.#current, 'app.js')
  }

  /** Puts a release there, and makes it the current one. Whoever is running does not notice. */
  deploy(release: Release): void {
    const folder = join(this.#releases, release.RELEASE)
    mkdirSync(folder, { recursive: true })
    const program = `Object.assign(process.env, ${JSON.stringify(release)})\nawait import(${JSON.stringify(this.#program)})\n`
    writeFileSync(join(folder, 'app.js'), program)
    // In one step: there is a current release at any moment. (`ln -sfn` takes two.)
    symlinkSync(folder, `${this.#current}.next`)
    renameSync(`${this.#current}.next`, this.#current)
  }
}
