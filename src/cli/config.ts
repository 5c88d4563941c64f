import { existsSync, readFileSync } from 'node:fs'
import { basename, extname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { EXIT, Failure } from './failure.ts'
import { oneLine } from './format.ts'
import type { Io } from './io.ts'
import { FILE_ONLY, RUN_OPTIONS } from './run-options.ts'

/** Names of the file, in the working folder. */
const NAMES = ['js', 'mjs', 'cjs', 'ts', 'mts', 'json'].map(extension => `lameduck.config.${extension}`)

function broken(file: string, what: string, hint?: string): Failure {
  return new Failure('ERR_LAMEDUCK_CLI_CONFIG', `${file} ${what}`, { exit: EXIT.usage, hint })
}

async function load(file: string): Promise<unknown> {
  if (extname(file) === '.json') {
    try {
      return JSON.parse(readFileSync(file, 'utf8')) as unknown
    } catch (error) {
      throw broken(file, `cannot be read: ${oneLine((error as Error).message)}`)
    }
  }
  try {
    const module = await import(pathToFileURL(file).href) as { default?: unknown }
    return module.default
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ERR_UNKNOWN_FILE_EXTENSION') {
      throw broken(file, `needs a Node that takes the types out itself, from 22.18 on; this is ${process.version}`, 'write it as lameduck.config.js or .json')
    }
    throw broken(file, `failed: ${oneLine(message ?? String(error))}`)
  }
}

/** Which file: as said, or the one that is here. */
function find(given: string | undefined, io: Io): string | undefined {
  if (given !== undefined) {
    const file = resolve(io.cwd(), given)
    if (!existsSync(file)) throw broken(file, 'is not there', 'see --config and LAMEDUCK_CONFIG')
    return file
  }
  const [first, second] = NAMES.map(name => join(io.cwd(), name)).filter(file => existsSync(file))
  if (first && second) throw broken(first, `and ${basename(second)} are both there`, 'say which: --config FILE')
  return first
}

/**
 * What the configuration file says: `lameduck.config.{js,mjs,cjs,ts,mts,json}` in the working folder, or another; nothing when there is none.
 *
 * @param given `--config FILE`; false for none.
 * @throws {Failure} `ERR_LAMEDUCK_CLI_CONFIG`, exit code 2.
 */
export async function readConfig(given: string | false | undefined, io: Io): Promise<Record<string, unknown>> {
  const file = given === false ? undefined : find(given ?? (io.env.LAMEDUCK_CONFIG || undefined), io)
  if (file === undefined) return {}
  const config = await load(file)
  if (typeof config !== 'object' || config === null || Array.isArray(config)) throw broken(file, 'must give an object', 'export default { script: "app.js", workers: 4 }')
  const known = [...FILE_ONLY, ...RUN_OPTIONS.map(({ name }) => name)]
  const unknown = Object.keys(config).find(key => !known.includes(key))
  if (unknown !== undefined) throw broken(file, `has an unknown key '${oneLine(unknown)}'`, `allowed: ${known.toSorted().join(', ')}`)
  return config as Record<string, unknown>
}
