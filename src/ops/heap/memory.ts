import { readFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'

/** `max` is no limit; so is what cgroup v1 says when there is none, a number near 2^63. */
function bytesIn(file: string): number | undefined {
  try {
    const bytes = Number(readFileSync(file, 'utf8').trim())
    return Number.isFinite(bytes) && bytes < 2 ** 60 ? bytes : undefined
  } catch {
    return undefined
  }
}

/** Pages of files that the kernel takes back before it kills anybody. */
function reclaimable(folder: string, key: string): number {
  try {
    return Number(new RegExp(`^${key} (\\d+)$`, 'm').exec(readFileSync(path.join(folder, 'memory.stat'), 'utf8'))?.[1] ?? 0)
  } catch {
    return 0
  }
}

const V2 = { mount: '', limit: 'memory.max', usage: 'memory.current', cache: 'inactive_file' }
const V1 = { mount: 'memory', limit: 'memory.limit_in_bytes', usage: 'memory.usage_in_bytes', cache: 'total_inactive_file' }

/**
 * What the cgroups of this process leave: the least of its own and those above it. In a container only the lowest ones are to be seen,
 * at the mount's root.
 *
 * @param root Of the file system: for tests.
 * @returns Bytes; undefined without a limit.
 * @see Linux, Documentation/admin-guide/cgroup-v2.rst ("memory.max", "memory.current")
 */
export function cgroupLeaves(root = '/'): number | undefined {
  let text: string
  try {
    text = readFileSync(path.join(root, 'proc/self/cgroup'), 'utf8')
  } catch {
    return undefined
  }
  let least: number | undefined
  for (const line of text.split('\n')) {
    const [, controllers, at] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    const version = controllers === '' ? V2 : controllers?.split(',').includes('memory') ? V1 : undefined
    if (!version || at === undefined) continue
    const mount = path.join(root, 'sys/fs/cgroup', version.mount)
    for (let group = path.join('/', at); ; group = path.dirname(group)) {
      const folder = path.join(mount, group)
      const [limit, usage] = [bytesIn(path.join(folder, version.limit)), bytesIn(path.join(folder, version.usage))]
      if (limit !== undefined && usage !== undefined) {
        const leaves = Math.max(0, limit - usage + reclaimable(folder, version.cache))
        least = Math.min(least ?? leaves, leaves)
      }
      if (group === '/') break
    }
  }
  return least
}

/** Memory that this process may still take without being killed: bytes. */
export function availableMemory(): number {
  // Node 20.13 and 22 on; aware of cgroups, but not of those above, and not of what the kernel takes back.
  const { availableMemory: ask } = process as { availableMemory?: () => number }
  const machine = ask ? ask() : os.freemem()
  return Math.min(machine, cgroupLeaves() ?? Infinity)
}
