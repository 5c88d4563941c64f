import { gzipSync } from 'node:zlib'
import { Problem } from '../http/problem.ts'
import type { CpuProfile, HeapNode, HeapProfile } from './profile.ts'

/** As much of the package `pprof-format` as we use. */
interface Strings {
  dedup(text: string): number
}

export interface PprofFormat {
  StringTable: new () => Strings
  Profile: new (data: object) => { encode(): Uint8Array }
  ValueType: new (data: { type: number; unit: number }) => object
  Function: new (data: { id: number; name: number; systemName: number; filename: number; startLine: number }) => object
  Location: new (data: { id: number; line: object[] }) => object
  Line: new (data: { functionId: number; line: number }) => object
  Sample: new (data: { locationId: number[]; value: number[] }) => object
}

/** @throws {Problem} 501 `ERR_LAMEDUCK_OPS_PEER` when the optional peer is not installed. */
export async function loadPprof(load: () => Promise<unknown> = () => import('pprof-format')): Promise<PprofFormat> {
  try {
    return await load() as PprofFormat
  } catch (error) {
    throw new Problem(501, 'ERR_LAMEDUCK_OPS_PEER', `format=pprof needs the package pprof-format: ${(error as Error).message.split('\n')[0]}`, { package: 'pprof-format' })
  }
}

interface Place {
  functionName: string
  url: string
  lineNumber: number
}

/** The tables that a profile's samples refer to. @see https://github.com/google/pprof/blob/main/proto/profile.proto */
class Tables {
  readonly strings: Strings
  readonly functions: object[] = []
  readonly locations: object[] = []
  readonly samples: object[] = []
  readonly #format: PprofFormat
  #ids = new Map<string, number>()

  constructor(format: PprofFormat) {
    this.#format = format
    this.strings = new format.StringTable()
  }

  type(type: string, unit: string): object {
    return new this.#format.ValueType({ type: this.strings.dedup(type), unit: this.strings.dedup(unit) })
  }

  /** V8 gives a frame the line where its function begins; ours are from 1. */
  location({ functionName, url, lineNumber }: Place): number {
    const key = `${functionName}\n${url}\n${lineNumber}`
    const known = this.#ids.get(key)
    if (known) return known
    const id = this.#ids.size + 1
    this.#ids.set(key, id)
    const [name, line] = [this.strings.dedup(functionName || '(anonymous)'), Math.max(0, lineNumber + 1)]
    this.functions.push(new this.#format.Function({ id, name, systemName: name, filename: this.strings.dedup(url), startLine: line }))
    this.locations.push(new this.#format.Location({ id, line: [new this.#format.Line({ functionId: id, line })] }))
    return id
  }

  /** @param stack The innermost first. */
  sample(stack: number[], value: number[]): void {
    this.samples.push(new this.#format.Sample({ locationId: stack, value }))
  }

  encode(more: object): Buffer {
    const { samples: sample, locations: location, functions, strings: stringTable } = this
    return gzipSync(new this.#format.Profile({ sample, location, function: functions, stringTable, ...more }).encode())
  }
}

/** Samples and time per stack; V8's (root), and the time in which nothing ran, are left out. */
export function pprofOfCpu(format: PprofFormat, profile: CpuProfile, intervalUs: number): Buffer {
  const tables = new Tables(format)
  const [samples, cpu] = [tables.type('samples', 'count'), tables.type('cpu', 'nanoseconds')]
  const byId = new Map(profile.nodes.map(node => [node.id, node]))
  const parents = new Map(profile.nodes.flatMap(node => (node.children ?? []).map(child => [child, node.id] as const)))
  const spent = new Map<number, { count: number; us: number }>()
  for (const [i, id] of (profile.samples ?? []).entries()) {
    const sum = spent.get(id) ?? { count: 0, us: 0 }
    spent.set(id, sum)
    sum.count++
    // How long it lasted: until the next one. A clock that went back is none of ours.
    sum.us += Math.max(0, profile.timeDeltas?.[i + 1] ?? intervalUs)
  }
  for (const [id, { count, us }] of spent) {
    const stack: number[] = []
    for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) {
      const frame = byId.get(at)?.callFrame
      if (frame && frame.functionName !== '(root)') stack.push(tables.location(frame))
    }
    if (stack.length > 0 && byId.get(id)?.callFrame.functionName !== '(idle)') tables.sample(stack, [count, us * 1_000])
  }
  return tables.encode({
    sampleType: [samples, cpu],
    timeNanos: BigInt(Date.now()) * 1_000_000n,
    durationNanos: Math.round((profile.endTime - profile.startTime) * 1_000),
    periodType: cpu,
    period: intervalUs * 1_000,
  })
}

/** Bytes per stack that were allocated meanwhile and still live. */
export function pprofOfHeap(format: PprofFormat, profile: HeapProfile, intervalBytes: number): Buffer {
  const tables = new Tables(format)
  const space = tables.type('inuse_space', 'bytes')
  const left: { node: HeapNode; above: number[] }[] = [{ node: profile.head, above: [] }]
  for (let next = left.pop(); next; next = left.pop()) {
    const { node, above } = next
    const stack = node.callFrame.functionName === '(root)' ? above : [tables.location(node.callFrame), ...above]
    if (node.selfSize > 0 && stack.length > 0) tables.sample(stack, [node.selfSize])
    for (const child of node.children) left.push({ node: child, above: stack })
  }
  return tables.encode({ sampleType: [space], timeNanos: BigInt(Date.now()) * 1_000_000n, periodType: space, period: intervalBytes })
}
