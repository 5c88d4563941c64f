import { createRequire } from 'node:module'
import { isMainThread, workerData } from 'node:worker_threads'
import { Problem } from './http/problem.ts'

/** The application's main file: packages are looked for from there, too (npm link, pnpm, a bundle elsewhere), and not in the working directory. */
export const mainFile = isMainThread ? process.argv[1] : (workerData as { mainFile?: string } | null)?.mainFile

/** An optional peer. @throws {Problem} 501 `ERR_LAMEDUCK_OPS_PEER` when it is not installed. */
export function requirePeer(name: string, what: string): unknown {
  for (const from of [import.meta.url, mainFile]) {
    try {
      if (from !== undefined) return createRequire(from)(name)
    } catch {
      // Not from there.
    }
  }
  throw new Problem(501, 'ERR_LAMEDUCK_OPS_PEER', `${what} need the package ${name}: npm install ${name}`, { package: name })
}
