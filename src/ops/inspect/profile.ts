import { setTimeout as sleep } from 'node:timers/promises'
import type { Artifact, Artifacts, Draft } from '../heap/artifacts.ts'
import type { Work } from '../heap/jobs.ts'
import { Problem } from '../http/problem.ts'
import type { Connect } from './inspector.ts'
import { loadPprof, pprofOfCpu, pprofOfHeap } from './pprof.ts'
import type { HeapSampler, Second } from './sampler.ts'

/** How long main has to begin and to end a profile. It may be in C++ for a while, and the end of a long profile takes its time. */
const BEGIN_MS = 5_000
const END_MS = 30_000

export interface CpuOrder {
  seconds: number
  /** Between two samples, microseconds. */
  intervalUs: number
  /** `cpuprofile`: V8's, which DevTools opens. `pprof`: gzipped, for `go tool pprof` and what reads the same. */
  format: 'cpuprofile' | 'pprof'
  by: string
}

export interface HeapOrder {
  seconds: number
  /** Bytes allocated between two samples, on average. */
  intervalBytes: number
  /** `heapprofile`: V8's, which DevTools opens. */
  format: 'heapprofile' | 'pprof'
  by: string
  /** When the leak watch is sampling, or another profile. Default refused. */
  second?: Second
}

/** V8's CPU profile. @see https://chromedevtools.github.io/devtools-protocol/v8/Profiler/#type-Profile */
export interface CpuProfile {
  nodes: { id: number; callFrame: CallFrame; hitCount?: number; children?: number[] }[]
  /** Microseconds. */
  startTime: number
  endTime: number
  samples?: number[]
  timeDeltas?: number[]
}

/** V8's sampling heap profile: what was allocated while it was on and still lives. */
export interface HeapProfile {
  head: HeapNode
}

export interface HeapNode {
  callFrame: CallFrame
  selfSize: number
  id: number
  children: HeapNode[]
}

/** Line and column from 0. */
interface CallFrame {
  functionName: string
  url: string
  lineNumber: number
  columnNumber: number
}

/** A CPU profile of the main thread, stuck in JavaScript or not, as an artifact. What is on goes off in any case: with the session. */
export async function cpuProfile(connect: Connect, artifacts: Artifacts, order: CpuOrder, work: Work): Promise<Artifact> {
  const pprof = order.format === 'pprof' ? await loadPprof() : undefined
  const profile = await sampledCpu(connect, order, work)
  const content = pprof ? pprofOfCpu(pprof, profile, order.intervalUs) : JSON.stringify(profile)
  return save(artifacts, content, { kind: 'cpu-profile', by: order.by, extension: pprof ? 'pb.gz' : 'cpuprofile' }, work)
}

async function sampledCpu(connect: Connect, { seconds, intervalUs }: CpuOrder, work: Work): Promise<CpuProfile> {
  const session = connect()
  try {
    work.progress('starting')
    await session.post('Profiler.enable', {}, { timeoutMs: BEGIN_MS })
    await session.post('Profiler.setSamplingInterval', { interval: intervalUs }, { timeoutMs: BEGIN_MS })
    await session.post('Profiler.start', {}, { timeoutMs: BEGIN_MS })
    await pass(seconds, work)
    const { profile } = await session.post<{ profile: CpuProfile }>('Profiler.stop', {}, { timeoutMs: END_MS })
    return profile
  } finally {
    session.disconnect()
  }
}

/** A sampling heap profile of the main thread, as an artifact. */
export async function heapProfile(sampler: HeapSampler, artifacts: Artifacts, order: HeapOrder, work: Work): Promise<Artifact> {
  const pprof = order.format === 'pprof' ? await loadPprof() : undefined
  work.progress('starting')
  const sampling = await sampler.sample(order.intervalBytes, order.second ?? 'refused').catch((error: unknown) => {
    // Nobody was disturbed by what did not begin.
    if (error instanceof Problem && error.code === 'ERR_LAMEDUCK_OPS_SAMPLING') work.refund()
    throw error
  })
  try {
    await pass(order.seconds, work)
    const profile = await sampling.profile()
    const content = pprof ? pprofOfHeap(pprof, profile, sampling.intervalBytes) : JSON.stringify(profile)
    return await save(artifacts, content, { kind: 'heap-profile', by: order.by, extension: pprof ? 'pb.gz' : 'heapprofile' }, work)
  } finally {
    sampling.leave()
  }
}

/** Lets the time of a profile go by. */
async function pass(seconds: number, work: Work): Promise<void> {
  for (let at = 0; at < seconds; at++) {
    work.progress('sampling', at / seconds)
    await sleep(Math.min(1, seconds - at) * 1_000, undefined, { signal: work.signal })
  }
  work.progress('stopping', 1)
}

async function save(artifacts: Artifacts, content: string | Buffer, about: Pick<Artifact, 'kind' | 'by'> & { extension: string }, work: Work) {
  work.progress('writing', 1)
  const type = typeof content === 'string' ? 'application/json' : 'application/octet-stream'
  // Names of functions and files, no values.
  const draft: Draft = await artifacts.create({ ...about, secret: false, type, encoding: 'identity' })
  try {
    await new Promise<void>((resolve, reject) => {
      draft.stream.once('error', reject)
      draft.stream.end(content, resolve)
    })
    return await draft.finish()
  } catch (error) {
    await draft.discard()
    throw error
  }
}
