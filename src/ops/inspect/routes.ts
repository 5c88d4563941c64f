import { createHash } from 'node:crypto'
import { Problem } from '../http/problem.ts'
import type { Call, Param, Reply, Route } from '../http/route.ts'
import type { Bench, Part } from '../part.ts'
import { Evaluator, type Order } from './evaluate.ts'
import { settled } from './inspector.ts'
import { loadPprof } from './pprof.ts'
import { cpuProfile, heapProfile, type CpuOrder, type HeapOrder } from './profile.ts'
import { Repl } from './repl.ts'
import { takeStack, threadDump } from './stack.ts'

/** `POST /stack`, `/cpu/profile`, `/heap/profile`, and with `settings.eval` `/eval` and `/repl`: what looks into the main thread through V8's inspector. */
export const inspect: Part = bench => {
  const repl = new Repl(bench)
  // The first session ever costs some ten milliseconds: not when it is urgent.
  if (bench.worker) void threadDump(bench, { waitMs: 1_000 })
  const closed = async () => {
    repl.close()
    await settled()
  }
  const routes = [stackRoute(bench), cpuRoute(bench), heapRoute(bench)]
  return { routes: bench.settings.eval ? [...routes, evalRoute(bench), replRoute(repl)] : routes, close: closed }
}

const stackRoute = ({ connect, worker }: Bench): Route => ({
  method: 'POST',
  path: '/stack',
  scope: 'diag',
  summary: 'What the main thread is doing: its JavaScript stack, now.',
  description: 'Works on a main thread in a busy loop, and stops nothing. An idle one has no stack (`state: "idle"`); one in native code, as in a '
    + 'synchronous read, a heap snapshot or a GC, cannot be asked (`state: "native"`) and is told after `waitMs`.',
  params: {
    frames: { in: 'query', type: 'integer', min: 1, max: 200, default: 50, description: 'At most so many frames, the innermost first.' },
    waitMs: { in: 'query', type: 'integer', min: 1, max: 5_000, default: 30, description: 'How long the main thread has to come round.' },
  },
  problems: { 501: ['ERR_LAMEDUCK_OPS_THREAD'] },
  success: { status: 200, types: ['application/json'], description: 'state, busy, frames (function, file, line, column), takenAt, tookMs' },
  async handler({ params }): Promise<Reply> {
    if (!worker) {
      throw new Problem(501, 'ERR_LAMEDUCK_OPS_THREAD',
        'the endpoint runs on the main thread itself (thread: false): the stack would be its own, and while the main thread is stuck, so is this')
    }
    return { json: await takeStack(connect, params as { frames: number; waitMs: number }) }
  },
})

function seconds({ settings: { heavy: { profileSeconds: max } } }: Bench): Param {
  return { in: 'query', type: 'integer', min: 1, max, default: Math.min(10, max), description: 'How long.' }
}

const JOB = { status: 202, types: ['application/json'], description: 'The job. Its result is the artifact.' }

const PROFILE_PROBLEMS = {
  409: ['ERR_LAMEDUCK_OPS_BUSY'],
  429: ['ERR_LAMEDUCK_OPS_COOLDOWN', 'ERR_LAMEDUCK_OPS_BUDGET'],
  501: ['ERR_LAMEDUCK_OPS_PEER'],
}

/** Starts a job and says where to follow it. */
function begin(bench: Bench, call: Call, kind: string, run: Parameters<Bench['jobs']['start']>[3]): Reply {
  const job = bench.jobs.start(kind, call.who, true, run)
  call.note({ job: job.id })
  return { status: 202, headers: { Location: `../jobs/${job.id}` }, json: job }
}

const cpuRoute = (bench: Bench): Route => ({
  method: 'POST',
  path: '/cpu/profile',
  scope: 'diag',
  summary: 'A CPU profile of the main thread, as an artifact.',
  description: 'Works on a main thread in a busy loop. At 1,000 µs it costs 6 to 8 % of the throughput, at 10,000 µs 1.5 to 2 %. '
    + 'The job fails with `ERR_LAMEDUCK_OPS_BLOCKED` when the main thread is in native code for more than 5 s at its beginning, or 30 s at its end.',
  params: {
    seconds: seconds(bench),
    intervalUs: { in: 'query', type: 'integer', min: 100, max: 1_000_000, default: 1_000, description: 'Between two samples, microseconds.' },
    format: {
      in: 'query', type: 'string', enum: ['cpuprofile', 'pprof'], default: 'cpuprofile',
      description: 'cpuprofile: V8\'s own, which DevTools opens. pprof: gzipped protocol buffers, with the optional package `pprof-format`.',
    },
  },
  problems: PROFILE_PROBLEMS,
  success: JOB,
  async handler(call): Promise<Reply> {
    const order = { ...call.params, by: call.who.name } as CpuOrder
    if (order.format === 'pprof') await loadPprof()
    return begin(bench, call, 'cpu-profile', work => cpuProfile(bench.connect, bench.artifacts, order, work))
  },
})

const heapRoute = (bench: Bench): Route => ({
  method: 'POST',
  path: '/heap/profile',
  scope: 'diag',
  summary: 'A sampling heap profile of the main thread, as an artifact: what was allocated meanwhile and still lives, by stack.',
  description: 'Costs 0.6 to 4 % of the throughput at 524,288 bytes and pauses nothing. The job fails with `ERR_LAMEDUCK_OPS_SAMPLING` when something '
    + 'else in the process is sampling the heap: V8 has one such profiler, and the end of ours would be the end of its.',
  params: {
    seconds: seconds(bench),
    intervalBytes: {
      in: 'query', type: 'integer', min: 1_024, max: 2 ** 30, default: 524_288, description: 'Bytes that are allocated between two samples, on average.',
    },
    format: {
      in: 'query', type: 'string', enum: ['heapprofile', 'pprof'], default: 'heapprofile',
      description: 'heapprofile: V8\'s own, which DevTools opens. pprof: gzipped protocol buffers, with the optional package `pprof-format`.',
    },
  },
  problems: PROFILE_PROBLEMS,
  success: JOB,
  async handler(call): Promise<Reply> {
    const order = { ...call.params, by: call.who.name } as HeapOrder
    if (order.format === 'pprof') await loadPprof()
    return begin(bench, call, 'heap-profile', work => heapProfile(bench.sampler, bench.artifacts, order, work))
  },
})

/** What read-only is worth: V8's word for it is `throwOnSideEffect`. */
const READ_ONLY = `Read-only unless \`sideEffects\`: V8 runs the expression under \`throwOnSideEffect\` and throws at the first step that changes anything
that was there before, or that it does not know to be harmless. It refuses more than it must: promises and \`await\`, most of Node's own functions,
some of the language's (\`"a,b".split(",")\` on Node 20 and 22), and an error that is thrown shows up as the refusal. It is a guard rail and not a
sandbox: whatever can be read is shown (secrets included), a getter without effects runs, and time is spent on the main thread.

The scope is the global one: \`process\` is there, \`require\` too (from the working directory), \`process.getBuiltinModule('node:fs')\`; a module's
own variables are not, unless the application puts them on \`globalThis\`. V8 serves it in between two steps of whatever the main thread is doing, so
that also a busy loop can be looked into, and ended by a variable; what it looks at may be half done. A promise is waited for, which in a busy loop
ends by the time limit. An expression that goes round in a loop is ended by the time limit: before its first \`await\` it alone,
after that together with the promise reactions that were queued behind it; with \`thread: false\` the latter cannot be ended. What it starts
and does not wait for (a timer, a handler, a promise in a variable) is the application's own from then on, its failures included.`

const evalRoute = ({ connect }: Bench): Route => ({
  method: 'POST',
  path: '/eval',
  scope: 'eval',
  summary: 'Evaluates an expression on the main thread, read-only by default.',
  description: READ_ONLY,
  params: {
    expression: { in: 'body', type: 'string', min: 1, required: true, secret: true, description: 'JavaScript; the audit trail has its SHA-256 and its length.' },
    timeoutMs: { in: 'body', type: 'integer', min: 1, max: 30_000, default: 1_000, description: 'For all of it, milliseconds.' },
    sideEffects: { in: 'body', type: 'boolean', default: false, description: 'Whether it may change anything.' },
    awaitPromise: { in: 'body', type: 'boolean', default: true, description: 'Whether a promise as the value is waited for.' },
    depth: { in: 'body', type: 'integer', min: 0, max: 10, default: 2, description: 'Levels of objects that are shown.' },
  },
  problems: { 503: ['ERR_LAMEDUCK_OPS_BLOCKED'], 504: ['ERR_LAMEDUCK_OPS_TIMEOUT'] },
  success: {
    status: 200, types: ['application/json'],
    description: 'ok: true with kind (as of typeof) and text, about as util.inspect shows it and at most 20,000 characters; or ok: false with the exception: text, line, column, sideEffect',
  },
  // Before it acts: an expression may end the process.
  audit(params) {
    const { expression, sideEffects } = params as unknown as Order
    return { sha256: createHash('sha256').update(expression).digest('hex'), length: expression.length, sideEffects }
  },
  async handler({ params }): Promise<Reply> {
    const order = params as unknown as Order
    const evaluator = new Evaluator(connect)
    try {
      return { json: await evaluator.evaluate(order) }
    } finally {
      evaluator.disconnect()
    }
  },
})

const replRoute = (repl: Repl): Route => ({
  method: 'GET',
  path: '/repl',
  scope: 'eval',
  summary: 'A read-eval-print loop over a WebSocket, one at a time.',
  description: 'JSON messages: `{ id, type: "eval" | "complete" | "isRecoverable", code, … }`. Needs the optional package `ws`. As read-only as `/eval`. '
    + 'Each line is audited by its SHA-256 and its length, completions by their number. It ends within seconds of the token that it was opened with.',
  problems: { 409: ['ERR_LAMEDUCK_OPS_BUSY'], 426: ['ERR_LAMEDUCK_OPS_UPGRADE'], 501: ['ERR_LAMEDUCK_OPS_PEER'] },
  success: { status: 101, types: [], description: 'The WebSocket.' },
  upgrade: call => repl.upgrade(call),
  handler() {
    throw new Problem(426, 'ERR_LAMEDUCK_OPS_UPGRADE', 'this is a WebSocket: ask for an upgrade')
  },
})
