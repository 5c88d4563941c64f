import type { FileHandle } from 'node:fs/promises'

/** Read at a time: about a millisecond of work, so that the thread's other callers are not kept waiting. */
export const CHUNK = 128 * 1024

/** What a heap snapshot says of itself, and where its long parts are. Offsets in bytes. */
export interface Layout {
  nodeFields: string[]
  nodeTypes: string[]
  edgeFields: string[]
  edgeTypes: string[]
  nodeCount: number
  edgeCount: number
  nodes: number
  edges: number
  strings: number
  bytes: number
}

/** A file that is no heap snapshot, or of a form that is not known. */
export class FormatError extends Error {}

const NODES = Buffer.from('"nodes":[')
const EDGES = Buffer.from('"edges":[')
const STRINGS = Buffer.from('"strings":[')

/** Fills the buffer from `position`; shorter only at the file's end. */
export async function readAt(file: FileHandle, buffer: Buffer, position: number): Promise<number> {
  let filled = 0
  while (filled < buffer.length) {
    const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, position + filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return filled
}

/** Up to the strings a snapshot holds numbers and known names only, so the first match is the section. @returns Behind it. */
async function find(file: FileHandle, needle: Buffer, from: number, signal: AbortSignal | undefined): Promise<number> {
  const buffer = Buffer.alloc(8 * CHUNK)
  for (let position = from; ; position += buffer.length - needle.length) {
    signal?.throwIfAborted()
    const filled = await readAt(file, buffer, position)
    const at = buffer.subarray(0, filled).indexOf(needle)
    if (at !== -1) return position + at + needle.length
    if (filled < buffer.length) throw new FormatError(`no ${needle.toString()} in the snapshot`)
  }
}

interface Head {
  meta: { node_fields: string[]; node_types: (string | string[])[]; edge_fields: string[]; edge_types: (string | string[])[] }
  node_count: number
  edge_count: number
}

function typesOf(types: (string | string[])[]): string[] {
  const [first] = types
  if (!Array.isArray(first)) throw new FormatError('the snapshot names no types')
  return first
}

/** @throws {FormatError} Also what `signal` was aborted with. */
export async function layoutOf(file: FileHandle, signal?: AbortSignal): Promise<Layout> {
  const nodes = await find(file, NODES, 0, signal)
  if (nodes > 65_536) throw new FormatError('the head of the snapshot is too long')
  const head = Buffer.alloc(nodes - NODES.length)
  await readAt(file, head, 0)
  let parsed: Head
  try {
    parsed = (JSON.parse(`${head.toString().trimEnd().replace(/,$/, '')}}`) as { snapshot: Head }).snapshot
  } catch (error) {
    throw new FormatError('the head of the snapshot is not JSON', { cause: error })
  }
  const { meta, node_count: nodeCount, edge_count: edgeCount } = parsed
  const edges = await find(file, EDGES, nodes, signal)
  const strings = await find(file, STRINGS, edges, signal)
  const layout = {
    nodeFields: meta.node_fields, nodeTypes: typesOf(meta.node_types),
    edgeFields: meta.edge_fields, edgeTypes: typesOf(meta.edge_types),
    nodeCount, edgeCount, nodes, edges, strings, bytes: (await file.stat()).size,
  }
  const [type, name] = layout.nodeFields
  const [edgeType, edgeName, to] = layout.edgeFields
  const known = type === 'type' && name === 'name' && layout.nodeFields.includes('edge_count')
    && edgeType === 'type' && edgeName === 'name_or_index' && to === 'to_node' && layout.edgeFields.length === 3
  if (!known) throw new FormatError('the snapshot has fields in an order that is not known')
  return layout
}

const ZERO = 48
const CLOSING = 93

/** The numbers of a section, in batches of whole records. What is above 2^32 (sizes, at most) wraps: nobody here asks for it. */
export class Records {
  readonly values: Uint32Array
  /** How many of the values are there: whole records only. */
  count = 0
  #file: FileHandle
  #position: number
  #width: number
  #signal: AbortSignal | undefined
  #buffer = Buffer.alloc(CHUNK)
  /** Numbers in `values`, those of an unfinished record included. */
  #parsed = 0
  #value = 0
  #within = false
  #ended = false

  constructor(file: FileHandle, position: number, width: number, signal?: AbortSignal) {
    this.#file = file
    this.#position = position
    this.#width = width
    this.#signal = signal
    this.values = new Uint32Array(CHUNK / 2 + 2 * width)
  }

  /** The next batch into `values`. @throws {FormatError} When there is none; what the signal was aborted with. */
  async fill(): Promise<void> {
    this.values.copyWithin(0, this.count, this.#parsed)
    this.#parsed -= this.count
    this.count = 0
    while (this.count === 0) {
      this.#signal?.throwIfAborted()
      const filled = this.#ended ? 0 : await readAt(this.#file, this.#buffer, this.#position)
      if (filled === 0) throw new FormatError('the snapshot is cut off')
      this.#position += filled
      this.#parse(filled)
      this.count = this.#parsed - this.#parsed % this.#width
    }
  }

  #parse(filled: number): void {
    const buffer = this.#buffer
    const values = this.values
    let [value, within, parsed] = [this.#value, this.#within, this.#parsed]
    for (let at = 0; at < filled; at++) {
      const byte = buffer[at] as number
      if (byte >= ZERO && byte < ZERO + 10) {
        value = value * 10 + byte - ZERO
        within = true
        continue
      }
      if (within) {
        values[parsed++] = value
        value = 0
        within = false
      }
      if (byte === CLOSING) {
        this.#ended = true
        break
      }
    }
    this.#value = value
    this.#within = within
    this.#parsed = parsed
  }
}

const QUOTE = 34
const BACKSLASH = 92

/** Names are shorter: what is longer is never kept, and only its end is looked for. */
export const LONGEST = 4_096

/**
 * The strings of a snapshot, one after the other, each as its JSON text with the quotes, in a buffer that the next one
 * overwrites; of one that is longer than {@link LONGEST} only the beginning.
 *
 * @param each Called for every string; a promise that it returns is waited for.
 * @returns How many there were.
 */
export async function eachString(
  file: FileHandle,
  position: number,
  each: (token: Buffer, index: number) => Promise<void> | undefined,
  signal?: AbortSignal,
): Promise<number> {
  const buffer = Buffer.alloc(CHUNK)
  const token = Buffer.alloc(LONGEST)
  let [length, inside, escaped, index] = [0, false, false, 0]
  for (;;) {
    signal?.throwIfAborted()
    const filled = await readAt(file, buffer, position)
    if (filled === 0) throw new FormatError('the snapshot is cut off')
    position += filled
    for (let at = 0; at < filled; at++) {
      const byte = buffer[at] as number
      if (!inside && byte === CLOSING) return index
      if (!inside && byte !== QUOTE) continue
      if (length < LONGEST) token[length] = byte
      length++
      if (escaped) escaped = false
      else if (byte === BACKSLASH) escaped = true
      else if (byte === QUOTE && !inside) inside = true
      else if (byte === QUOTE) {
        const waiting = each(token.subarray(0, Math.min(length, LONGEST)), index++)
        if (waiting) await waiting
        inside = false
        length = 0
      }
    }
  }
}
