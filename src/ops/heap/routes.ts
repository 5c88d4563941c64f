import { Problem } from '../http/problem.ts'
import type { Call, Param, Reply, Route } from '../http/route.ts'
import { needScope } from '../http/scope.ts'
import type { Bench, Part } from '../part.ts'
import { send } from './download.ts'
import type { DownloadNews } from './downloads.ts'
import type { Estimate } from './outpost.ts'
import { startSnapshot, type SnapshotParams } from './snapshot.ts'

/** How long main has to answer before the last known figures do. */
const FRESH_MS = 40

const ID: Param = { in: 'path', type: 'string', description: 'The job\'s id.', required: true, max: 64 }
const NAME: Param = { in: 'path', type: 'string', description: 'The file\'s name, as in the list.', required: true, max: 200, pattern: '[\\w.-]+' }

const flag = (description: string, value: boolean): Param => ({ in: 'query', type: 'boolean', description, default: value })

const noJob = () => new Problem(404, 'ERR_LAMEDUCK_OPS_NOT_FOUND', 'there is no such job; the last 50 are kept')
const noFile = () => new Problem(404, 'ERR_LAMEDUCK_OPS_NOT_FOUND', 'there is no such file')

function estimate(bench: Bench): { route: Route; close: () => void } {
  let last: { at: number; value: Estimate } | undefined
  const keep = (value: Estimate) => {
    last = { at: Date.now(), value }
    return last
  }
  const close = bench.main.on<Estimate>('heap.estimate', keep)
  const ask = async () => {
    try {
      return keep(await bench.main.call<Estimate>('heap.estimate', undefined, last ? { timeoutMs: FRESH_MS } : {}))
    } catch (error) {
      if (last) return last
      throw error
    }
  }
  const route: Route = {
    method: 'GET',
    path: '/heap/estimate',
    scope: 'read',
    summary: 'What a heap snapshot would cost now: memory, pause',
    description: 'Bytes. While the main thread is blocked these are the last known figures; `asOf` says of when.',
    problems: { 503: ['ERR_LAMEDUCK_OPS_BLOCKED'] },
    success: { status: 200, types: ['application/json'], description: '`usedHeap`, `factor`, `need`, `available`, `fits`, `heapLimit`, `atLimit`, `pauseMs`, `canIsolate`, `state`, `asOf`.' },
    async handler() {
      const { at, value } = await ask()
      return { json: { ...value, asOf: new Date(at).toISOString() } }
    },
  }
  return { route, close }
}

const snapshots = (bench: Bench): Route => ({
  method: 'POST',
  path: '/heap/snapshots',
  scope: 'diag',
  summary: 'Take a heap snapshot, as a job',
  description: [
    'The main thread stands still while it is taken: about 100 ms for each MB of heap. Without `isolate` whoever has a request in flight, or sends',
    'one, waits that long. With it the instance leaves the rotation first, and comes back whatever happens.',
    'With `redact` only names that come from the program\'s text stay; array indexes and integer keys are numbers, and stay, too.',
  ].join('\n'),
  params: {
    when: { in: 'query', type: 'string', description: 'At once, or right after the next natural major GC.', enum: ['now', 'after-gc'], default: 'now' },
    isolate: flag('Out of rotation first. Needs scope `control`, too.', false),
    redact: flag('Without the live strings of the process. `false` needs scope `secrets`.', true),
    compress: flag('With gzip.', true),
    force: flag('Despite too little memory, a heap at its limit, requests that do not end, and as the last ready instance.', false),
    recycle: flag('Out of rotation for good: when the file is finished, and was fetched or nobody begins to within `heap.downloadMs`, the process drains and exits. Implies `isolate`; needs scope `control`, too.', false),
    reason: { in: 'query', type: 'string', description: 'For the audit.', max: 200 },
  },
  problems: {
    403: ['ERR_LAMEDUCK_OPS_SCOPE'],
    409: ['ERR_LAMEDUCK_OPS_BUSY', 'ERR_LAMEDUCK_OPS_LAST', 'ERR_LAMEDUCK_OPS_STATE', 'ERR_LAMEDUCK_OPS_CANCELLED'],
    429: ['ERR_LAMEDUCK_OPS_COOLDOWN', 'ERR_LAMEDUCK_OPS_BUDGET'],
    501: ['ERR_LAMEDUCK_OPS_NO_DUCK', 'ERR_LAMEDUCK_OPS_NO_GC_HOOK'],
    503: ['ERR_LAMEDUCK_OPS_BLOCKED', 'ERR_LAMEDUCK_OPS_AUDIT'],
    507: ['ERR_LAMEDUCK_OPS_HEADROOM', 'ERR_LAMEDUCK_OPS_HEAP_LIMIT', 'ERR_LAMEDUCK_OPS_DISK', 'ERR_LAMEDUCK_OPS_FULL', 'ERR_LAMEDUCK_OPS_FOLDER'],
  },
  success: { status: 202, types: ['application/json'], description: 'The job; `Location` leads to it. Its result: `artifact`, `taken`, `redacted`.' },
  async handler({ params, who, signal, note }) {
    // A rule, which does not come this way, was armed by somebody with that scope, or from code.
    if (params.isolate === true || params.recycle === true) needScope(who, 'control', 'to take the instance out of rotation scope control is needed')
    const job = await startSnapshot(bench, params as SnapshotParams, who, signal)
    note({ job: job.id, ...(typeof params.reason === 'string' && { reason: params.reason }) })
    // Relative, since the endpoint may be mounted under a path.
    return { status: 202, headers: { Location: `../jobs/${job.id}` }, json: job }
  },
})

const jobs = ({ jobs }: Bench): Route[] => [
  {
    method: 'GET',
    path: '/jobs',
    scope: 'read',
    summary: 'The last 50 jobs',
    success: { status: 200, types: ['application/json'], description: '`jobs`, oldest first.' },
    handler: () => ({ json: { jobs: jobs.list() } }),
  },
  {
    method: 'GET',
    path: '/jobs/{id}',
    scope: 'read',
    summary: 'One job: state, phase, progress, result',
    params: { id: ID },
    problems: { 404: ['ERR_LAMEDUCK_OPS_NOT_FOUND'] },
    success: { status: 200, types: ['application/json'], description: 'The job. A failed one has its problem document in `problem`.' },
    handler({ params }) {
      const job = jobs.get(params.id as string)
      if (!job) throw noJob()
      return { json: job }
    },
  },
  {
    method: 'DELETE',
    path: '/jobs/{id}',
    scope: 'diag',
    summary: 'Cancel a job',
    description: 'It ends as soon as it can: not before the end of a pause that has begun.',
    params: { id: ID },
    problems: { 404: ['ERR_LAMEDUCK_OPS_NOT_FOUND'], 409: ['ERR_LAMEDUCK_OPS_ENDED'] },
    success: { status: 202, types: ['application/json'], description: 'The job.' },
    handler({ params, note }): Reply {
      const id = params.id as string
      note({ job: id })
      if (!jobs.get(id)) throw noJob()
      if (!jobs.cancel(id)) throw new Problem(409, 'ERR_LAMEDUCK_OPS_ENDED', 'the job has ended')
      return { status: 202, json: jobs.get(id) }
    },
  },
]

/** Whoever may not see its strings may not fetch it, nor take it away from others. */
function checkSecret(secret: boolean, { who }: Call): void {
  if (secret) needScope(who, 'secrets', 'the file holds live strings of the process: scope secrets is needed')
}

const artifacts = ({ artifacts, main }: Bench, tell = (news: DownloadNews) => main.tell('heap.download', news)): Route[] => [
  {
    method: 'GET',
    path: '/artifacts',
    scope: 'read',
    summary: 'The files that can be fetched',
    success: { status: 200, types: ['application/json'], description: '`artifacts`, oldest first, each with `name`, `bytes`, `sha256`, `secret`.' },
    handler: async () => ({ json: { artifacts: await artifacts.list() } }),
  },
  {
    method: 'GET',
    path: '/artifacts/{name}',
    scope: 'diag',
    summary: 'Download a file',
    description: [
      'A compressed one goes as `Content-Encoding: gzip` to a client that accepts that, and as `application/gzip` to others: the same bytes,',
      'to which `Content-Length` and `sha256` belong. One with `secret` needs scope `secrets`.',
    ].join('\n'),
    params: { name: NAME, once: flag('Delete it when all of it has been sent.', false) },
    problems: { 403: ['ERR_LAMEDUCK_OPS_SCOPE'], 404: ['ERR_LAMEDUCK_OPS_NOT_FOUND'], 503: ['ERR_LAMEDUCK_OPS_AUDIT'] },
    success: { status: 200, types: ['application/json', 'application/gzip', 'application/octet-stream'], description: 'The file.' },
    async handler(call) {
      const found = await artifacts.open(call.params.name as string)
      if (!found) throw noFile()
      const { artifact: { name, secret }, artifact, file } = found
      // Somebody is refused, or asks for the head alone: not a download that somebody could wait for.
      let [begun, complete] = [false, false]
      try {
        checkSecret(secret, call)
        call.note({ artifact: name })
        begun = call.req.method === 'GET'
        if (begun) tell({ name, what: 'begun' })
        // The answer to a HEAD is complete without a byte of the file.
        complete = await send(file, artifact, call) && begun
        if (complete && call.params.once === true) await artifacts.delete(name)
      } finally {
        if (begun) tell({ name, what: complete ? 'whole' : 'broken' })
        await file.close()
      }
      return undefined
    },
  },
  {
    method: 'DELETE',
    path: '/artifacts/{name}',
    scope: 'diag',
    summary: 'Delete a file',
    params: { name: NAME },
    problems: { 403: ['ERR_LAMEDUCK_OPS_SCOPE'], 404: ['ERR_LAMEDUCK_OPS_NOT_FOUND'], 503: ['ERR_LAMEDUCK_OPS_AUDIT'] },
    success: { status: 204, types: [], description: 'It is gone.' },
    async handler(call) {
      const found = await artifacts.get(call.params.name as string)
      if (!found) throw noFile()
      checkSecret(found.artifact.secret, call)
      call.note({ artifact: found.artifact.name })
      await artifacts.delete(found.artifact.name)
      tell({ name: found.artifact.name, what: 'whole' })
      return { status: 204 }
    },
  },
]

/** Heap snapshots, jobs and files. */
export const heapPart: Part = bench => {
  const { route, close } = estimate(bench)
  return { routes: [route, snapshots(bench), ...jobs(bench), ...artifacts(bench)], close }
}
