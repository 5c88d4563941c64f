/** One function's place in V8's sampling heap profile, as `HeapProfiler.stopSampling` gives it. */
export interface HeapProfileNode {
  callFrame: { functionName: string; url: string; lineNumber: number; columnNumber: number }
  /** Bytes that were allocated here, in it and not in what it calls, and are still alive. */
  selfSize: number
  children: readonly HeapProfileNode[]
}

export interface HeapProfile {
  head: HeapProfileNode
}

/** A stack that holds more than it did. */
export interface Growth {
  /** `function (url:line:column)`, the innermost first; lines and columns from 1. */
  stack: string[]
  /** Bytes. */
  before: number
  after: number
  grew: number
}

/** Frames kept of one stack: the outermost of a deep recursion tell nothing. */
const DEPTH = 64

function frame({ functionName, url, lineNumber, columnNumber }: HeapProfileNode['callFrame']): string {
  return `${functionName || '(anonymous)'}${url ? ` (${url}:${lineNumber + 1}:${columnNumber + 1})` : ''}`
}

interface Holding {
  stack: string[]
  bytes: number
}

function holdings({ head }: HeapProfile): Map<string, Holding> {
  const found = new Map<string, Holding>()
  const left: { node: HeapProfileNode; stack: string[] }[] = [{ node: head, stack: [] }]
  // No recursion: the tree is as deep as the program's stack was.
  for (let next = left.pop(); next; next = left.pop()) {
    const { node, stack: outer } = next
    const stack = node === head ? outer : [frame(node.callFrame), ...outer].slice(0, DEPTH)
    const key = stack.join('\n')
    const known = found.get(key)
    if (known) known.bytes += node.selfSize
    else if (node.selfSize > 0) found.set(key, { stack, bytes: node.selfSize })
    for (const child of node.children) left.push({ node: child, stack })
  }
  return found
}

/**
 * Names the stacks whose living allocations grew between two sampling heap profiles, the biggest growth first.
 *
 * @param top At most so many. Default 10.
 */
export function diffProfiles(first: HeapProfile, second: HeapProfile, top = 10): Growth[] {
  const old = holdings(first)
  const growths = [...holdings(second)].map(([key, { stack, bytes }]) => {
    const before = old.get(key)?.bytes ?? 0
    return { stack, before, after: bytes, grew: bytes - before }
  })
  return growths.filter(({ grew, stack }) => grew > 0 && stack.length > 0).sort((a, b) => b.grew - a.grew).slice(0, top)
}
