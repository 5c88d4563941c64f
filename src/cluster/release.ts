import { readFileSync, realpathSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseEnv } from 'node:util'
import { ClusterError } from './errors.ts'
import type { Env, Settings } from './options.ts'

/** What the workers of one generation run: the same for those that replace them, whatever a symlink points at by then. */
export interface Release {
  generation: number
  /** Without symlinks. */
  exec: string
  cwd: string | undefined
  env: Env
}

/** Both without symlinks, which Node would resolve only as each worker starts. */
function locate({ script, cwd }: Settings): { exec: string; cwd: string | undefined } {
  const path = resolve(cwd ?? '', script)
  try {
    const exec = realpathSync(path)
    if (!statSync(exec).isFile()) throw new Error('it is not a file')
    return { exec, cwd: cwd === undefined ? undefined : realpathSync(cwd) }
  } catch (error) {
    throw new ClusterError('ERR_LAMEDUCK_CLUSTER_SCRIPT', `cannot run ${path}: ${(error as Error).message}`)
  }
}

function environment({ env, envFile, cwd }: Settings): Env {
  try {
    const file = envFile === undefined ? {} : parseEnv(readFileSync(resolve(cwd ?? '', envFile), 'utf8'))
    const own: unknown = typeof env === 'function' ? env() : env
    if (typeof own !== 'object' || own === null) throw new Error(`env() gave ${String(own)}`)
    return { ...file, ...own }
  } catch (error) {
    throw new ClusterError('ERR_LAMEDUCK_CLUSTER_ENV', `cannot tell the workers' environment: ${(error as Error).message}`)
  }
}

/**
 * The next release, as the script's path, the env file and `env()` are now.
 *
 * @throws {ClusterError} `ERR_LAMEDUCK_CLUSTER_SCRIPT` or `ERR_LAMEDUCK_CLUSTER_ENV`
 */
export function resolveRelease(settings: Settings, generation: number): Release {
  return { generation, ...locate(settings), env: environment(settings) }
}
