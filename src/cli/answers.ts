// What the endpoint sends, as far as several commands read it. The wire is the contract: an older or newer endpoint answers, too.

/** A file that can be fetched. */
export interface Artifact {
  name: string
  kind: string
  bytes: number
  /** Hex, of the bytes as they are stored and sent. */
  sha256: string
  createdAt: string
  by: string
  /** Holds live strings of the process. */
  secret: boolean
  encoding: 'gzip' | 'identity'
}

/** Long work. */
export interface Job {
  id: string
  kind: string
  by: string
  state: 'running' | 'done' | 'failed' | 'cancelled'
  /** ISO 8601. */
  startedAt: string
  endedAt?: string
  phase: string
  /** 0 to 1. */
  progress?: number
  result?: unknown
  /** A problem document. */
  problem?: { code?: string; detail?: string }
}

/** A list, or an object with the list in it. */
export function listIn<T>(answer: unknown, member: string): T[] {
  const list = Array.isArray(answer) ? answer : (answer as Record<string, unknown> | null)?.[member]
  return Array.isArray(list) ? list as T[] : []
}
