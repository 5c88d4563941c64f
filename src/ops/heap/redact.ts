import type { FileHandle } from 'node:fs/promises'
import { isEvidence, keptName, mayStay, Names, USE } from './names.ts'
import { CHUNK, eachString, FormatError, layoutOf, LONGEST, readAt, Records, type Layout } from './snapshot-file.ts'

/** What a redaction did. */
export interface Redacted {
  strings: number
  /** Strings whose text went. */
  blanked: number
}

/** Where the result goes. The buffer is used again as soon as the promise resolves. */
export type Sink = (bytes: Buffer) => Promise<void>

/** Nodes of V8's own, whose names V8 and Node give. */
const INTERNAL_NODES = ['hidden', 'array', 'native', 'synthetic', 'object shape', 'number', 'symbol', 'bigint']
const USE_OF_NODE: Record<string, number> = {
  ...Object.fromEntries(INTERNAL_NODES.map(type => [type, USE.internal])),
  code: USE.code,
  closure: USE.code,
  object: USE.object,
}
/** Of those not named here the second field is a number, not a string. */
const USE_OF_EDGE: Record<string, number> = {
  property: USE.property, internal: USE.internal, shortcut: USE.internal, weak: USE.internal, context: USE.variable,
}

/** What holds the names that a function's text mentions. Node 20 leaves object literals' nodes, inside the constants, without a name. */
const CONSTANTS = '(constant pool)'
const LITERALS = ['system / ScopeInfo', 'system / ObjectBoilerplateDescription', 'system / ClassBoilerplate']

class Bits {
  #words: Uint32Array

  constructor(size: number) {
    this.#words = new Uint32Array(Math.ceil(size / 32))
  }

  has(at: number): boolean {
    return ((this.#words[at >>> 5] as number) >>> (at & 31) & 1) === 1
  }

  /** @returns Whether it is new. */
  add(at: number): boolean {
    const word = this.#words[at >>> 5] as number
    const next = word | (1 << (at & 31))
    this.#words[at >>> 5] = next
    return next >>> 0 !== word
  }
}

/** One byte for each string: how it is used. */
class Uses {
  bytes = new Uint8Array(65_536)

  add(string: number, use: number): void {
    if (string >= this.bytes.length) this.#grow(string)
    this.bytes[string] = (this.bytes[string] as number) | use
  }

  #grow(string: number): void {
    const bytes = new Uint8Array(Math.max(string + 1, Math.ceil(this.bytes.length * 1.5)))
    bytes.set(this.bytes)
    this.bytes = bytes
  }
}

/** The few strings whose numbers must be known before the nodes are read. */
interface Marks {
  constants: Set<number>
  literals: Set<number>
  nameless: Set<number>
}

const textOf = (token: Buffer) => JSON.parse(token.toString()) as string

async function findMarks(file: FileHandle, layout: Layout, signal: AbortSignal | undefined): Promise<Marks> {
  const marks = { constants: new Set<number>(), literals: new Set<number>(), nameless: new Set<number>() }
  await eachString(file, layout.strings, (token, index) => {
    if (token.length === 2) marks.nameless.add(index)
    else if (token.length < 64 && (token[1] === 40 || token[1] === 115)) {
      const text = textOf(token)
      if (text === CONSTANTS) marks.constants.add(index)
      else if (LITERALS.includes(text)) marks.literals.add(index)
    }
    return undefined
  }, signal)
  return marks
}

/** Walks over all nodes, each with the edges that leave it, in the file's order: the two sections side by side. */
class Graph {
  readonly #file: FileHandle
  readonly #layout: Layout
  readonly #marks: Marks
  readonly #uses = new Uses()
  /** Nodes that the constants of a function lead to. */
  readonly #within: Bits
  readonly #edgeUse: number[]
  /** A node was marked whose edges had been passed. */
  #again = false

  constructor(file: FileHandle, layout: Layout, marks: Marks) {
    this.#file = file
    this.#layout = layout
    this.#marks = marks
    this.#within = new Bits(layout.nodeCount)
    this.#edgeUse = layout.edgeTypes.map(type => USE_OF_EDGE[type] ?? 0)
  }

  /** @returns How each string is used: a byte for each. */
  async read(signal: AbortSignal | undefined, progress: (part: number) => void): Promise<Uint8Array> {
    // What constants lead to mostly comes behind them; what comes before is seen in another round.
    for (let round = 0; round === 0 || (this.#again && round < 4); round++) {
      this.#again = false
      await this.#walk(signal, progress)
    }
    await this.#mention(signal)
    return this.#uses.bytes
  }

  async #walk(signal: AbortSignal | undefined, progress: (part: number) => void): Promise<void> {
    const { nodeFields, nodeTypes, nodeCount, edgeCount } = this.#layout
    const fields = nodeFields.length
    const countAt = nodeFields.indexOf('edge_count')
    const nodeUse = nodeTypes.map(type => USE_OF_NODE[type] ?? 0)
    const code = nodeTypes.indexOf('code')
    const nodes = new Records(this.#file, this.#layout.nodes, fields, signal)
    const edges = new Records(this.#file, this.#layout.edges, 3, signal)
    let [at, seen] = [0, 0]
    for (let node = 0; node < nodeCount;) {
      await nodes.fill()
      for (let i = 0; i < nodes.count; i += fields) {
        const type = nodes.values[i] as number
        const name = nodes.values[i + 1] as number
        const use = nodeUse[type] as number
        if (use !== 0) this.#uses.add(name, use)
        const holder = type === code && this.#holds(node, name)
        for (let left = nodes.values[i + countAt] as number; left > 0;) {
          if (at === edges.count) {
            await edges.fill()
            at = 0
            progress(seen / edgeCount)
          }
          const end = Math.min(edges.count, at + 3 * left)
          this.#edges(edges.values, at, end, holder ? node : -1)
          left -= (end - at) / 3
          seen += (end - at) / 3
          at = end
        }
        node++
      }
    }
    if (seen !== edgeCount) throw new FormatError('the edges of the snapshot do not add up')
  }

  #holds(node: number, name: number): boolean {
    const { constants, literals, nameless } = this.#marks
    return constants.has(name) || literals.has(name) || (nameless.has(name) && this.#within.has(node))
  }

  #edges(values: Uint32Array, from: number, end: number, holder: number): void {
    const fields = this.#layout.nodeFields.length
    for (let at = from; at < end; at += 3) {
      const use = this.#edgeUse[values[at] as number] as number
      if (use !== 0) this.#uses.add(values[at + 1] as number, use)
      if (holder === -1) continue
      const to = (values[at + 2] as number) / fields
      if (this.#within.add(to) && to < holder) this.#again = true
    }
  }

  /** The strings among the nodes that code leads to are what it mentions. */
  async #mention(signal: AbortSignal | undefined): Promise<void> {
    const { nodeFields, nodeTypes, nodeCount } = this.#layout
    const string = nodeTypes.indexOf('string')
    const nodes = new Records(this.#file, this.#layout.nodes, nodeFields.length, signal)
    for (let node = 0; node < nodeCount;) {
      await nodes.fill()
      for (let i = 0; i < nodes.count; i += nodeFields.length, node++) {
        if (nodes.values[i] === string && this.#within.has(node)) this.#uses.add(nodes.values[i + 1] as number, USE.mentioned)
      }
    }
  }
}

/** Collects small pieces, so that the sink gets few large ones. */
class Output {
  #buffer = Buffer.alloc(CHUNK)
  #length = 0
  #sink: Sink

  constructor(sink: Sink) {
    this.#sink = sink
  }

  /** @returns A promise only when the buffer had to be handed on first. */
  write(piece: Buffer | string): Promise<void> | undefined {
    // In UTF-8 a unit of UTF-16 takes three bytes at most.
    if (this.#length + 3 * piece.length > this.#buffer.length) return this.flush().then(() => this.#append(piece))
    this.#append(piece)
    return undefined
  }

  async flush(): Promise<void> {
    const length = this.#length
    this.#length = 0
    await this.#sink(this.#buffer.subarray(0, length))
  }

  #append(piece: Buffer | string): void {
    this.#length += typeof piece === 'string' ? this.#buffer.write(piece, this.#length) : piece.copy(this.#buffer, this.#length)
  }
}

/** Copies a part of the file as it is. */
export async function copy(file: FileHandle, from: number, to: number, sink: Sink, signal?: AbortSignal): Promise<void> {
  const buffer = Buffer.alloc(CHUNK)
  for (let position = from; position < to;) {
    signal?.throwIfAborted()
    const filled = await readAt(file, buffer.subarray(0, Math.min(CHUNK, to - position)), position)
    if (filled === 0) throw new FormatError('the snapshot is cut off')
    await sink(buffer.subarray(0, filled))
    position += filled
  }
}

/**
 * Writes a heap snapshot without the data of the process: its nodes, edges, sizes and numbers byte by byte as they were, its
 * strings blanked but for names that the program's text gave (see names.ts). Reads the file several times, from its
 * beginning to its end, and never holds more of it than a few buffers and some bits for each node and string.
 *
 * What stays: array indexes and integer keys below 2^32 (they are numbers in the edges), sizes, and which strings are equal.
 *
 * @param sink Gets the result piece by piece.
 * @param signal Looked at before each read, in every pass: whoever cancels this has a raw file to remove, and little time.
 * @param progress From 0 to 1.
 * @throws {FormatError} For a file that is not as V8 writes it: then the result is to be thrown away.
 */
export async function redact(
  file: FileHandle,
  sink: Sink,
  { signal, progress = () => {} }: { signal?: AbortSignal; progress?: (part: number) => void } = {},
): Promise<Redacted> {
  const layout = await layoutOf(file, signal)
  const marks = await findMarks(file, layout, signal)
  const uses = await new Graph(file, layout, marks).read(signal, part => progress(0.6 * part))
  const known = new Names()
  await eachString(file, layout.strings, (token, index) => {
    if (isEvidence(uses[index] ?? 0) && token.length < LONGEST) known.add(textOf(token))
    return undefined
  }, signal)
  await copy(file, 0, layout.strings, sink, signal)
  progress(0.8)

  const output = new Output(sink)
  let blanked = 0
  const write = (token: Buffer, index: number) => {
    const use = uses[index] ?? 0
    const text = token.length < LONGEST && (mayStay(use) || token.length === 2) ? textOf(token) : undefined
    const name = text === undefined ? undefined : keptName(text, use, known)
    if (name === undefined) blanked++
    if (index === 0) return output.write(name === undefined ? '"*0"' : JSON.stringify(name))
    return output.write(name === undefined ? `,\n"*${index}"` : `,\n${JSON.stringify(name)}`)
  }
  const strings = await eachString(file, layout.strings, write, signal)
  await output.write(']}')
  await output.flush()
  progress(1)
  return { strings, blanked }
}
