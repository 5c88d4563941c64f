import type { Writable } from 'node:stream'

/** A file that can be fetched. */
export interface Artifact {
  name: string
  kind: 'heap-snapshot' | 'heap-profile' | 'cpu-profile'
  bytes: number
  /** Hex. */
  sha256: string
  /** ISO 8601. */
  createdAt: string
  by: string
  /** Holds live strings of the process: needs scope `secrets`. */
  secret: boolean
  /** Of the content, and of its coding: `gzip` or `identity`. */
  type: string
  encoding: 'gzip' | 'identity'
}

/** A file that is being written. */
export interface Draft {
  name: string
  path: string
  stream: Writable
  /** @throws {Problem} 507 when the disk, or the caps, are full. */
  finish(): Promise<Artifact>
  discard(): Promise<void>
}

/** The private folder with what was taken. STUB: the heap part's owner writes it. */
export interface Artifacts {
  create(about: Pick<Artifact, 'kind' | 'by' | 'secret' | 'type' | 'encoding'> & { extension: string }): Promise<Draft>
  /** A path in the folder for raw material that never is an artifact: removed at the end, and at the next start after a crash. */
  scratch(extension: string): Promise<string>
  list(): Promise<Artifact[]>
  get(name: string): Promise<{ artifact: Artifact; path: string } | undefined>
  delete(name: string): Promise<boolean>
}
