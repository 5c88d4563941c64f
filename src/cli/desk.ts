import pc from 'picocolors'
import { Client } from './client.ts'
import { harmless } from './format.ts'
import { hasColour, write, type Io } from './io.ts'
import { table, type Column } from './table.ts'
import { findTarget, type TargetOptions } from './target.ts'

/** Options that every command has. */
export interface Common extends TargetOptions {
  json?: boolean
}

/** What a command works at: where it prints, whom it asks. */
export class Desk {
  readonly io: Io
  readonly json: boolean
  /** Of stdout. */
  readonly colour: ReturnType<typeof pc.createColors>
  readonly #options: Common
  #client: Promise<Client> | undefined

  constructor(io: Io, options: Common) {
    this.io = io
    this.json = options.json === true
    this.colour = pc.createColors(hasColour(io.stdout, io.env))
    this.#options = options
  }

  /** The endpoint that is meant; looked for at the first call. */
  client(): Promise<Client> {
    return (this.#client ??= findTarget(this.#options, this.io).then(target => new Client(target)))
  }

  /** The result: on stdout, as JSON with `--json`. */
  async show(json: unknown, text: string | (() => string)): Promise<void> {
    await this.print(this.json ? JSON.stringify(json, null, 2) : typeof text === 'string' ? text : text())
  }

  async print(text: string): Promise<void> {
    await write(this.io.stdout, text.endsWith('\n') || text === '' ? text : `${text}\n`)
  }

  /** What somebody else has written: byte for byte in a pipe, without what could steer a terminal. */
  async raw(text: string): Promise<void> {
    await this.print(this.io.stdout.isTTY ? harmless(text) : text)
  }

  /** What is not the result: on stderr. */
  async remark(text: string): Promise<void> {
    await write(this.io.stderr, `${harmless(text)}\n`)
  }

  table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
    return table(columns, rows, this.colour.bold)
  }

  /** A heading above a table. */
  title(text: string): string {
    return this.colour.bold(text)
  }
}
