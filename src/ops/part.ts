import type { Duck } from '../core/index.ts'
import type { Audit } from './http/audit.ts'
import type { Route } from './http/route.ts'
import type { Artifacts } from './heap/artifacts.ts'
import type { Jobs } from './heap/jobs.ts'
import type { Connect } from './inspect/inspector.ts'
import type { HeapSampler } from './inspect/sampler.ts'
import type { Link } from './link.ts'
import type { Settings } from './options.ts'
import type { View } from './state/view.ts'

/** What a part of the endpoint works with: on the endpoint's thread, which is a worker's, or the main one with `thread: false`. */
export interface Bench {
  /** To the main thread. */
  main: Link
  settings: Settings
  /** False: the endpoint lives on the main thread, and hangs when that hangs. */
  worker: boolean
  /** Sessions of V8's inspector on the main thread. */
  connect: Connect
  /** Of the main thread's heap. */
  sampler: HeapSampler
  /** What the main thread is known to do. */
  view: View
  audit: Audit
  jobs: Jobs
  artifacts: Artifacts
  /** Of the main thread, bytes. */
  heapLimit: number
}

/** A part on the endpoint's thread: what it offers over HTTP. */
export type Part = (bench: Bench) => { routes: Route[]; close?: () => void | Promise<void> }

/** What a part on the main thread works with. */
export interface Post {
  duck: Duck | undefined
  /** To the endpoint: `offer()` what it may call. It is another one after the worker was restarted; the part is then made again. */
  link: Link
  settings: Settings
}

/** A part on the main thread. @returns What ends it. */
export type Outpost = (post: Post) => () => void
